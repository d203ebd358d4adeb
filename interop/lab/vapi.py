#!/usr/bin/env python3
"""One request over the Veilid JSON API: vapi.py SOCK '{"op":"GetState"}' prints the response's value.

The word "state" alone prints one line about the attachment; anything else without a '{' is sent as a debug command:
vapi.py SOCK nodeinfo"""
import json
import socket
import sys


def call(path, request, timeout=200):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall((json.dumps({"id": 1, **request}) + "\n").encode())
        for line in s.makefile():
            msg = json.loads(line)
            if msg["type"] == "Response" and msg["id"] == 1:
                if "error" in msg:
                    raise SystemExit(json.dumps(msg["error"]))
                return msg.get("value")
    raise SystemExit("the node closed the connection")


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    path, words = sys.argv[1], " ".join(sys.argv[2:])
    try:
        if words == "state":
            a = call(path, {"op": "GetState"}, 10)["attachment"]
            ready = "ready" if a["public_internet_ready"] else "not-ready"
            print(a["state"], ready, "peers", a["reliable_peer_count"] + "/" + a["live_peer_count"])
            return
        out = call(path, json.loads(words) if words.startswith("{") else {"op": "Debug", "command": words})
    except OSError as e:
        raise SystemExit(f"{path}: {e}")
    print(out if isinstance(out, str) else json.dumps(out, indent=1))


if __name__ == "__main__":
    main()

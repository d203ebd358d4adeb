#!/bin/bash
# lab.sh: a real Veilid network of vnode processes on this machine, with no way out of it.
#
#   lab.sh check      say what this machine lacks for a lab; exit 0 if nothing
#   lab.sh vnode      print the path of the node program; unpack or build it first where needed
#   lab.sh up N       start node 1 (the bootstrap) and nodes 2..N, wait until all are ready
#   lab.sh hold N     the same without the wait, print "up", and take everything down at the end of standard input
#   lab.sh status     one line per node: pid, state, peers, RSS, JSON API socket
#   lab.sh start K    start node K: again with its old data after kill or stop, or anew in a slot of its own
#   lab.sh kill K     end node K at once (kill -9); its data and namespace stay
#   lab.sh stop K     end node K in good order (SIGTERM, 10 s); its data and namespace stay
#   lab.sh restart K  kill K, start K
#   lab.sh slot K     add an empty slot K (namespace vlabK, address 5.5.0.K) for a foreign node
#   lab.sh exec K CMD run CMD in slot K (its only way to reach the nodes)
#   lab.sh wan LINE   distance, loss, rate, outage of the links (see wan/): lab.sh wan all delay=40ms loss=1
#   lab.sh down       stop what this script started and delete the namespaces
#
# Each node has its own network namespace vlabK with the addresses 5.5.0.K and 2a05:5::K (veilid only treats
# "global" addresses as PublicInternet) and default routes to the router namespace vlab0, which only has routes
# to the slots: no packet can leave. JSON API unix sockets lie in $RUN/K/api.sock, usable from any namespace.
#
# As another user than root everything happens inside a user namespace, where the kernel allows one.
#
# Environment: VNODE (node program), RUN (folder of this lab), NS (prefix of its namespaces, for a second lab),
# EXTRA (flags for every node), EXTRA_K (flags for node K), WAIT (seconds for "up" to wait). The node program is, in this order: $VNODE; a
# vnode.xz for linux/amd64 in ../shared/lab/bin beside the checkout; a release build of vnode/ by cargo. The last
# two are kept in the cache folder. "down" touches only what is recorded in $RUN.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
RUN=${RUN:-${TMPDIR:-/tmp}/dweb-lab}
NS=${NS:-vlab}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dweb-lab
PROGRAM= # the node, once found
PATH=$PATH:/usr/sbin:/sbin # iproute2 lives there, and is not on every user's path

# Lab-only keys (veilid debug command "keypair"). Node 1 has a fixed identity so that its signed
# bootstrap record (format 1, signed over everything before the signature) can be a constant.
BOOT_PUB=VLD0:VI1KtceL-LE5vmc2rYqk4-3Ucl8onrv0hPVK9Wft6Vc
BOOT_SECRET=VLD0:GydzhgaNP8b5hek6YRxsumBc1WGDttdjdZJu04ncOxU
SIGN_PUB=VLD0:_kVLXlRRlTdKaAPDx5T2QCQiRU3vqyBimjr1C6u4BI8
RECORD="1|0|$BOOT_PUB|5.5.0.1|U5150,T5150,W5150/ws|1700000000|VLD0:ByY0-b5nIN_f6Pz9hLVbFQM3_me6fWm6ctGUSnPTY09zx8-Il18LWTyieIOvAB9bMyiKq48LL9wMSQ2uWglVAw"

die() {
    echo "lab: $*" >&2
    exit 1
}

# --- what the machine must have ---

shared_vnode() { # the packed node beside the checkout, if it runs here
    local xz=$TOP/../shared/lab/bin/vnode.xz
    [ "$(uname -sm)" = "Linux x86_64" ] && [ -f "$xz" ] && echo "$xz"
}

own_netns() { unshare --net --mount true 2>/dev/null; }

check() { # print what is missing, one line each; fail if anything is
    local missing=() packages=() tool
    [ "$(uname -s)" = Linux ] || die "needs Linux: network namespaces"
    for tool in ip:iproute2 python3:python3 unshare:util-linux nsenter:util-linux setsid:util-linux flock:util-linux; do
        command -v "${tool%:*}" >/dev/null || packages+=("${tool#*:}")
    done
    if [ -n "${VNODE:-}" ]; then
        [ -x "$VNODE" ] || missing+=("VNODE=$VNODE is not a program")
    elif shared_vnode >/dev/null; then
        command -v xz >/dev/null || packages+=(xz-utils)
    elif [ ! -x "$CACHE/target/release/vnode" ] && ! command -v cargo >/dev/null; then
        missing+=("no node: set VNODE to one, or install Rust (cargo) so that $HERE/vnode can be built")
    fi
    command -v go >/dev/null || missing+=("no Go tool chain: the link emulator needs it")
    if [ ${#packages[@]} -gt 0 ]; then
        missing+=("not installed: apt-get install $(printf '%s\n' "${packages[@]}" | sort -u | tr '\n' ' ')")
    elif ! own_netns && ! unshare --user --map-root-user --net --mount true 2>/dev/null; then
        missing+=("no network namespaces: run as root, or allow users their own (sysctl user.max_user_namespaces, and kernel.apparmor_restrict_unprivileged_userns=0 where that exists)")
    fi
    [ ${#missing[@]} -eq 0 ] || {
        printf 'lab: %s\n' "${missing[@]}" >&2
        return 1
    }
}

find_vnode() { # print the path of the node program
    local xz sum out
    if [ -n "${VNODE:-}" ]; then
        [ -x "$VNODE" ] || die "VNODE=$VNODE is not a program"
        echo "$VNODE"
        return
    fi
    mkdir -p "$CACHE"
    if xz=$(shared_vnode); then
        sum=$(sha256sum "$xz")
        out=$CACHE/vnode-${sum:0:16} # by content: a newer one beside another checkout never mixes with it
        if [ ! -x "$out" ]; then
            xz -dc "$xz" >"$out.$$"
            chmod +x "$out.$$"
            mv "$out.$$" "$out"
        fi
    else
        out=$CACHE/target/release/vnode
        (
            flock 9 # a second lab waits for the first one's build
            [ "$out" -nt "$HERE/vnode/src/main.rs" ] && [ "$out" -nt "$HERE/vnode/Cargo.toml" ] && exit
            command -v cargo >/dev/null || die "no node: set VNODE to one, or install Rust (cargo) so that $HERE/vnode can be built"
            echo "lab: building the node once, which takes 10 to 15 minutes on two cores" >&2
            CARGO_TARGET_DIR=$CACHE/target cargo build --release --manifest-path "$HERE/vnode/Cargo.toml" >&2
            touch "$out" # cargo leaves an up-to-date program's time alone
        ) 9>"$CACHE/build.lock"
    fi
    echo "$out"
}

# --- a place where namespaces may be made ---

# enter CMD...: go on as we are if we may make namespaces; else run this script again in the lab's user namespace,
# which a sleeping process holds open between the calls.
enter() {
    local pid birth
    if [ -n "${LAB_INSIDE:-}" ] || own_netns; then return; fi
    if [ ! -f "$RUN/holder" ]; then
        case $1 in
        up | hold) ;;
        *) return ;; # nothing is up
        esac
        mkdir -p "$RUN"
        # shellcheck disable=SC2016
        setsid unshare --user --map-root-user --net --mount bash -c '
            dir=/run/netns; [ -d $dir ] || dir=/run
            mount -t tmpfs tmpfs $dir && mkdir -p /run/netns && touch "$0" && exec sleep infinity' \
            "$RUN/holder.ready" </dev/null >"$RUN/holder.log" 2>&1 &
        pid=$!
        echo "$pid $(born $pid)" >"$RUN/holder"
        for _ in $(seq 250); do
            [ ! -e "$RUN/holder.ready" ] || break
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.02
        done
        [ -e "$RUN/holder.ready" ] || {
            cat "$RUN/holder.log" >&2
            rm -f "$RUN/holder"
            die "cannot set up a user namespace: run as root"
        }
    fi
    read -r pid birth <"$RUN/holder"
    if [ "$(born "$pid")" != "$birth" ]; then
        rm -rf "$RUN/holder" "$RUN/namespaces" # its namespaces died with it
        return
    fi
    LAB_INSIDE=1 exec nsenter --target "$pid" --user --preserve-credentials --net --mount --wd="$PWD" -- \
        bash "${BASH_SOURCE[0]}" "$@"
}

born() { # PID: its start time, which tells it from a later process that got the same pid
    { sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; } 2>/dev/null || true
}

alive() { # FILE: whether the process recorded in a pid file still runs
    local pid birth
    [ -f "$1" ] && read -r pid birth <"$1" && [ -n "$birth" ] && [ "$(born "$pid")" = "$birth" ] &&
        ! grep -q ') Z ' "/proc/$pid/stat" 2>/dev/null
}

gone() { # SECONDS FILE: wait until the process recorded in a pid file has ended
    for _ in $(seq $(($1 * 20))); do
        alive "$2" || return 0
        sleep 0.05
    done
    return 1
}

signal() { # SIGNAL FILE
    local pid
    read -r pid _ <"$2"
    kill "-$1" "$pid" 2>/dev/null || true
}

# --- namespaces ---

netns() { # NAME: a new namespace, recorded first, so that "down" deletes it and no other whatever happens here
    [ ! -e "/run/netns/$1" ] || die "namespace $1 exists: another lab uses the prefix $NS; set NS to another one"
    echo "$1" >>"$RUN/namespaces"
    ip netns add "$1"
    ip -n "$1" link set lo up
}

within() { nsenter --net="/run/netns/$NS$1" "${@:2}"; } # K CMD: run CMD in slot K

number() { # K: refuse what is no slot
    [[ ${1:-} =~ ^[1-9][0-9]?[0-9]?$ ]] && [ "$1" -le 254 ] || die "want a slot number from 1 to 254, have '${1:-}'"
}

need_up() { [ -f "$RUN/namespaces" ] || die "no lab is up in $RUN"; }

slot() { # K: a namespace with its own addresses, connected to the router
    local k=$1 here=$NS$1 router=${NS}0
    netns "$here"
    ip -n "$here" link add v type veth peer name "v$k" netns "$router"
    ip -n "$here" link set v up
    ip -n "$here" addr add "5.5.0.$k/32" dev v
    ip -n "$here" addr add "2a05:5::$k/128" dev v nodad
    ip -n "$here" route add default via 5.5.255.1 dev v onlink
    ip -n "$here" route add default via fe80::1 dev v
    ip -n "$router" link set "v$k" up
    ip -n "$router" addr add fe80::1/64 dev "v$k" nodad
    ip -n "$router" route add "5.5.0.$k" dev "v$k"
    ip -n "$router" route add "2a05:5::$k" dev "v$k"
}

router() {
    [ ! -e "$RUN/namespaces" ] || die "already up: $RUN"
    mkdir -p "$RUN"
    netns "${NS}0"
    ip -n "${NS}0" addr add 5.5.255.1/32 dev lo
    within 0 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
}

# --- nodes ---

start() { # K: start node K, in a new slot if it has none, with the data it has
    local k=$1 dir=$RUN/$1 flags program own=EXTRA_$1
    ! alive "$dir/pid" || die "node $k is running"
    grep -qx "$NS$k" "$RUN/namespaces" || slot "$k"
    program=${PROGRAM:=$(find_vnode)}
    mkdir -p "$dir"
    rm -f "$dir/api.sock" # a killed node leaves it behind
    if [ "$k" = 1 ]; then
        flags=(--identity "$BOOT_PUB" "$BOOT_SECRET" --bootstrap-record "$RECORD")
    else
        flags=(--bootstrap udp://5.5.0.1:5150)
    fi
    # shellcheck disable=SC2086
    setsid nsenter --net="/run/netns/$NS$k" "$program" --dir "$dir" --listen :5150 --api "$dir/api.sock" \
        --bootstrap-key "$SIGN_PUB" "${flags[@]}" ${EXTRA:-} ${!own:-} </dev/null >>"$dir/log" 2>&1 &
    echo "$! $(born $!)" >"$dir/pid"
    disown # or the shell says at its end how the node ended
}

end() { # SIGNAL K: end node K; what it stored stays
    alive "$RUN/$2/pid" || die "node $2 is not running"
    signal "$1" "$RUN/$2/pid"
    gone 10 "$RUN/$2/pid" || {
        signal KILL "$RUN/$2/pid"
        gone 10 "$RUN/$2/pid" || die "node $2 does not end"
    }
    rm -f "$RUN/$2/api.sock"
}

nodes() { # N: start nodes 1..N
    local k
    for k in $(seq "$1"); do start "$k"; done
}

ready() { # K: wait until node K is attached and ready on the public internet domain
    for _ in $(seq 100); do
        [ ! -S "$RUN/$1/api.sock" ] || break
        sleep 0.1
    done
    "$HERE/vapi.py" "$RUN/$1/api.sock" '{"op":"WaitForAttachmentCondition","condition":null,"timeout_ms":'"${WAIT:-90}"'000}' >/dev/null
}

status() {
    local dir k pid
    for dir in "$RUN"/[0-9]*; do
        [ -f "$dir/pid" ] || continue
        k=${dir##*/}
        read -r pid _ <"$dir/pid"
        if alive "$dir/pid"; then
            echo "node $k pid $pid rss $(awk '/VmRSS/{print int($2/1024)"M"}' "/proc/$pid/status")" \
                "$("$HERE/vapi.py" "$dir/api.sock" state)" "$dir/api.sock"
        else
            echo "node $k dead"
        fi
    done
}

# --- links ---

wan() { # WORDS: send one line to the link emulator; the first one starts it and turns all traffic through it
    local dir=$RUN/wan before family out
    mkdir -p "$dir"
    exec 9>"$dir/lock"
    flock 9 # one line and its answer at a time
    if ! alive "$dir/pid"; then
        (cd "$TOP" && CGO_ENABLED=0 go build -buildvcs=false -o "$dir/wan" ./interop/lab/wan)
        rm -f "$dir/in"
        mkfifo "$dir/in"
        [ -r /dev/net/tun ] && [ -w /dev/net/tun ] ||
            die "/dev/net/tun is missing or not ours to use: modprobe tun, chmod 666 /dev/net/tun, or run as root"
        if ! ip -n "${NS}0" link show wan0 >/dev/null 2>&1; then
            ip -n "${NS}0" tuntap add wan0 mode tun
            ip -n "${NS}0" link set wan0 up
            for family in -4 -6; do
                ip -n "${NS}0" $family rule add pref 10 iif wan0 lookup main
                ip -n "${NS}0" $family rule add pref 11 iif lo lookup main
                ip -n "${NS}0" $family rule add pref 12 lookup 100
                ip -n "${NS}0" $family route add default dev wan0 table 100
            done
        fi
        setsid nsenter --net="/run/netns/${NS}0" "$dir/wan" wan0 <>"$dir/in" >"$dir/out" 2>&1 9>&- &
        echo "$! $(born $!)" >"$dir/pid"
        disown
    fi
    before=$(wc -l <"$dir/out")
    echo "$*" >"$dir/in"
    for _ in $(seq 500); do
        [ "$(wc -l <"$dir/out")" -gt "$before" ] && break
        alive "$dir/pid" || break
        sleep 0.02
    done
    out=$(tail -n +$((before + 1)) "$dir/out")
    [ -n "$out" ] || die "the link emulator gives no answer"
    case $out in
    error* | open* | read*) die "wan: $out" ;;
    esac
    echo "$out"
}

# --- the end ---

down() {
    local f ns files=() pid
    for f in "$RUN"/[0-9]*/pid "$RUN"/wan/pid; do
        if alive "$f"; then
            signal TERM "$f"
            files+=("$f")
        fi
    done
    for f in ${files[@]+"${files[@]}"}; do gone 10 "$f" || signal KILL "$f"; done
    if [ -f "$RUN/namespaces" ]; then
        while read -r ns; do
            [ -e "/run/netns/$ns" ] || continue
            for pid in $(ip netns pids "$ns"); do # foreign nodes left behind in a slot
                kill -9 "$pid" 2>/dev/null || true
            done
            ip netns del "$ns" || true
        done <"$RUN/namespaces"
        rm -f "$RUN/namespaces"
    fi
    if alive "$RUN/holder"; then signal KILL "$RUN/holder"; fi
    rm -rf "$RUN"/[0-9]* "$RUN/wan" "$RUN"/holder*
    rmdir "$RUN" 2>/dev/null || true
}

case ${1:-} in
check | vnode) ;;
up | hold | start | kill | stop | restart | slot | exec | wan | status | down)
    case $1 in up | hold) check ;; esac
    enter "$@"
    ;;
esac

case ${1:-} in
check) check ;;
vnode) find_vnode ;;
up)
    number "${2:-}"
    trap 'down' EXIT
    router
    nodes "$2"
    trap - EXIT
    for k in $(seq "$2"); do (ready "$k" || echo "node $k is not ready" >&2) & done
    wait
    status
    ;;
hold)
    number "${2:-}"
    trap 'down' EXIT
    trap 'exit 143' TERM INT HUP
    router
    nodes "$2"
    echo up
    cat >/dev/null # ends with whoever holds the other end, however that ends
    ;;
status) status ;;
start | kill | stop | restart)
    number "${2:-}"
    need_up
    case $1 in
    kill | restart) end KILL "$2" ;;
    stop) end TERM "$2" ;;
    esac
    case $1 in start | restart) start "$2" ;; esac
    ;;
slot)
    number "${2:-}"
    need_up
    slot "$2"
    ;;
exec)
    number "${2:-}"
    need_up
    exec nsenter --net="/run/netns/$NS$2" "${@:3}"
    ;;
wan)
    need_up
    wan "${@:2}"
    ;;
down) down ;;
*)
    sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

// Command wan gives the lab's links a distance: delay, jitter, loss, duplicates, reordering, a rate, an outage.
// It stands in for tc netem, which not every kernel has.
//
//	wan TUN            runs in the router namespace; reads commands from standard input, one per line
//
// The router sends every packet between slots through TUN; wan holds it back and gives it back to the router.
// A packet crosses two links, its sender's and its receiver's, and suffers both profiles in turn.
//
//	all  delay=40ms jitter=5ms loss=1
//	20   rate=128kbit loss=5 dup=0.5 reorder=2
//	21   down | up
//	stats
//
// delay and jitter are durations each way; loss, dup, reorder are per cent; rate is kbit or mbit each way, with a
// queue of 256 KiB. A line sets what it names and leaves the rest; 0 takes a setting back. SLOT is the K of lab.sh.
// Every line is answered by one: ok, figures, or what is wrong with it.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: wan TUN")
	}
	tun, err := openTun(os.Args[1])
	if err != nil {
		log.Fatalf("open %s: %v", os.Args[1], err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e := newEmulator(tun)
	go read(e, tun)
	go e.deliver(ctx)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(e.answer(in.Text()))
	}
}

// read ends the program when the device goes, which is when its namespace goes.
func read(e *emulator, tun *os.File) {
	buf := make([]byte, 65536)
	for {
		n, err := tun.Read(buf)
		if err != nil {
			log.Fatalf("read: %v", err)
		}
		e.send(append([]byte(nil), buf[:n]...), time.Now())
	}
}

// openTun attaches to the TUN device name, which must exist and be up.
func openTun(name string) (*os.File, error) {
	const tunSetIff, iffTun, iffNoPi = 0x400454ca, 0x0001, 0x1000 // linux/if_tun.h
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var req [40]byte // struct ifreq
	copy(req[:15], name)
	*(*uint16)(unsafe.Pointer(&req[16])) = iffTun | iffNoPi
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), tunSetIff, uintptr(unsafe.Pointer(&req))); e != 0 {
		_ = syscall.Close(fd)
		return nil, e
	}
	return os.NewFile(uintptr(fd), name), nil
}

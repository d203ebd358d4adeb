//go:build unix

package lab

import (
	"os/exec"
	"syscall"
)

// ownSession keeps a terminal's interrupt away from cmd: we tell it ourselves when to end.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// interrupt asks cmd and what it waits for to end.
func interrupt(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

//go:build !unix

package remote

import "os/exec"

func ownGroup(*exec.Cmd) {}

// endGroup ends the process by force: there is no way to ask it.
func endGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

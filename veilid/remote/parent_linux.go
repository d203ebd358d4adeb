package remote

import "syscall"

// dieWithParent lets the kernel end the process when we are killed: nobody would end it otherwise.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }

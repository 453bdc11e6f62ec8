package main

import "syscall"

// childAttributes have the kernel kill a child process when this one dies, however it dies, and keep the terminal's
// Ctrl-C away from the child: this process tells it when to end.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

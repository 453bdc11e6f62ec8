//go:build !linux && unix

package main

import "syscall"

// childAttributes keep the terminal's Ctrl-C away from the child: this process tells it when to end.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

package openai

import (
	"os/exec"
	"syscall"
)

// bindLife makes the system end the child when this process dies, however it dies.
func bindLife(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

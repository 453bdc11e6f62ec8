//go:build !linux

package openai

import "os/exec"

// bindLife has nothing to offer here: a child outlives a parent that is killed.
func bindLife(*exec.Cmd) {}

//go:build !amd64 || !cgo

package kernels

// ISA is the instruction set that the kernels use: none here.
func ISA() string { return "" }

// Baseline reports whether ggml's own code lacks the vector instructions it could have.
func Baseline() bool { return false }

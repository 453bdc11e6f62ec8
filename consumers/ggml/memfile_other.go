//go:build !linux

package ggml

import "os"

// memoryFile falls back to a temporary file where there are no files in memory.
func memoryFile(b []byte) (*os.File, string, error) {
	f, err := os.CreateTemp("", "model-*.gguf")
	if err != nil {
		return nil, "", err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, "", err
	}
	return f, f.Name(), nil
}

// removeFile deletes it after loading.
func removeFile(path string) { os.Remove(path) }

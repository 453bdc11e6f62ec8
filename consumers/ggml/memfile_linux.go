package ggml

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile makes a file that exists in memory only, for as long as it is open. ggml opens it by its path again.
func memoryFile(b []byte) (*os.File, string, error) {
	fd, err := unix.MemfdCreate("model", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, "", err
	}
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	f := os.NewFile(uintptr(fd), path)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, "", err
	}
	return f, path, nil
}

// removeFile has nothing to do: closing the file removes it.
func removeFile(string) {}

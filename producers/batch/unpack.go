package batch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/cocoon-network/cocoon/schemas"
)

// maxWindow bounds the memory that a zstd input can demand. zstd's own levels stay at or below 8 MiB; --long does not.
const maxWindow = 32 << 20

// source is an input with its packing taken off.
type source struct {
	io.Reader
	// name is the packing, empty for none.
	name string
	// done frees the unpacker.
	done func()
}

// unpack tells gzip and zstd from plain text by the first bytes.
func unpack(src io.Reader) (*source, error) {
	b := bufio.NewReaderSize(src, 64<<10)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read input: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fatal(issue(CodeCompression, 1, "", "is not readable as gzip: "+err.Error()))
		}
		return &source{Reader: z, name: "gzip", done: func() {}}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fatal(issue(CodeCompression, 1, "", "is not readable as zstd: "+err.Error()))
		}
		return &source{Reader: z, name: "zstd", done: z.Close}, nil
	}
	return &source{Reader: b, done: func() {}}, nil
}

// counter bounds what may come out of a source: a bomb ends here, whatever its size on disk.
type counter struct {
	src   *source
	limit int64
	n     int64
}

// Read counts.
func (c *counter) Read(p []byte) (int, error) {
	if c.n > c.limit {
		i := issue(CodeFileTooLarge, 0, "", fmt.Sprintf("is larger than %d bytes", c.limit))
		i.Kind = schemas.KindTooLarge
		return 0, i
	}
	n, err := c.src.Read(p)
	c.n += int64(n)
	return n, err
}

// packed reports whether the input is compressed.
func (c *counter) packed() bool { return c.src.name != "" }

// close frees the unpacker.
func (c *counter) close() { c.src.done() }

package tonnet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cocoon-network/cocoon/schemas"
)

// medium is what a block log lies on: a file, or memory.
type medium interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

// memory is a medium that lives as long as the network.
type memory struct{ data []byte }

// ReadAt is that of io.ReaderAt.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt appends; a log never writes anywhere else.
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.data = append(m.data[:off], p...)
	return len(p), nil
}

// Truncate shortens.
func (m *memory) Truncate(size int64) error { m.data = m.data[:size]; return nil }

// Sync has nothing to do.
func (m *memory) Sync() error { return nil }

// Close has nothing to do.
func (m *memory) Close() error { return nil }

// blockLog is the append-only list of all blocks.
type blockLog struct {
	on   medium
	sync bool
	size int64
}

// openLog reads the headers of all records and calls each with its place. A torn record at the end, which nobody can
// have seen as it was never whole, is cut off.
func openLog(on medium, sync bool, each func(h header, off int64) error) (*blockLog, error) {
	l := &blockLog{on: on, sync: sync}
	buf := make([]byte, headerSize)
	for {
		n, err := on.ReadAt(buf, l.size)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("tonnet: block log: %w", err)
		}
		if n == 0 {
			return l, nil
		}
		h, err := parseHeader(buf[:n])
		switch {
		case err == nil:
			err = l.whole(h)
		case errors.Is(err, errNoRecord) && l.blank(l.size+headerSize):
			// A file system may store a file's length and not its last pages.
			err = errTorn
		}
		if errors.Is(err, errTorn) {
			return l, l.cut()
		}
		if err != nil {
			return nil, err
		}
		if err = each(h, l.size); err != nil {
			return nil, err
		}
		l.size += h.size()
	}
}

// whole tells a record that ends within the log from a torn one. Only the last record can be torn, so only where
// nothing follows is the checksum worth reading everything.
func (l *blockLog) whole(h header) error {
	end := l.size + h.size()
	one := make([]byte, 1)
	if _, err := l.on.ReadAt(one, end-1); err != nil {
		return errTorn
	}
	if _, err := l.on.ReadAt(one, end); err == nil {
		return nil
	}
	_, err := l.read(l.size, h.size())
	return err
}

// blank reports whether there are only zeros from a place to the end.
func (l *blockLog) blank(from int64) bool {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.on.ReadAt(buf, from)
		if bytes.Count(buf[:n], []byte{0}) != n {
			return false
		}
		if from += int64(n); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// cut removes what lies behind the last whole record.
func (l *blockLog) cut() error {
	if err := l.on.Truncate(l.size); err != nil {
		return fmt.Errorf("tonnet: block log: %w", err)
	}
	return nil
}

// append writes a record at the end and says where. After an error the log is as before.
func (l *blockLog) append(r *record) (off int64, size int64, err error) {
	b := r.encode()
	_, err = l.on.WriteAt(b, l.size)
	if err == nil && l.sync {
		err = l.on.Sync()
	}
	if err != nil {
		return 0, 0, errors.Join(schemas.Errorf(schemas.KindUnavailable, "tonnet: block log: %w", err), l.cut())
	}
	off = l.size
	l.size += int64(len(b))
	return off, int64(len(b)), nil
}

// read reads the record at off.
func (l *blockLog) read(off, size int64) (*record, error) {
	b := make([]byte, size)
	if _, err := l.on.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("tonnet: block log: %w", err)
	}
	return parseRecord(b)
}

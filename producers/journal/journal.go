// Package journal is an append-only file of records that survives kill -9 at any moment.
//
// Start with [Open]: it reads back every whole record, cuts off a torn one at the end, and gives a [Journal] to append
// to. [Journal.Append] returns when the records are on disk (fsync), so whatever is done after it may rely on them.
// [Rewrite] replaces a file by a shorter one with the same meaning, atomically.
//
// A file starts with a line that names its form, so that a reader never takes one kind of journal for another. A record
// is a 32-bit big-endian length, the CRC-32C of these four bytes, the CRC-32C of the payload, and the payload. Only the
// end of the file can be torn, and only because the process died inside Append, which therefore never returned: cutting
// it off loses nothing that anybody was told. The length has a checksum of its own so that a damaged length in the
// middle is not taken for a torn end. Damage anywhere else is KindCorrupt and changes nothing on disk.
//
// One process at a time: the file is locked while it is open, and a second Open is KindBusy.
package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// MaxRecord bounds the payload of a record in bytes.
const MaxRecord = 128 << 20

// headSize is the size of what stands before a payload.
const headSize = 12

// table is the polynomial of iSCSI, which processors compute.
var table = crc32.MakeTable(crc32.Castagnoli)

// Journal is an open file. It is safe for concurrent use.
type Journal struct {
	mu   sync.Mutex // guards the fields below: appended records never interleave
	file *os.File
	size int64
	err  error // after a failed write the end of the file is unknown
}

// Open opens or makes the journal at path, gives every record in it to replay, in order, and leaves it ready to append.
// The payload passed to replay is good until it returns; an error of replay ends Open.
func Open(path, form string, replay func(payload []byte) error) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{file: f}
	if err := j.load(form, replay); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// Read gives every whole record of a journal to replay without changing or locking it; another process may be
// appending meanwhile. KindNotFound: there is none.
func Read(path, form string, replay func(payload []byte) error) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &schemas.Error{Kind: schemas.KindNotFound, Field: filepath.Base(path), Message: "does not exist", Err: err}
	}
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	start, _, err := readForm(f, form)
	if err != nil || start == 0 {
		return err
	}
	_, err = read(f, start, replay)
	return err
}

// readForm reads the first line and returns where the records start, 0 when the line is not whole yet.
func readForm(f *os.File, form string) (start int64, head string, err error) {
	head = form + "\n"
	first := make([]byte, len(head))
	n, err := io.ReadFull(f, first)
	switch {
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		return 0, head, fmt.Errorf("read journal: %w", err)
	case head[:n] != string(first[:n]):
		return 0, head, corrupt(f.Name(), "is not a "+form)
	case n < len(head):
		return 0, head, nil
	}
	return int64(n), head, nil
}

// load locks the file and reads it back.
func (j *Journal) load(form string, replay func([]byte) error) error {
	if err := lock(j.file); err != nil {
		return &schemas.Error{Kind: schemas.KindBusy, Field: j.file.Name(), Message: "is in use by another process", Err: err}
	}
	start, head, err := readForm(j.file, form)
	if err != nil {
		return err
	}
	if start == 0 { // new, or the process died while making it: nothing was recorded yet
		if _, err := j.file.WriteAt([]byte(head), 0); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
		return j.start(int64(len(head)))
	}
	end, err := read(j.file, start, replay)
	if err != nil {
		return err
	}
	return j.start(end)
}

// start cuts the file behind the last whole record.
func (j *Journal) start(end int64) error {
	if err := j.file.Truncate(end); err != nil {
		return fmt.Errorf("cut journal: %w", err)
	}
	if _, err := j.file.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("seek journal: %w", err)
	}
	j.size = end
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return syncDir(j.file.Name())
}

// read gives every whole record behind offset to replay and returns where the last one ends.
func read(f *os.File, offset int64, replay func([]byte) error) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	r := bufio.NewReaderSize(f, 1<<20)
	var head [headSize]byte
	var payload []byte
	for {
		if _, err := io.ReadFull(r, head[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
			return offset, nil
		} else if err != nil {
			return 0, fmt.Errorf("read journal: %w", err)
		}
		size := int64(binary.BigEndian.Uint32(head[:]))
		if crc32.Checksum(head[:4], table) != binary.BigEndian.Uint32(head[4:]) || size > MaxRecord {
			return 0, corrupt(f.Name(), fmt.Sprintf("has a damaged record at %d", offset))
		}
		end := offset + headSize + size
		if end > info.Size() {
			return offset, nil
		}
		if int64(cap(payload)) < size {
			payload = make([]byte, size)
		}
		payload = payload[:size]
		if _, err := io.ReadFull(r, payload); err != nil {
			return 0, fmt.Errorf("read journal: %w", err)
		}
		if crc32.Checksum(payload, table) != binary.BigEndian.Uint32(head[8:]) {
			if end == info.Size() {
				return offset, nil // pages of a torn append may reach the disk in any order
			}
			return 0, corrupt(f.Name(), fmt.Sprintf("has a damaged record at %d", offset))
		}
		if err := replay(payload); err != nil {
			return 0, err
		}
		offset = end
	}
}

// corrupt is a KindCorrupt error about a file.
func corrupt(name, message string) error {
	return &schemas.Error{Kind: schemas.KindCorrupt, Field: filepath.Base(name), Message: message}
}

// Append writes records and returns when they are on disk. After an error nothing more is appended: what is on disk is
// known again after the next Open.
func (j *Journal) Append(payloads ...[]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(payloads); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return j.fail(err)
	}
	return nil
}

// Write appends records without waiting for the disk: they survive the death of the process, not of the machine, until
// the next Append.
func (j *Journal) Write(payloads ...[]byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(payloads)
}

// write appends records in one write. The caller holds mu.
func (j *Journal) write(payloads [][]byte) error {
	if j.err != nil {
		return j.err
	}
	total := 0
	for _, p := range payloads {
		if len(p) > MaxRecord {
			return &schemas.Error{Kind: schemas.KindTooLarge, Field: "record", Message: "is longer than 128 MiB"}
		}
		total += headSize + len(p)
	}
	b := make([]byte, 0, total)
	for _, p := range payloads {
		at := len(b)
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:at+4], table))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(p, table))
		b = append(b, p...)
	}
	if _, err := j.file.Write(b); err != nil {
		return j.fail(err)
	}
	j.size += int64(total)
	return nil
}

// fail remembers that the end of the file is unknown.
func (j *Journal) fail(err error) error {
	j.err = fmt.Errorf("append to journal: %w", err)
	return j.err
}

// Size is the size of the file in bytes.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// Close lets go of the file. A second Close does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.err, os.ErrClosed) {
		return nil
	}
	j.err = os.ErrClosed
	return j.file.Close()
}

// Rewrite makes a journal at path that holds exactly the given records, replacing the one that is there, and opens it.
// The old one must be closed. A crash leaves either the old or the new one.
func Rewrite(path, form string, records func(append func(payload []byte) error) error) (*Journal, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("rewrite journal: %w", err)
	}
	j, err := Open(fresh, form, func([]byte) error { return nil })
	if err != nil {
		return nil, err
	}
	err = records(func(payload []byte) error { return j.Write(payload) })
	if err == nil {
		err = j.Append()
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDir(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite journal: %w", err), j.Close())
	}
	return j, nil
}

// syncDir makes the name of a new file durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

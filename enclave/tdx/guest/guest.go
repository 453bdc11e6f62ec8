package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-tdx-guest/client"

	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// The kernel's interfaces.
const (
	reports      = "/sys/kernel/config/tsm/report"
	measurements = "/sys/class/misc/tdx_guest/measurements"
	rtmrs        = "/sys/kernel/config/tsm/rtmrs"
	device       = "/dev/tdx_guest"
	// provider is what configfs-tsm calls TDX.
	provider = "tdx_guest"
)

// Options configure Open.
type Options struct {
	// Root is the folder below which the kernel's file systems lie. Default "/".
	Root string
	// Files replaces the file system below Root.
	Files Files
	// Device opens the ioctl interface where configfs-tsm is missing. Default: the device of this machine when Root is
	// "/" and Files is nil, otherwise none.
	Device func() (client.Device, error)
}

// TD is the trust domain that this process runs in. It is safe for concurrent use.
type TD struct {
	files  Files
	device func() (client.Device, error)

	// mu lets one register be extended at a time, so that the check after it sees one step.
	mu sync.Mutex
}

// Open finds the interfaces of a TDX guest. On any other machine it fails with KindUnsupported.
func Open(o Options) (*TD, error) {
	t := &TD{files: o.Files, device: o.Device}
	if o.Root == "" {
		o.Root = "/"
	}
	if t.files == nil {
		t.files = rooted{o.Root}
		if t.device == nil && o.Root == "/" {
			t.device = openDevice
		}
	}
	if !exists(t.files, reports) && (t.device == nil || !exists(t.files, device)) {
		return nil, unsupported("this machine is no TDX guest: neither %s nor %s is there", reports, device)
	}
	return t, nil
}

// openDevice opens the kernel's device.
func openDevice() (client.Device, error) { return client.OpenDevice() }

// Quote implements attest.TD.
func (t *TD) Quote(ctx context.Context, data [64]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := t.quote(data)
	if err != nil {
		return nil, err
	}
	raw = tdx.Trim(raw)
	got, err := tdx.ReadRegisters(raw)
	if err != nil {
		return nil, unavailable("quote", "the quote service made something that is no quote: %w", err)
	}
	if got.Data != data {
		return nil, unavailable("quote", "the quote service answered another request")
	}
	return raw, nil
}

// quote takes the better of the two ways.
func (t *TD) quote(data [64]byte) ([]byte, error) {
	if exists(t.files, reports) {
		return t.report(data)
	}
	d, err := t.device()
	if err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	defer d.Close()
	raw, err := client.GetRawQuote(d, data)
	if err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	return raw, nil
}

// report asks configfs-tsm. The entry is ours alone; its generation counts writes, so that a quote for somebody else's
// request is noticed.
func (t *TD) report(data [64]byte) (raw []byte, err error) {
	entry, err := t.files.MkdirTemp(reports, "cocoon-*")
	if err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	defer func() {
		if removed := t.files.Remove(entry); err == nil && removed != nil {
			raw, err = nil, unavailable("quote", "%w", removed)
		}
	}()
	before, err := t.generation(entry)
	if err != nil {
		return nil, err
	}
	if err := t.files.Write(path.Join(entry, "inblob"), data[:]); err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	if raw, err = t.files.Read(path.Join(entry, "outblob")); err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	name, err := t.files.Read(path.Join(entry, "provider"))
	if err != nil {
		return nil, unavailable("quote", "%w", err)
	}
	if got := strings.TrimSpace(string(name)); got != provider {
		return nil, unsupported("the reports of this machine are by %q, not by TDX", got)
	}
	after, err := t.generation(entry)
	if err != nil {
		return nil, err
	}
	if after != before+1 {
		return nil, unavailable("quote", "the report entry was written to by somebody else")
	}
	return raw, nil
}

// generation counts the writes to an entry.
func (t *TD) generation(entry string) (uint64, error) {
	b, err := t.files.Read(path.Join(entry, "generation"))
	if err != nil {
		return 0, unavailable("quote", "%w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, unavailable("quote", "%w", err)
	}
	return n, nil
}

// Extend implements attest.TD. Only RTMR3 may be extended.
//
// The register is hardware: once the write has been made, no crash undoes it, and the TD's boot log must account for it.
func (t *TD) Extend(ctx context.Context, index int, digest schemas.Measure) error {
	if index != 3 {
		return schemas.FieldError("rtmr", "only RTMR3 is ours to extend")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	register, err := t.register(index)
	if err != nil {
		return err
	}
	before, err := t.measure(register)
	if err != nil {
		return err
	}
	if err := t.files.Write(register, digest[:]); err != nil {
		return unavailable("rtmr", "%w", err)
	}
	after, err := t.measure(register)
	if err != nil {
		return err
	}
	if after != before.Extend(digest) {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "rtmr", Message: "the register was not extended by what was written: start this TD again"}
	}
	return nil
}

// register finds the file that extends a register.
func (t *TD) register(index int) (string, error) {
	file := fmt.Sprintf("%s/rtmr%d:sha384", measurements, index)
	if _, err := t.files.Read(file); err == nil {
		return file, nil
	}
	entries, err := t.files.List(rtmrs)
	if err != nil {
		return "", unsupported("this kernel cannot extend RTMR%d: neither %s nor %s is there", index, file, rtmrs)
	}
	want := strconv.Itoa(index)
	for _, name := range entries {
		entry := path.Join(rtmrs, name)
		if b, err := t.files.Read(path.Join(entry, "index")); err == nil && strings.TrimSpace(string(b)) == want {
			return path.Join(entry, "digest"), nil
		}
	}
	entry, err := t.files.MkdirTemp(rtmrs, "rtmr"+want+"-*")
	if err != nil {
		return "", unavailable("rtmr", "%w", err)
	}
	if err := t.files.Write(path.Join(entry, "index"), []byte(want)); err != nil {
		return "", unavailable("rtmr", "%w", err)
	}
	return path.Join(entry, "digest"), nil
}

// measure reads a register.
func (t *TD) measure(file string) (m schemas.Measure, err error) {
	b, err := t.files.Read(file)
	if err != nil {
		return m, unavailable("rtmr", "%w", err)
	}
	if len(b) != len(m) {
		return m, unavailable("rtmr", "has %d bytes, must have %d", len(b), len(m))
	}
	return schemas.Measure(b), nil
}

// readLimited reads a file of unknown size.
func readLimited(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("is longer than 64 KiB")
	}
	return b, err
}

// unavailable is a failure that may pass.
func unavailable(field, format string, args ...any) error {
	e := schemas.Errorf(schemas.KindUnavailable, format, args...)
	e.Field = field
	return e
}

// unsupported is a machine that cannot do it.
func unsupported(format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindUnsupported, Field: "tdx", Message: fmt.Sprintf(format, args...)}
}

package guest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tdx-guest/client"
	"github.com/google/go-tdx-guest/client/linuxabi"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx/guest"
	"github.com/cocoon-network/cocoon/schemas"
)

// kernel behaves like the kernel of a TDX guest on a simulated machine: it implements guest.Files.
type kernel struct {
	td *sim.TD

	mu      sync.Mutex
	entries map[string]*entry
	// old has the patched interface for registers instead of the one in sysfs.
	old bool
	// noReports has no configfs-tsm reports.
	noReports bool
	fault     func(path string) error
	provider  string
	padding   int
	lost      bool
	intruder  bool
	stale     bool
	removed   int
}

// entry is one folder of configfs.
type entry struct {
	in         []byte
	index      string
	generation int
}

const (
	reports = "/sys/kernel/config/tsm/report"
	rtmrs   = "/sys/kernel/config/tsm/rtmrs"
	sysfs   = "/sys/class/misc/tdx_guest/measurements/rtmr3:sha384"
)

func (k *kernel) MkdirTemp(dir, pattern string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if dir == reports && k.noReports || dir == rtmrs && !k.old {
		return "", fs.ErrNotExist
	}
	if k.entries == nil {
		k.entries = map[string]*entry{}
	}
	name := path.Join(dir, strings.ReplaceAll(pattern, "*", fmt.Sprint(len(k.entries))))
	k.entries[name] = &entry{}
	return name, nil
}

func (k *kernel) List(dir string) (names []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if dir == reports && !k.noReports || dir == rtmrs && k.old {
		for name := range k.entries {
			if path.Dir(name) == dir {
				names = append(names, path.Base(name))
			}
		}
		return names, nil
	}
	return nil, fs.ErrNotExist
}

func (k *kernel) Read(file string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		if err := k.fault(file); err != nil {
			return nil, err
		}
	}
	register := k.td.Registers().RTMR[3]
	if file == sysfs && !k.old {
		return register[:], nil
	}
	e := k.entries[path.Dir(file)]
	if e == nil {
		return nil, fs.ErrNotExist
	}
	switch path.Base(file) {
	case "generation":
		return fmt.Appendf(nil, "%d\n", e.generation), nil
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "outblob":
		if k.intruder {
			e.generation++
		}
		if k.stale {
			e.in = make([]byte, 64)
		}
		quote, err := k.td.Quote(context.Background(), [64]byte(e.in))
		return append(quote, make([]byte, k.padding)...), err
	case "index":
		return []byte(e.index + "\n"), nil
	case "digest":
		return register[:], nil
	}
	return nil, fs.ErrNotExist
}

func (k *kernel) Write(file string, b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[path.Dir(file)]
	switch {
	case file == sysfs && !k.old, e != nil && path.Base(file) == "digest":
		if k.lost {
			return nil
		}
		return k.td.Extend(context.Background(), 3, schemas.Measure(b))
	case e == nil:
		return fs.ErrNotExist
	case path.Base(file) == "inblob":
		e.in, e.generation = bytes.Clone(b), e.generation+1
	case path.Base(file) == "index":
		e.index = string(b)
	default:
		return fs.ErrPermission
	}
	return nil
}

func (k *kernel) Remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[name] == nil {
		return fs.ErrNotExist
	}
	k.removed++
	k.entries[name].in = nil
	return nil
}

// device behaves like /dev/tdx_guest: the report it makes is just the report data, which is all that quotes need here.
type device struct{ td *sim.TD }

func (d *device) Open(string) error { return nil }
func (d *device) Close() error      { return nil }
func (d *device) Ioctl(_ uintptr, argument any) (uintptr, error) {
	switch request := argument.(type) {
	case *linuxabi.TdxReportReq:
		copy(request.TdReport[:], request.ReportData[:])
		return 0, nil
	case *linuxabi.TdxQuoteReq:
		header := request.Buffer.(*linuxabi.TdxQuoteHdr)
		quote, err := d.td.Quote(context.Background(), [64]byte(header.Data[:64]))
		header.OutLen = uint32(copy(header.Data[:], quote))
		return 0, err
	}
	return 0, errors.New("unknown ioctl")
}

// launch starts a worker's TD with a kernel around it.
func launch(t *testing.T, w *attesttest.World) *kernel {
	t.Helper()
	td, err := w.Platform.Launch("host-1", sim.ImageRegisters(attesttest.WorkerImage))
	if err != nil {
		t.Fatal(err)
	}
	return &kernel{td: td, provider: "tdx_guest"}
}

// TestKernels boots and attests a machine through every interface, and has the production verifier admit it.
func TestKernels(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*kernel)
		device bool
	}{
		"sysfs registers":    {func(*kernel) {}, false},
		"patched registers":  {func(k *kernel) { k.old = true }, false},
		"padded quotes":      {func(k *kernel) { k.padding = 100 }, false},
		"device for quotes":  {func(k *kernel) { k.noReports = true }, true},
		"configfs preferred": {func(*kernel) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := attesttest.New(t)
			policy := w.Policy()
			policy.Measurements[0].MinGPUs = 0
			_, verifier := w.NewVerifier(t, w.Platform.Collateral(), policy)
			k := launch(t, w)
			c.change(k)
			o := guest.Options{Files: k}
			if c.device {
				o.Device = func() (client.Device, error) { return &device{k.td}, nil }
				k.fault = func(p string) error {
					if p == "/dev/tdx_guest" {
						return fs.ErrPermission // it is there, though nobody can read it
					}
					return nil
				}
			}
			td, err := guest.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			m, err := attest.Boot(context.Background(), attest.MachineOptions{
				TD: td, Config: sim.ImageConfig(attesttest.WorkerImage), PolicyRoot: w.Trust.Roots.Hash(), Models: []schemas.ModelID{attesttest.Model},
			})
			if err != nil {
				t.Fatal(err)
			}
			nonce := [32]byte{9}
			e := w.Attest(t, m, w.Claims(t, schemas.RoleWorker), nonce)
			if _, err := verifier.Verify(context.Background(), e, nonce); err != nil {
				t.Error(err)
			}
			if !k.noReports && k.removed == 0 {
				t.Error("the report entry was left behind")
			}
		})
	}
}

func TestBrokenKernels(t *testing.T) {
	t.Parallel()
	ctx, w := context.Background(), attesttest.New(t)
	quote := func(td *guest.TD) error { _, err := td.Quote(ctx, [64]byte{1}); return err }
	extend := func(td *guest.TD) error { return td.Extend(ctx, 3, schemas.Measure{1}) }
	for name, c := range map[string]struct {
		change func(*kernel)
		do     func(*guest.TD) error
		kind   schemas.Kind
	}{
		"quote service busy": {func(k *kernel) {
			k.fault = func(p string) error {
				if path.Base(p) == "outblob" {
					return errors.New("device or resource busy")
				}
				return nil
			}
		}, quote, schemas.KindUnavailable},
		"another provider":    {func(k *kernel) { k.provider = "sev_guest" }, quote, schemas.KindUnsupported},
		"entry shared":        {func(k *kernel) { k.intruder = true }, quote, schemas.KindUnavailable},
		"quote of another":    {func(k *kernel) { k.stale = true }, quote, schemas.KindUnavailable},
		"register not ours":   {func(*kernel) {}, func(td *guest.TD) error { return td.Extend(ctx, 2, schemas.Measure{1}) }, schemas.KindInvalid},
		"write had no effect": {func(k *kernel) { k.lost = true }, extend, schemas.KindCorrupt},
		"kernel cannot extend": {func(k *kernel) {
			k.fault = func(p string) error {
				if p == sysfs {
					return fs.ErrNotExist
				}
				return nil
			}
		}, extend, schemas.KindUnsupported},
	} {
		k := launch(t, w)
		c.change(k)
		td, err := guest.Open(guest.Options{Files: k})
		if err != nil {
			t.Fatal(name, err)
		}
		if err := c.do(td); schemas.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
}

// TestRooted runs the file access on a real folder, as far as ordinary files can play the kernel.
func TestRooted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := guest.Open(guest.Options{Root: root}); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("not a guest: %v", err)
	}
	for _, dir := range []string{reports, path.Dir(sysfs)} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(root, sysfs)
	if err := os.WriteFile(file, make([]byte, 48), 0o600); err != nil {
		t.Fatal(err)
	}
	td, err := guest.Open(guest.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	digest := schemas.Measure{1, 2, 3}
	// An ordinary file keeps what is written, where the kernel's would extend; that must be noticed.
	if err := td.Extend(context.Background(), 3, digest); schemas.KindOf(err) != schemas.KindCorrupt {
		t.Errorf("extend: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, digest[:]) {
		t.Errorf("written: %x, %v", b, err)
	}
	if _, err := td.Quote(context.Background(), [64]byte{}); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("quote: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(root, reports)); err != nil || len(left) != 0 {
		t.Errorf("entries left behind: %v, %v", left, err)
	}
}

package nvidia

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cocoon-network/cocoon/schemas"
)

// fakeLibrary is a management library whose answers tests set.
type fakeLibrary struct {
	state    State
	stateErr error
	devices  []Device
	listErr  error
}

func (f *fakeLibrary) State() (State, error)      { return f.state, f.stateErr }
func (f *fakeLibrary) Devices() ([]Device, error) { return f.devices, f.listErr }

// fakeDevice is a GPU that serves stored evidence.
type fakeDevice struct {
	name          string
	report, chain []byte
	err           error
	asked         [32]byte
}

func (f *fakeDevice) Name() (string, error) { return f.name, nil }
func (f *fakeDevice) Report(nonce [32]byte) ([]byte, error) {
	f.asked = nonce
	return f.report, f.err
}
func (f *fakeDevice) Chain() ([]byte, error) { return f.chain, f.err }

// confidential is how a machine must be set.
var confidential = State{Capable: true, Enabled: true}

func TestCollect(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	nonce := realNonce(t, report)
	device := &fakeDevice{name: "NVIDIA H100 PCIe", report: report, chain: chain}
	c := &Collector{Library: &fakeLibrary{state: confidential, devices: []Device{device}}}
	evidence, err := c.Collect(context.Background(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if device.asked != nonce {
		t.Error("the GPU was asked another nonce")
	}
	if _, err := NewVerifier().Verify(evidence[0], nonce, []schemas.Hash{Root}, realTime); err != nil {
		t.Error(err)
	}
}

func TestCollectRefused(t *testing.T) {
	t.Parallel()
	broken := errors.New("fell off the bus")
	for name, c := range map[string]struct {
		library fakeLibrary
		kind    schemas.Kind
		message string
	}{
		"consumer GPU": {
			fakeLibrary{devices: []Device{&fakeDevice{name: "NVIDIA GeForce RTX 4090"}}},
			schemas.KindAttestation, "GPU NVIDIA GeForce RTX 4090: no confidential computing",
		},
		"CC off": {
			fakeLibrary{state: State{Capable: true}, devices: []Device{&fakeDevice{name: "NVIDIA H100 PCIe"}}},
			schemas.KindAttestation, "GPU NVIDIA H100 PCIe: confidential computing is off (CC=off)",
		},
		"devtools on": {
			fakeLibrary{state: State{Capable: true, Enabled: true, DevTools: true}, devices: []Device{&fakeDevice{name: "NVIDIA H100 PCIe"}}},
			schemas.KindAttestation, "GPU NVIDIA H100 PCIe: development tools are on (CC=devtools), the host can read its memory",
		},
		"vendor's simulation": {
			fakeLibrary{state: State{Capable: true, Enabled: true, Simulated: true}, devices: []Device{&fakeDevice{name: "NVIDIA H100 PCIe"}}},
			schemas.KindAttestation, "GPU NVIDIA H100 PCIe: the vendor's simulation environment is on",
		},
		"too many":      {fakeLibrary{state: confidential, devices: make([]Device, schemas.MaxGPUs+1)}, schemas.KindAttestation, "are 17, at most 16 can attest"},
		"no list":       {fakeLibrary{listErr: broken}, schemas.KindUnavailable, "cannot be asked: fell off the bus"},
		"no state":      {fakeLibrary{stateErr: broken, devices: []Device{&fakeDevice{}}}, schemas.KindUnavailable, "cannot be asked: fell off the bus"},
		"GPU is silent": {fakeLibrary{state: confidential, devices: []Device{&fakeDevice{err: broken}}}, schemas.KindUnavailable, "cannot be asked: fell off the bus"},
	} {
		_, err := (&Collector{Library: &c.library}).Collect(context.Background(), [32]byte{})
		var e *schemas.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Message != c.message {
			t.Errorf("%s: %v, want %s: %s", name, err, c.kind, c.message)
		}
	}
	if evidence, err := (&Collector{Library: &fakeLibrary{}}).Collect(context.Background(), [32]byte{}); err != nil || len(evidence) != 0 {
		t.Errorf("a machine without GPUs: %v, %v", evidence, err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	lib := &fakeLibrary{state: State{Capable: true}, devices: []Device{&fakeDevice{name: "NVIDIA H100 PCIe"}}}
	findings, err := Probe(lib, nil)
	if err != nil || len(findings) != 1 || findings[0].Ready || !strings.Contains(findings[0].Reason, "CC=off") {
		t.Errorf("library: %+v, %v", findings, err)
	}
	lib.state = confidential
	if findings, err = Probe(lib, nil); err != nil || !findings[0].Ready || findings[0].Reason != "" {
		t.Errorf("ready library: %+v, %v", findings, err)
	}
	files := fstest.MapFS{
		"proc/driver/nvidia/gpus/0000:01:00.0/information": {Data: []byte("Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   130\n")},
		"proc/driver/nvidia/gpus/0000:02:00.0/information": {Data: []byte("Model: \t\t NVIDIA H100 80GB HBM3\n")},
	}
	findings, err = Probe(nil, files)
	if err != nil || len(findings) != 2 {
		t.Fatalf("files: %+v, %v", findings, err)
	}
	if findings[0].Reason != "GPU NVIDIA GeForce RTX 4090: no confidential computing" || findings[0].Ready {
		t.Errorf("consumer GPU: %+v", findings[0])
	}
	if findings[1].Ready || !strings.Contains(findings[1].Reason, "cannot ask") {
		t.Errorf("H100: %+v", findings[1])
	}
	if findings, err = Probe(nil, fstest.MapFS{}); err != nil || findings != nil {
		t.Errorf("no driver: %+v, %v", findings, err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]State{
		"none": {}, "off": {Capable: true}, "on": {Capable: true, Enabled: true}, "devtools": {Capable: true, Enabled: true, DevTools: true},
	} {
		if got := s.mode(); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
}

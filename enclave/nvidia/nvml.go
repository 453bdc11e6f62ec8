//go:build cgo && nvml

package nvidia

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Open loads NVIDIA's management library. Close it when the process ends. The error of a machine without the vendor's
// driver is plain; Collect and Probe say what it means.
func Open() (*NVML, error) { return open(nvml.New()) }

// open starts a library, which tests replace.
func open(lib nvml.Interface) (*NVML, error) {
	if r := lib.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("nvml: %w", r)
	}
	return &NVML{lib}, nil
}

// NVML is NVIDIA's own library as a Library.
type NVML struct{ lib nvml.Interface }

// Close releases the library.
func (n *NVML) Close() error { return failure(n.lib.Shutdown()) }

// State implements [Library]. A driver that does not know the question belongs to GPUs without confidential computing.
func (n *NVML) State() (State, error) {
	caps, r := n.lib.SystemGetConfComputeCapabilities()
	if r == nvml.ERROR_NOT_SUPPORTED || r == nvml.ERROR_FUNCTION_NOT_FOUND {
		return State{}, nil
	}
	if r != nvml.SUCCESS {
		return State{}, failure(r)
	}
	if caps.GpusCaps != nvml.CC_SYSTEM_GPUS_CC_CAPABLE {
		return State{}, nil
	}
	s, r := n.lib.SystemGetConfComputeState()
	if r != nvml.SUCCESS {
		return State{}, failure(r)
	}
	return State{
		Capable: true, Enabled: s.CcFeature == nvml.CC_SYSTEM_FEATURE_ENABLED,
		DevTools: s.DevToolsMode != nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF, Simulated: s.Environment == nvml.CC_SYSTEM_ENVIRONMENT_SIM,
	}, nil
}

// Devices implements [Library].
func (n *NVML) Devices() ([]Device, error) {
	count, r := n.lib.DeviceGetCount()
	if r != nvml.SUCCESS {
		return nil, failure(r)
	}
	devices := make([]Device, 0, count)
	for i := range count {
		d, r := n.lib.DeviceGetHandleByIndex(i)
		if r != nvml.SUCCESS {
			return nil, failure(r)
		}
		devices = append(devices, nvmlDevice{d})
	}
	return devices, nil
}

// Vitals reads how every GPU is doing. A GPU that cannot be read is one with a fault, not an error; an error means that
// the library itself does not answer.
func (n *NVML) Vitals() ([]Vitals, error) {
	state, err := n.State()
	if err != nil {
		return nil, err
	}
	count, r := n.lib.DeviceGetCount()
	if r != nvml.SUCCESS {
		return nil, failure(r)
	}
	list := make([]Vitals, 0, count)
	for i := range count {
		v := Vitals{Name: fmt.Sprintf("GPU %d", i), CC: state.mode()}
		if d, r := n.lib.DeviceGetHandleByIndex(i); r != nvml.SUCCESS {
			v.Fault = "lost: " + r.Error()
		} else {
			v.read(d)
		}
		list = append(list, v)
	}
	return list, nil
}

// read fills in what a device says. What a GPU does not support is left out; what it fails to say is a fault.
func (v *Vitals) read(d nvml.Device) {
	check := func(what string, r nvml.Return) bool {
		if r != nvml.SUCCESS && r != nvml.ERROR_NOT_SUPPORTED && v.Fault == "" {
			v.Fault = what + ": " + r.Error()
		}
		return r == nvml.SUCCESS
	}
	if name, r := d.GetName(); check("name", r) {
		v.Name = name
	}
	if m, r := d.GetMemoryInfo(); check("memory", r) {
		v.MemoryUsed, v.MemoryTotal = m.Used, m.Total
	}
	if u, r := d.GetUtilizationRates(); check("utilisation", r) {
		v.Utilisation = int(u.Gpu)
	}
	errors, r := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	if check("memory errors", r) && errors > 0 {
		v.Fault = fmt.Sprintf("%d uncorrectable memory errors since it started", errors)
	}
}

// nvmlDevice is one GPU of the library.
type nvmlDevice struct{ d nvml.Device }

// Name implements [Device].
func (d nvmlDevice) Name() (string, error) {
	name, r := d.d.GetName()
	return name, failure(r)
}

// Report implements [Device].
func (d nvmlDevice) Report(nonce [32]byte) ([]byte, error) {
	report := nvml.ConfComputeGpuAttestationReport{Nonce: nonce} // in and out
	if r := d.d.GetConfComputeGpuAttestationReport(&report); r != nvml.SUCCESS {
		return nil, failure(r)
	}
	if int(report.AttestationReportSize) > len(report.AttestationReport) {
		return nil, fmt.Errorf("nvml: attestation report of %d bytes", report.AttestationReportSize)
	}
	return report.AttestationReport[:report.AttestationReportSize], nil
}

// Chain implements [Device].
func (d nvmlDevice) Chain() ([]byte, error) {
	c, r := d.d.GetConfComputeGpuCertificate()
	if r != nvml.SUCCESS {
		return nil, failure(r)
	}
	if int(c.AttestationCertChainSize) > len(c.AttestationCertChain) {
		return nil, fmt.Errorf("nvml: certificate chain of %d bytes", c.AttestationCertChainSize)
	}
	return c.AttestationCertChain[:c.AttestationCertChainSize], nil
}

// failure makes an error of a return code.
func failure(r nvml.Return) error {
	if r == nvml.SUCCESS {
		return nil
	}
	return fmt.Errorf("nvml: %w", r)
}

var _ Library = (*NVML)(nil)

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

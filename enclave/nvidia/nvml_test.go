//go:build cgo && nvml

package nvidia

import (
	"context"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestNVML runs the adapter over the vendor's mock, which serves the real report.
func TestNVML(t *testing.T) {
	t.Parallel()
	report, chain := realH100(t)
	m, err := parseMessage(report)
	if err != nil {
		t.Fatal(err)
	}
	caps, state := uint32(nvml.CC_SYSTEM_GPUS_CC_CAPABLE), nvml.ConfComputeSystemState{
		Environment: nvml.CC_SYSTEM_ENVIRONMENT_PROD, CcFeature: nvml.CC_SYSTEM_FEATURE_ENABLED, DevToolsMode: nvml.CC_SYSTEM_DEVTOOLS_MODE_OFF,
	}
	device := &mock.Device{
		GetNameFunc: func() (string, nvml.Return) { return "NVIDIA H100 PCIe", nvml.SUCCESS },
		GetConfComputeGpuAttestationReportFunc: func(r *nvml.ConfComputeGpuAttestationReport) nvml.Return {
			if r.Nonce != m.nonce {
				return nvml.ERROR_INVALID_ARGUMENT
			}
			r.AttestationReportSize = uint32(copy(r.AttestationReport[:], report))
			return nvml.SUCCESS
		},
		GetConfComputeGpuCertificateFunc: func() (c nvml.ConfComputeGpuCertificate, r nvml.Return) {
			c.AttestationCertChainSize = uint32(copy(c.AttestationCertChain[:], chain))
			return c, nvml.SUCCESS
		},
	}
	lib, err := open(&mock.Interface{
		InitFunc: func() nvml.Return { return nvml.SUCCESS }, ShutdownFunc: func() nvml.Return { return nvml.SUCCESS },
		DeviceGetCountFunc:         func() (int, nvml.Return) { return 1, nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(int) (nvml.Device, nvml.Return) { return device, nvml.SUCCESS },
		SystemGetConfComputeCapabilitiesFunc: func() (nvml.ConfComputeSystemCaps, nvml.Return) {
			return nvml.ConfComputeSystemCaps{GpusCaps: caps}, nvml.SUCCESS
		},
		SystemGetConfComputeStateFunc: func() (nvml.ConfComputeSystemState, nvml.Return) { return state, nvml.SUCCESS },
	})
	if err != nil {
		t.Fatal(err)
	}
	collect := func() error {
		evidence, err := (&Collector{Library: lib}).Collect(context.Background(), m.nonce)
		if err != nil {
			return err
		}
		_, err = NewVerifier().Verify(evidence[0], m.nonce, []schemas.Hash{Root}, realTime)
		return err
	}
	if err := collect(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"consumer":            func() { caps = nvml.CC_SYSTEM_GPUS_CC_NOT_CAPABLE },
		"off":                 func() { state.CcFeature = nvml.CC_SYSTEM_FEATURE_DISABLED },
		"devtools":            func() { state.DevToolsMode = nvml.CC_SYSTEM_DEVTOOLS_MODE_ON },
		"vendor's simulation": func() { state.Environment = nvml.CC_SYSTEM_ENVIRONMENT_SIM },
	} {
		keptCaps, keptState := caps, state
		change()
		if err := collect(); schemas.KindOf(err) != schemas.KindAttestation {
			t.Errorf("%s: %v", name, err)
		}
		caps, state = keptCaps, keptState
	}
}

func TestVitals(t *testing.T) {
	t.Parallel()
	ecc, memory := uint64(0), nvml.SUCCESS
	device := &mock.Device{
		GetNameFunc:             func() (string, nvml.Return) { return "NVIDIA H100 PCIe", nvml.SUCCESS },
		GetMemoryInfoFunc:       func() (nvml.Memory, nvml.Return) { return nvml.Memory{Used: 1, Total: 2}, memory },
		GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 37}, nvml.SUCCESS },
		GetTotalEccErrorsFunc: func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
			return ecc, nvml.SUCCESS
		},
	}
	n := &NVML{&mock.Interface{
		DeviceGetCountFunc: func() (int, nvml.Return) { return 2, nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			if i == 1 {
				return nil, nvml.ERROR_GPU_IS_LOST
			}
			return device, nvml.SUCCESS
		},
		SystemGetConfComputeCapabilitiesFunc: func() (nvml.ConfComputeSystemCaps, nvml.Return) {
			return nvml.ConfComputeSystemCaps{}, nvml.ERROR_NOT_SUPPORTED
		},
	}}
	read := func() []Vitals {
		t.Helper()
		list, err := n.Vitals()
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		return list
	}
	list := read()
	if want := (Vitals{Name: "NVIDIA H100 PCIe", CC: "none", MemoryUsed: 1, MemoryTotal: 2, Utilisation: 37}); list[0] != want {
		t.Errorf("healthy: %+v", list[0])
	}
	if list[1].Fault == "" {
		t.Error("a lost GPU is healthy")
	}
	ecc = 3
	if read()[0].Fault == "" {
		t.Error("a GPU with broken memory is healthy")
	}
	ecc, memory = 0, nvml.ERROR_UNKNOWN
	if read()[0].Fault == "" {
		t.Error("a GPU that cannot be read is healthy")
	}
}

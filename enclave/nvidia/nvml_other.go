//go:build !cgo || !nvml

package nvidia

import "github.com/cocoon-network/cocoon/schemas"

// Open says that this build cannot ask GPUs: NVIDIA's library needs cgo and the build tag nvml.
func Open() (*NVML, error) { return nil, notBuilt() }

// NVML is the library that this build does not have; it cannot be made.
type NVML struct{ _ struct{} }

// Close does nothing.
func (n *NVML) Close() error { return nil }

// State implements [Library].
func (n *NVML) State() (State, error) { return State{}, notBuilt() }

// Devices implements [Library].
func (n *NVML) Devices() ([]Device, error) { return nil, notBuilt() }

// Vitals says that this build cannot ask GPUs.
func (n *NVML) Vitals() ([]Vitals, error) { return nil, notBuilt() }

// notBuilt is the typed reason.
func notBuilt() error {
	return &schemas.Error{
		Kind: schemas.KindUnsupported, Field: "gpus",
		Message: "this build cannot ask GPUs to attest themselves: build with cgo and -tags nvml",
	}
}

var _ Library = (*NVML)(nil)

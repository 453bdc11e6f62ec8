package main

import (
	"context"
	"os"

	"github.com/cocoon-network/cocoon/consumers"
	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/enclave/tdx/guest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// bootReal boots the trust domain that this process runs in: it measures the configuration and the root keys that it
// obeys, so that nobody can give it others later without the quote showing it.
func bootReal(ctx context.Context, conf workerConfig, trust schemas.Trust) (hardware, error) {
	td, err := guest.Open(guest.Options{})
	if err != nil {
		return hardware{}, err
	}
	if conf.Measured == "" {
		return hardware{}, cli.Usagef("--measured is required on real hardware: the configuration bundle that the policy names")
	}
	bundle, err := os.ReadFile(conf.Measured)
	if err != nil {
		return hardware{}, cli.Usagef("--measured: %w", err)
	}
	gpus, err := nvidia.Open()
	if err != nil {
		return hardware{}, err
	}
	machine, err := attest.Boot(ctx, attest.MachineOptions{
		TD: td, GPUs: &nvidia.Collector{Library: gpus, Stapler: &nvidia.Responder{}},
		Config: schemas.HashOf(bundle), PolicyRoot: trust.Roots.Hash(),
	})
	return hardware{
		machine: machine, collateral: tdx.NewCollateral(tdx.CollateralOptions{Source: &tdx.Service{}}),
		gauges: []consumers.Gauge{consumers.HostMemory{}, consumerscli.GPUs(gpus.Vitals)},
	}, err
}

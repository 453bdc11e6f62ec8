package main

import (
	"context"
	"os"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/enclave/tdx/guest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// bootReal boots the trust domain that this process runs in: it measures the configuration and the root keys that it
// obeys, so that nobody can give it others later without the quote showing it.
func bootReal(ctx context.Context, conf workerConfig, trust schemas.Trust) (*attest.Machine, *tdx.Collateral, error) {
	td, err := guest.Open(guest.Options{})
	if err != nil {
		return nil, nil, err
	}
	if conf.Measured == "" {
		return nil, nil, cli.Usagef("--measured is required on real hardware: the configuration bundle that the policy names")
	}
	bundle, err := os.ReadFile(conf.Measured)
	if err != nil {
		return nil, nil, cli.Usagef("--measured: %w", err)
	}
	gpus, err := nvidia.Open()
	if err != nil {
		return nil, nil, err
	}
	machine, err := attest.Boot(ctx, attest.MachineOptions{
		TD: td, GPUs: &nvidia.Collector{Library: gpus, Stapler: &nvidia.Responder{}},
		Config: schemas.HashOf(bundle), PolicyRoot: trust.Roots.Hash(),
	})
	if err != nil {
		return nil, nil, err
	}
	return machine, tdx.NewCollateral(tdx.CollateralOptions{Source: &tdx.Service{}}), nil
}

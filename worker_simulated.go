//go:build !worker

package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

// simulatedFlags are the flags that choose simulated hardware.
func simulatedFlags(f *pflag.FlagSet) {
	f.String("simulated", "", "run on SIMULATED hardware whose secret is in this folder; protects nothing")
	f.String("image", imageWorker, "simulated image")
}

// bootSimulated boots a simulated machine with one simulated GPU.
func bootSimulated(ctx context.Context, conf workerConfig, trust schemas.Trust) (hardware, error) {
	platform, err := sim.Open(conf.Simulated, sim.Options{})
	if err != nil {
		return hardware{}, err
	}
	image := conf.Image
	if image == "" {
		image = imageWorker
	}
	machine, err := platform.Boot(ctx, sim.MachineSpec{Name: conf.Host, Image: image, GPUs: 1, PolicyRoot: trust.Roots.Hash()})
	if err != nil {
		return hardware{}, err
	}
	return hardware{machine: machine, collateral: platform.Collateral()}, nil
}

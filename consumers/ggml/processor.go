package ggml

import (
	"runtime"

	"github.com/cocoon-network/cocoon/consumers/ggml/kernels"
	"github.com/cocoon-network/cocoon/schemas"
)

// processorFits refuses to run native code that this processor does not have the instructions for: it would end the
// process without a word. arch is the architecture, isa what the kernels can use here, baseline whether the rest was
// compiled without vector instructions.
func processorFits(arch, isa string, baseline bool) error {
	if arch != "amd64" || isa != "" || baseline {
		return nil
	}
	return &schemas.Error{
		Kind: schemas.KindUnsupported, Field: "processor",
		Message: "this program was compiled for processors with AVX2, FMA and F16C, and this one lacks them: build it without -march flags",
	}
}

// checkProcessor is processorFits for this process.
func checkProcessor() error {
	return processorFits(runtime.GOARCH, kernels.ISA(), kernels.Baseline())
}

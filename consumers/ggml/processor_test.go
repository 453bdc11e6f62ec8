package ggml

import (
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestProcessorFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arch, isa string
		baseline  bool
		fits      bool
	}{
		{"amd64", "avx2", true, true},  // plain build, new processor
		{"amd64", "avx2", false, true}, // fast build, new processor
		{"amd64", "", true, true},      // plain build, old processor
		{"amd64", "", false, false},    // fast build, old processor: an illegal instruction
		{"arm64", "", false, true},     // other architectures have what they need
	} {
		err := processorFits(c.arch, c.isa, c.baseline)
		if fits := err == nil; fits != c.fits || !fits && !errors.Is(err, schemas.KindUnsupported) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := checkProcessor(); err != nil {
		t.Errorf("here: %v", err)
	}
}

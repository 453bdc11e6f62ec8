package attest_test

import (
	"context"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestMachineConforms(t *testing.T) {
	t.Parallel()
	attesttest.Conform(t, func(t *testing.T, w *attesttest.World) attest.Attester { return w.Boot(t, w.Spec()) })
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	attesttest.RunRefusals(t, func(ctx context.Context, w *attesttest.World, e schemas.Evidence, nonce [32]byte) error {
		_, err := w.Verifier.Verify(ctx, e, nonce)
		return err
	})
}

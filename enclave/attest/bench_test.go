package attest_test

import (
	"context"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// BenchmarkVerify measures the three depths of a verification.
func BenchmarkVerify(b *testing.B) {
	ctx := context.Background()
	w := attesttest.New(b)
	policy := w.Policy()
	policy.GPU.OCSPMaxAgeHours = 0
	m := w.Boot(b, w.Spec())
	claims := w.Claims(b, schemas.RoleWorker)
	docs, err := w.Platform.Documents(ctx)
	if err != nil {
		b.Fatal(err)
	}
	nonces := make([][32]byte, 256)
	all, bare := make([]schemas.Evidence, len(nonces)), make([]schemas.Evidence, len(nonces))
	for i := range nonces {
		nonces[i] = [32]byte{byte(i), 1}
		all[i] = w.Attest(b, m, claims, nonces[i])
		bare[i] = all[i]
		bare[i].GPUs = []schemas.GPUEvidence{all[i].GPUs[0]}
		bare[i].GPUs[0].OCSP = nil
	}
	fresh := func() *attest.Verifier {
		_, v := w.NewVerifier(b, tdx.NewCollateral(tdx.CollateralOptions{Store: docs, Now: w.Now}), policy)
		return v
	}
	verify := func(b *testing.B, v *attest.Verifier, e schemas.Evidence, nonce [32]byte) {
		if _, err := v.Verify(ctx, e, nonce); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("full", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			v := fresh()
			b.StartTimer()
			verify(b, v, bare[0], nonces[0])
		}
	})
	b.Run("full+ocsp", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			v := fresh()
			b.StartTimer()
			verify(b, v, all[0], nonces[0])
		}
	})
	b.Run("known-machine", func(b *testing.B) {
		i := 0
		v := fresh()
		for b.Loop() {
			if i++; i%200 == 0 {
				b.StopTimer()
				v = fresh()
				verify(b, v, bare[255], nonces[255])
				b.StartTimer()
			}
			verify(b, v, bare[i%200], nonces[i%200])
		}
	})
	b.Run("same-evidence", func(b *testing.B) {
		v := fresh()
		for b.Loop() {
			verify(b, v, bare[0], nonces[0])
		}
	})
}

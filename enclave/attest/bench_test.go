package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// benchFloor measures the signature checks that no cache can spare.
func benchFloor(b *testing.B, curve elliptic.Curve, n int) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("floor"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range n {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				b.Fatal("does not verify")
			}
		}
	}
}

// BenchmarkVerify measures the depths of a verification: everything, a machine whose chains are known, the very same
// evidence; and the floors of the second.
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
		i := -1
		v := fresh()
		for b.Loop() {
			if i++; i%200 == 0 {
				b.StopTimer()
				v = fresh()
				for j := 255; j > 252; j-- { // the third finds the GPU's key with its table
					verify(b, v, bare[j], nonces[j])
				}
				b.StartTimer()
			}
			verify(b, v, bare[i%200], nonces[i%200])
		}
	})
	broker := w.Boot(b, sim.MachineSpec{Name: "host-2", Image: attesttest.BrokerImage, PolicyRoot: w.Trust.Roots.Hash()})
	plain := make([]schemas.Evidence, len(nonces))
	for i := range nonces {
		plain[i] = w.Attest(b, broker, w.Claims(b, schemas.RoleBroker), nonces[i])
	}
	b.Run("known-machine-without-gpu", func(b *testing.B) {
		v := fresh()
		verify(b, v, plain[255], nonces[255])
		for i := 0; b.Loop(); i++ {
			if i%200 == 0 {
				b.StopTimer()
				v = fresh()
				verify(b, v, plain[255], nonces[255])
				b.StartTimer()
			}
			verify(b, v, plain[i%200], nonces[i%200])
		}
	})
	b.Run("floor-2-p256", func(b *testing.B) { benchFloor(b, elliptic.P256(), 2) })
	b.Run("floor-1-p384", func(b *testing.B) { benchFloor(b, elliptic.P384(), 1) })
	b.Run("same-evidence", func(b *testing.B) {
		v := fresh()
		for b.Loop() {
			verify(b, v, bare[0], nonces[0])
		}
	})
}

package sim_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestE2E(t *testing.T) {
	ctx := context.Background()
	p, err := sim.New([32]byte{1}, sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pub, priv, _ := ed25519.GenerateKey(nil)
	roots, err := schemas.NewRootKeys(1, pub)
	if err != nil {
		t.Fatal(err)
	}
	trust := schemas.Trust{Roots: roots, Environment: schemas.Simulated}
	m, err := p.Boot(ctx, sim.MachineSpec{Name: "m1", Image: "worker", GPUs: 1, PolicyRoot: roots.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	policy := p.Policy(sim.PolicySpec{Images: []sim.ImageRule{{Name: "worker", Role: schemas.RoleWorker, MinGPUs: 1, MaxGPUs: 8}}})
	signed, err := schemas.SignDocument(policy, priv)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := signed.Encode()
	k, err := attest.NewKeeper(trust, attest.KeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Offer(b); err != nil {
		t.Fatal(err)
	}
	v, err := attest.NewVerifier(attest.Options{Policy: k, Collateral: p.Collateral()})
	if err != nil {
		t.Fatal(err)
	}
	kem, _ := hpke.MLKEM768X25519().GenerateKey()
	claims := schemas.Claims{V: 1, Role: schemas.RoleWorker, HPKE: kem.PublicKey().Bytes(), Sign: pub, Owner: schemas.Owner("0:" + "00000000000000000000000000000000" + "00000000000000000000000000000000"), Boot: schemas.NewBootID(), Expires: time.Now().UTC().Add(time.Hour).Truncate(time.Second)}
	ev, err := m.Attest(ctx, claims, [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := ev.Encode()
	t.Log(len(e))
	a, err := v.Verify(ctx, ev, [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", a)
}

package enclave_test

import (
	"crypto/ed25519"
	"crypto/hpke"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestVerifyKey: nothing is sealed to a key that a verified broker does not vouch for, for this model, now.
func TestVerifyKey(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, sign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := n.World.Keeper.Current()
	if err != nil {
		t.Fatal(err)
	}
	evidence := func(role schemas.Role) []byte {
		spec := sim.MachineSpec{Name: "broker", Image: attesttest.BrokerImage, PolicyRoot: n.World.Trust.Roots.Hash()}
		if role == schemas.RoleWorker {
			spec = n.World.Spec()
		}
		claims := n.World.Claims(t, role)
		claims.Sign = public
		e := n.World.Attest(t, n.World.Boot(t, spec), claims, [32]byte{})
		encoded, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	broker := evidence(schemas.RoleBroker)
	now := time.Now().UTC().Truncate(time.Second)
	good := schemas.KeyBundle{
		V: 1, Model: enclavetest.Model, Key: schemas.KeyIDOf(private.PublicKey().Bytes()), Suite: schemas.Suite,
		PublicKey: private.PublicKey().Bytes(), ActiveFrom: now, ActiveUntil: now.Add(time.Hour), DecryptUntil: now.Add(2 * time.Hour),
		Policy: policy.Hash, PolicyVersion: policy.Version, Catalogue: 1, Environment: schemas.Simulated, Broker: public,
	}
	for name, c := range map[string]struct {
		want     string
		change   func(*schemas.KeyBundle)
		sign     ed25519.PrivateKey
		evidence []byte
	}{
		"good":                 {want: "ok"},
		"another model":        {want: "invalid", change: func(k *schemas.KeyBundle) { k.Model = attesttest.OtherModel }},
		"signed by a stranger": {want: "denied", sign: stranger},
		"stranger named":       {want: "invalid", change: func(k *schemas.KeyBundle) { k.Broker = stranger.Public().(ed25519.PublicKey) }},
		"worker's word":        {want: "policy_refused", evidence: evidence(schemas.RoleWorker)},
		"production":           {want: "policy_refused", change: func(k *schemas.KeyBundle) { k.Environment = schemas.Production }},
		"of the future": {want: "invalid", change: func(k *schemas.KeyBundle) {
			k.ActiveFrom, k.ActiveUntil = now.Add(10*time.Minute), now.Add(time.Hour)
		}},
		"epoch over": {want: "key_lost", change: func(k *schemas.KeyBundle) {
			k.ActiveFrom, k.ActiveUntil = now.Add(-time.Hour), now.Add(-time.Second)
		}},
		"older policy": {want: "unavailable", change: func(k *schemas.KeyBundle) { k.PolicyVersion = 0 }},
		"evidence cut": {want: "invalid", evidence: broker[:len(broker)-1]},
	} {
		bundle := good
		if c.change != nil {
			c.change(&bundle)
		}
		if c.sign == nil {
			c.sign = sign
		}
		if c.evidence == nil {
			c.evidence = broker
		}
		token, err := enclave.SignKeyBundle(c.sign, bundle)
		if err != nil {
			t.Fatal(err)
		}
		published, err := schemas.NewPublishedKey(token, c.evidence).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := enclave.VerifyKey(t.Context(), n, enclavetest.Model, published); outcomeName(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

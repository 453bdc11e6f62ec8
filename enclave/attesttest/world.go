package attesttest

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Images of a World.
const (
	WorkerImage = "cocoon-worker"
	BrokerImage = "cocoon-broker"
)

// Model is the model that a World admits.
const Model schemas.ModelID = "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa"

// OtherModel is a model that a World does not admit.
const OtherModel schemas.ModelID = "other@1:sha256-00000000000000000000000000000000000000000000000000000000000000bb"

// Owner is the payout address in a World's claims.
const Owner schemas.Owner = "0:00000000000000000000000000000000000000000000000000000000000000cc"

// World is a simulated network's trust: a platform, root keys, a policy in force, a verifier and a worker.
type World struct {
	Platform *sim.Platform
	Trust    schemas.Trust
	Keys     []ed25519.PrivateKey
	Keeper   *attest.Keeper
	Verifier *attest.Verifier

	mu  sync.Mutex
	now time.Time
}

// Start is the time at which every World begins.
var Start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// New makes a world whose policy admits WorkerImage with one or two GPUs and BrokerImage, and Model. Its clock stands
// still until Sleep. Two of its three root keys must sign.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{now: Start}
	var err error
	if w.Platform, err = sim.New([sim.SeedSize]byte{1}, sim.Options{Now: w.Now}); err != nil {
		t.Fatal(err)
	}
	var public []ed25519.PublicKey
	for i := range 3 {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i+1)))
		w.Keys, public = append(w.Keys, key), append(public, key.Public().(ed25519.PublicKey))
	}
	roots, err := schemas.NewRootKeys(2, public...)
	if err != nil {
		t.Fatal(err)
	}
	w.Trust = schemas.Trust{Roots: roots, Environment: schemas.Simulated}
	w.Keeper, w.Verifier = w.NewVerifier(t, w.Platform.Collateral(), w.Policy())
	return w
}

// Now is the world's clock.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Sleep moves the clock.
func (w *World) Sleep(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Policy is the world's policy, to be changed and signed.
func (w *World) Policy() *schemas.Policy {
	return w.Platform.Policy(sim.PolicySpec{
		Images: []sim.ImageRule{
			{Name: WorkerImage, Role: schemas.RoleWorker, MinGPUs: 1, MaxGPUs: 2},
			{Name: BrokerImage, Role: schemas.RoleBroker},
		},
		Models: []schemas.ModelID{Model}, OCSPMaxAgeHours: 48,
	})
}

// Sign signs a document with two of the three root keys.
func (w *World) Sign(t testing.TB, d schemas.Document) []byte {
	t.Helper()
	signed, err := schemas.SignDocument(d, w.Keys[0], w.Keys[2])
	if err != nil {
		t.Fatal(err)
	}
	b, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// NewVerifier makes a verifier of this world under a policy.
func (w *World) NewVerifier(t testing.TB, collateral *tdx.Collateral, policy *schemas.Policy) (*attest.Keeper, *attest.Verifier) {
	t.Helper()
	keeper, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.Offer(w.Sign(t, policy)); err != nil {
		t.Fatal(err)
	}
	v, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: collateral, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	return keeper, v
}

// Spec is the machine of a healthy worker.
func (w *World) Spec() sim.MachineSpec {
	return sim.MachineSpec{Name: "host-1", Image: WorkerImage, GPUs: 1, PolicyRoot: w.Trust.Roots.Hash(), Models: []schemas.ModelID{Model}}
}

// Boot boots a machine.
func (w *World) Boot(t testing.TB, spec sim.MachineSpec) *attest.Machine {
	t.Helper()
	m, err := w.Platform.Boot(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Claims are well-formed claims for a role with fresh keys.
func (w *World) Claims(t testing.TB, role schemas.Role) schemas.Claims {
	t.Helper()
	kem, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := schemas.Claims{
		V: 1, Role: role, HPKE: kem.PublicKey().Bytes(), Sign: public, Boot: schemas.NewBootID(), Expires: w.Now().Add(30 * time.Minute),
	}
	if role == schemas.RoleWorker {
		c.Owner = Owner
	}
	return c
}

// Attest has an attester make evidence.
func (w *World) Attest(t testing.TB, a attest.Attester, c schemas.Claims, nonce [32]byte) schemas.Evidence {
	t.Helper()
	e, err := a.Attest(context.Background(), c, nonce)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

//go:build !worker

package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Names of what the benchmarks run on.
const (
	benchWorker = "bench-worker"
	benchBroker = "bench-broker"
	benchModel  = schemas.ModelID("bench@1:sha256-00000000000000000000000000000000000000000000000000000000000000be")
	benchOwner  = schemas.Owner("0:00000000000000000000000000000000000000000000000000000000000000be")
)

// benchNet is a network on simulated hardware without a bus: what remains is the work of the enclaves.
type benchNet struct {
	platform   *sim.Platform
	keeper     *attest.Keeper
	collateral *tdx.Collateral
	verifier   *attest.Verifier
	roots      schemas.Hash
	tenant     *enclave.Tenant
}

// newBenchNet makes the platform, a policy in force and a tenant.
func newBenchNet() (*benchNet, error) {
	var seed [sim.SeedSize]byte
	rand.Read(seed[:])
	platform, err := sim.New(seed, sim.Options{})
	if err != nil {
		return nil, err
	}
	public, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	roots, err := schemas.NewRootKeys(1, public)
	if err != nil {
		return nil, err
	}
	keeper, err := attest.NewKeeper(schemas.Trust{Roots: roots, Environment: schemas.Simulated}, attest.KeeperOptions{})
	if err != nil {
		return nil, err
	}
	signed, err := schemas.SignDocument(platform.Policy(sim.PolicySpec{
		Images: []sim.ImageRule{
			{Name: benchWorker, Role: schemas.RoleWorker, MaxGPUs: 1}, {Name: benchBroker, Role: schemas.RoleBroker},
		},
		Models: []schemas.ModelID{benchModel},
	}), root)
	if err != nil {
		return nil, err
	}
	document, err := signed.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := keeper.Offer(document); err != nil {
		return nil, err
	}
	n := &benchNet{platform: platform, keeper: keeper, roots: roots.Hash(), collateral: platform.Collateral()}
	if n.verifier, err = n.newVerifier(); err != nil {
		return nil, err
	}
	n.tenant, err = enclave.NewTenant()
	return n, err
}

// newVerifier makes a verifier that has seen no machine; the collateral is in memory once anybody has asked for it.
func (n *benchNet) newVerifier() (*attest.Verifier, error) {
	return attest.NewVerifier(attest.Options{Policy: n.keeper, Collateral: n.collateral})
}

// boot boots a machine.
func (n *benchNet) boot(ctx context.Context, image string, gpus int) (*attest.Machine, error) {
	return n.platform.Boot(ctx, sim.MachineSpec{Name: image, Image: image, GPUs: gpus, PolicyRoot: n.roots})
}

// Current implements broker.Catalogues.
func (n *benchNet) Current() (*schemas.Catalogue, error) {
	return &benchCatalogue, nil
}

// Account implements broker.Credit: the tenant is rich.
func (n *benchNet) Account(context.Context, schemas.TenantID) (schemas.Credit, error) {
	return schemas.Credit{V: 1, Available: 1 << 60, Key: n.tenant.Public(), Updated: time.Now().UTC()}, nil
}

// benchCatalogue has the one model.
var benchCatalogue = schemas.Catalogue{
	V: 1, Version: 1, Environment: schemas.Simulated,
	Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: schemas.One, schemas.Standard: schemas.One, schemas.Batch: schemas.One},
	Models:  []schemas.Model{{ID: benchModel}},
}

// broker makes the network's broker.
func (n *benchNet) broker(ctx context.Context) (*broker.Broker, error) {
	machine, err := n.boot(ctx, benchBroker, 0)
	if err != nil {
		return nil, err
	}
	return broker.New(ctx, broker.Config{
		Attester: machine, Verifier: n.verifier, Policies: n.keeper, Catalogues: n, Credit: n, Found: true, Verifications: 1e6,
	})
}

// key makes a verified key whose private part the caller holds: the caller plays the broker.
func (n *benchNet) key(ctx context.Context) (*enclave.TrustedKey, hpke.PrivateKey, error) {
	machine, err := n.boot(ctx, benchBroker, 0)
	if err != nil {
		return nil, nil, err
	}
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	public, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	evidence, err := machine.Attest(ctx, schemas.Claims{
		V: 1, Role: schemas.RoleBroker, HPKE: private.PublicKey().Bytes(), Sign: public, Boot: schemas.NewBootID(), Expires: now.Add(30 * time.Minute),
	}, [32]byte{})
	if err != nil {
		return nil, nil, err
	}
	encoded, err := evidence.Encode()
	if err != nil {
		return nil, nil, err
	}
	policy, err := n.keeper.Current()
	if err != nil {
		return nil, nil, err
	}
	bundle, err := enclave.SignKeyBundle(sign, schemas.KeyBundle{
		V: 1, Model: benchModel, Key: schemas.KeyIDOf(private.PublicKey().Bytes()), Suite: schemas.Suite, PublicKey: private.PublicKey().Bytes(),
		ActiveFrom: now, ActiveUntil: now.Add(time.Hour), DecryptUntil: now.Add(2 * time.Hour), Policy: policy.Hash,
		PolicyVersion: policy.Version, Catalogue: 1, Environment: schemas.Simulated, Broker: public,
	})
	if err != nil {
		return nil, nil, err
	}
	published, err := schemas.NewPublishedKey(bundle, encoded).Encode()
	if err != nil {
		return nil, nil, err
	}
	key, err := enclave.VerifyKey(ctx, n.verifier, benchModel, published)
	return key, private, err
}

// session boots and attests a worker.
func (n *benchNet) session(ctx context.Context, call enclave.Call) (*enclave.Session, error) {
	machine, err := n.boot(ctx, benchWorker, 1)
	if err != nil {
		return nil, err
	}
	s, err := enclave.NewSession(enclave.SessionConfig{Attester: machine, Verifier: n.verifier, Owner: benchOwner, Models: []schemas.ModelID{benchModel}})
	if err != nil {
		return nil, err
	}
	return s, s.Attest(ctx, call)
}

// seal seals one job with a body.
func (n *benchNet) seal(s *enclave.Submission, body []byte) (enclave.SealedJob, error) {
	return s.Seal(schemas.Attributes{Budget: 1}, schemas.Request{URL: "/v1/chat/completions", Body: body}, enclave.SpendLimit{Multiplier: schemas.One})
}

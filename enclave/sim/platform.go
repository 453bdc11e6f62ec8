package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// SeedSize is the size of the secret behind a development root.
const SeedSize = 32

// seedFile holds the secret of a development root.
const seedFile = "simulated-root.seed"

// Options configure a Platform.
type Options struct {
	// Now is the clock of the collateral service. Default time.Now.
	Now func() time.Time
}

// Platform is a development root and everything below it. It is safe for concurrent use. Two platforms with one seed
// are the same: same keys, same certificates, byte for byte.
type Platform struct {
	seed [SeedSize]byte
	now  func() time.Time
	tdx  tdxAuthority
	gpu  gpuAuthority

	mu    sync.Mutex
	knobs Knobs
}

// New makes the platform of a seed.
func New(seed [SeedSize]byte, o Options) (*Platform, error) {
	p := &Platform{seed: seed, now: o.Now, knobs: DefaultKnobs()}
	if p.now == nil {
		p.now = time.Now
	}
	var err error
	if p.tdx, err = p.newTDXAuthority(); err != nil {
		return nil, err
	}
	p.gpu, err = p.newGPUAuthority()
	return p, err
}

// Open makes the platform whose seed is kept in a folder, or keeps a fresh seed there. The file is written whole before
// it has its name: after a crash there is either no seed or the one that all later starts use.
func Open(dir string, o Options) (*Platform, error) {
	path := filepath.Join(dir, seedFile)
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed = make([]byte, SeedSize)
		rand.Read(seed)
		err = writeFile(path, seed)
	}
	if err != nil {
		return nil, err
	}
	if len(seed) != SeedSize {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: path, Message: fmt.Sprintf("has %d bytes, a seed has %d", len(seed), SeedSize)}
	}
	return New([SeedSize]byte(seed), o)
}

// Load is Open for a folder that must hold a seed already: KindNotFound otherwise.
func Load(dir string, o Options) (*Platform, error) {
	if _, err := os.Stat(filepath.Join(dir, seedFile)); err != nil {
		return nil, schemas.Errorf(schemas.KindNotFound, "no simulated hardware is kept in %s: %w", dir, err)
	}
	return Open(dir, o)
}

// writeFile makes a private file that appears at once.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when the rename below succeeded
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Roots are the fingerprints that a policy must name to admit this platform.
func (p *Platform) Roots() schemas.SimulatedRoots {
	return schemas.SimulatedRoots{TDX: []schemas.Hash{schemas.HashOf(p.tdx.root.cert.Raw)}, GPU: []schemas.Hash{schemas.HashOf(p.gpu.root.cert.Raw)}}
}

// Knobs make the simulated hardware misbehave.
type Knobs struct {
	// Platform, Module and QE are the statuses that the collateral gives.
	Platform, Module, QE schemas.TCBStatus
	// Advisories are attached to the platform's level.
	Advisories []string
	// RevokedMachines are on Intel's revocation list, by name.
	RevokedMachines []string
	// RevokeIntermediate and RevokeSigner revoke the certificate above all machines, and the one that signs collateral.
	RevokeIntermediate, RevokeSigner bool
	// RevokeGPU makes the revocation answers about GPUs say so, NoOCSP leaves them away.
	RevokeGPU, NoOCSP bool
	// Responder is who signs the answers about dies: their issuer, a delegate of it, or another die that was never
	// allowed to.
	Responder Responder
	// Issued and Valid move the issue date and the next update of collateral, relative to now.
	Issued, Valid time.Duration
	// TCBAge is the age of the TCB level.
	TCBAge time.Duration
	// Evaluation is the tcbEvaluationDataNumber.
	Evaluation int
}

// Responder is a signer of revocation answers.
type Responder int

// The signers of revocation answers.
const (
	IssuerAnswers Responder = iota
	DelegateAnswers
	SiblingAnswers
)

// DefaultKnobs are those of healthy hardware.
func DefaultKnobs() Knobs {
	return Knobs{
		Platform: schemas.UpToDate, Module: schemas.UpToDate, QE: schemas.UpToDate,
		Issued: -time.Hour, Valid: 30 * 24 * time.Hour, TCBAge: 60 * 24 * time.Hour, Evaluation: 19,
	}
}

// Turn changes the knobs. Documents made before keep what they say.
func (p *Platform) Turn(f func(*Knobs)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.knobs)
}

// settings reads the knobs.
func (p *Platform) settings() Knobs {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knobs
}

// Collateral returns a cache over this platform's own collateral service.
func (p *Platform) Collateral() *tdx.Collateral {
	return tdx.NewCollateral(tdx.CollateralOptions{Source: p, Now: p.now})
}

// derive gives n secret bytes for a purpose.
func (p *Platform) derive(purpose string, n int) []byte {
	b, err := hkdf.Key(sha256.New, p.seed[:], nil, "cocoon/sim/v1 "+purpose, n)
	if err != nil {
		panic("sim: hkdf: " + err.Error()) // only for more than 255 hashes of output
	}
	return b
}

// key derives a signing key. A candidate that is no scalar of the curve, one in 2^32 or fewer, gives way to the next.
func (p *Platform) key(curve elliptic.Curve, purpose string) *ecdsa.PrivateKey {
	for i := 0; ; i++ {
		key, err := ecdsa.ParseRawPrivateKey(curve, p.derive(fmt.Sprintf("key %s %d", purpose, i), (curve.Params().BitSize+7)/8))
		if err == nil {
			return key
		}
	}
}

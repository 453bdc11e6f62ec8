package settlement

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Message is the public face of one outcome: its headers and its place in the outcome stream.
type Message struct {
	// Seq is the position, above 0 and growing.
	Seq uint64
	// Header holds the headers as schemas.ParseOutcome reads them.
	Header map[string][]string
}

// Feed reads the network's outcomes in the order of their stream.
type Feed interface {
	// Read returns up to limit outcomes after the given position, in order and without gaps, and waits until there is
	// at least one or ctx ends. Calling it with after = n says that everything up to n is durable here.
	Read(ctx context.Context, after uint64, limit int) ([]Message, error)
}

// Catalogues finds price books by version; *Ledger is one. KindNotFound is final: no such version was ever signed.
type Catalogues interface {
	Catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error)
}

// BrokerKeys finds the signing keys of brokers, as they were verified from key bundles; *Ledger is one. KindNotFound is
// final: no verified bundle names this key, and the source has just looked. Other errors are tried again.
type BrokerKeys interface {
	BrokerKey(ctx context.Context, id schemas.KeyID) (ed25519.PublicKey, error)
}

// IntakeConfig configures an Intake.
type IntakeConfig struct {
	Ledger *Ledger
	Feed   Feed
	// Catalogues and BrokerKeys default to the ledger's own.
	Catalogues Catalogues
	BrokerKeys BrokerKeys
	// Environment is the only one whose grants are booked. Required.
	Environment schemas.Environment
	// VerifyGrant and VerifyReceipt check a compact JWS under a key: signature, typ and strict form. Required;
	// enclave.VerifyGrant and enclave.VerifyReceipt are these.
	VerifyGrant   func(jws string, broker ed25519.PublicKey) (schemas.Grant, error)
	VerifyReceipt func(jws string, worker ed25519.PublicKey) (schemas.Receipt, error)
	// Group is the largest number of outcomes in one commit; 0 means 1,000.
	Group int
	// Verifiers is the number of goroutines that verify; 0 means GOMAXPROCS.
	Verifiers int
	// Skew is how far a receipt's times may lie ahead of our clock; 0 means 5 min.
	Skew time.Duration
	// Retry is the pause after a failure that may pass; 0 means 1 s.
	Retry  time.Duration
	Logger *slog.Logger
}

// Intake books outcomes.
type Intake struct{}

// NewIntake checks the configuration.
func NewIntake(cfg IntakeConfig) (*Intake, error) { panic("skeleton") }

// Run books until ctx ends. It returns early only on KindCorrupt.
func (in *Intake) Run(ctx context.Context) error { panic("skeleton") }

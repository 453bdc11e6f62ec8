package ton

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"time"

	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
)

// Config says which network to join and whom to trust there.
type Config struct {
	// GlobalConfig is the network's global config in JSON: liteservers with their keys, and the block that trust starts
	// from (validator.init_block). Mainnet and testnet publish theirs; tonnet writes its own.
	GlobalConfig []byte
	// Client replaces the connections to the liteservers of GlobalConfig, for a devnet in the same process. The trusted
	// block still comes from GlobalConfig.
	Client tonapi.LiteClient
	// QueryTimeout bounds one question to one liteserver; 0 means 10 s.
	QueryTimeout time.Duration
	// Logger is told about liteservers that lag, fail or lie; nil discards.
	Logger *slog.Logger
}

// Chain is a connection to one TON network. It is safe for concurrent use.
type Chain struct{}

// Connect joins the network and proves its newest block.
func Connect(ctx context.Context, cfg Config) (*Chain, error) { panic("skeleton") }

// Close ends the connections.
func (c *Chain) Close() {}

// Now returns the newest block that some liteserver can prove.
func (c *Chain) Now(ctx context.Context) (BlockTime, error) { panic("skeleton") }

// Send hands a signed external message to a liteserver. An error says nothing about the outcome: the message may still
// run, and without an error it may still be lost. Only history knows.
func (c *Chain) Send(ctx context.Context, boc []byte) error { panic("skeleton") }

// Account reads the account with the given address.
func (c *Chain) Account(addr schemas.Owner) (*Account, error) { panic("skeleton") }

// Treasury is the highload wallet v3 of the given key.
func (c *Chain) Treasury(key ed25519.PrivateKey, opt TreasuryOptions) (*Treasury, error) {
	panic("skeleton")
}

package ton

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
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
	// Trusted is a block that Chain.Trusted returned earlier, to start from instead of the one in GlobalConfig: fewer
	// steps to prove. Nil means that of GlobalConfig.
	Trusted *tonapi.BlockIDExt
	// QueryTimeout bounds one question to one liteserver; 0 means 10 s.
	QueryTimeout time.Duration
	// Logger is told about liteservers that lag, fail or lie; nil discards.
	Logger *slog.Logger
}

// defaultQueryTimeout is Config.QueryTimeout if zero.
const defaultQueryTimeout = 10 * time.Second

// Chain is a connection to one TON network. It is safe for concurrent use.
type Chain struct {
	lite liteserver
	api  *tonapi.APIClient
	log  *slog.Logger
	pool *liteclient.ConnectionPool // nil with Config.Client

	// mu guards newest, and with it that answers never go back.
	mu sync.Mutex
	// newest is the newest proven block; at the start that is the trusted one, with a time of zero.
	newest block
}

// block is a proven masterchain block.
type block struct {
	BlockTime
	id *tonapi.BlockIDExt
}

// Connect joins the network and proves its newest block. It fails with KindInvalid when the config is bad, and with
// KindUnavailable when no liteserver gives a proven answer.
func Connect(ctx context.Context, cfg Config) (*Chain, error) {
	var global liteclient.GlobalConfig
	if err := json.Unmarshal(cfg.GlobalConfig, &global); err != nil {
		return nil, schemas.FieldError("global_config", "is not the JSON of a global config")
	}
	trusted := cfg.Trusted
	if trusted == nil {
		trusted = (*tonapi.BlockIDExt)(&global.Validator.InitBlock)
	}
	if len(trusted.RootHash) != len(Hash{}) || len(trusted.FileHash) != len(Hash{}) || trusted.Workchain != masterchain {
		return nil, schemas.FieldError("global_config.validator.init_block", "is missing: nothing could be trusted")
	}
	c := &Chain{log: cfg.Logger, newest: block{id: trusted.Copy()}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	timeout := cfg.QueryTimeout
	if timeout <= 0 {
		timeout = defaultQueryTimeout
	}
	client := cfg.Client
	if client == nil {
		c.pool = liteclient.NewConnectionPool()
		if err := c.pool.AddConnectionsFromConfig(ctx, &global); err != nil {
			c.pool.Stop()
			return nil, unavailable("no liteserver can be reached: %w", err)
		}
		client = c.pool
	}
	c.lite = liteserver{LiteClient: client, timeout: timeout}
	c.api = tonapi.NewAPIClient(c.lite, tonapi.ProofCheckPolicySecure)
	if _, err := c.Now(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connections. Questions in flight fail.
func (c *Chain) Close() {
	if c.pool != nil {
		c.pool.Stop()
	}
}

// Now returns the newest block that some liteserver can prove.
func (c *Chain) Now(ctx context.Context) (BlockTime, error) {
	var b block
	err := c.ask(ctx, func(ctx context.Context) (err error) {
		b, err = c.head(ctx)
		return err
	})
	return b.BlockTime, err
}

// Trusted is the newest proven block, to be kept and given to a later Connect.
func (c *Chain) Trusted() *tonapi.BlockIDExt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest.id.Copy()
}

// sendGrace is how long Send goes on waiting for a liteserver that takes the message after another has refused it.
const sendGrace = time.Second

// Send hands a signed external message to all liteservers at once, as one of them may swallow it, and returns when the
// first says that it passed the message on. An error says nothing about the outcome: the message may still run, and
// without an error it may still be lost. Only history knows.
func (c *Chain) Send(ctx context.Context, boc []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := c.lite.each(ctx)
	answers := make(chan error, len(servers))
	for _, at := range servers {
		go func() { answers <- c.sendTo(at, boc) }()
	}
	var errs []error
	for len(errs) < len(servers) {
		err := <-answers
		if err == nil {
			return nil
		}
		if errs = append(errs, err); len(errs) == 1 {
			defer time.AfterFunc(sendGrace, cancel).Stop()
		}
	}
	return unavailable("send: %w", errors.Join(errs...))
}

// sendTo hands a message to one liteserver.
func (c *Chain) sendTo(ctx context.Context, boc []byte) error {
	var resp tl.Serializable
	if err := c.lite.QueryLiteserver(ctx, tonapi.SendMessage{Body: boc}, &resp); err != nil {
		return err
	}
	if _, ok := resp.(tonapi.SendMessageStatus); !ok {
		return unexpected(resp)
	}
	return nil
}

// Account reads the account with the given address.
func (c *Chain) Account(owner schemas.Owner) (*Account, error) {
	a, err := toAddress(owner)
	if err != nil {
		return nil, err
	}
	return &Account{chain: c, owner: owner, addr: a}, nil
}

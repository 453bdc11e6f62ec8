package tonnet

import (
	"log/slog"
	"time"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Config says what network to open. Its zero value is a new network in memory on the local clock.
type Config struct {
	// Dir keeps the network on disk; it is made if missing. Empty means memory only.
	Dir string
	// Sync makes each block survive loss of power before anybody can see it, at the price of one disk flush a block.
	// Without it blocks survive the death of the process, not of the machine.
	Sync bool
	// Now is the chain's clock; nil means time.Now. A block's time is Now's, or that of the block before if Now went back.
	Now func() time.Time
	// BlockTime is what Run waits before the next block while there is something to put into it; 0 means 500 ms.
	BlockTime time.Duration
	// IdleTime is what Run waits before an empty block, so that chain time goes on; 0 means 30 s. An empty block takes
	// about 3 KB of disk, so that a network grows by 9 MB a day.
	IdleTime time.Duration
	// SameBlock delivers messages between accounts within the block that sent them, as inside one shard. Otherwise they
	// arrive in the next block.
	SameBlock bool
	// Seed makes the network's keys, and with them every block, the same each time; nil means random keys. It has no
	// effect on a network that Dir already holds.
	Seed []byte
	// Params is the blockchain config, as the root of its dictionary; nil means DevConfig. The validator set is always
	// ours. It has no effect on a network that Dir already holds.
	Params *cell.Cell
	// Logger is told about dropped messages and recovery; nil discards.
	Logger *slog.Logger
}

// Defaults of Config.
const (
	defaultBlockTime = 500 * time.Millisecond
	defaultIdleTime  = 30 * time.Second
)

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BlockTime <= 0 {
		c.BlockTime = defaultBlockTime
	}
	if c.IdleTime <= 0 {
		c.IdleTime = defaultIdleTime
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Limits of a network.
const (
	// MaxExternal is the largest external message in bytes, as in real nodes.
	MaxExternal = 65535
	// MaxExternalDepth is the deepest external message in cells.
	MaxExternalDepth = 512
	// MaxPending bounds the external messages that wait for a block; further ones are refused.
	MaxPending = 4096
	// MaxBlockTransactions bounds a block; what remains goes into the next one.
	MaxBlockTransactions = 20_000
	// KeepStates is for how many blocks states can be asked. Blocks and transactions are kept for ever.
	KeepStates = 4096
	// keepBlocks bounds the parsed blocks in memory.
	keepBlocks = 512
	// keepAccounts bounds the parsed accounts in memory.
	keepAccounts = 100_000
	// snapshotEvery is how many blocks may have to be read again when a network is opened.
	snapshotEvery = 1024
)

package tonnet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Net is a TON network. It is safe for concurrent use.
type Net struct {
	cfg     Config
	log     *slog.Logger
	genesis genesis
	// validator signs every masterchain block; setHash names it there.
	validator ed25519.PrivateKey
	setHash   uint32
	params    *cell.Cell
	prices    *tvm.PreparedBlockchainConfig
	vm        *tvm.TVM
	lock      *os.File

	// mu guards all that follows. Holding it over every answer and every block means that each sees one whole chain.
	mu    sync.Mutex
	chain *archive
	// accounts caches parsed accounts as of the newest block.
	accounts map[accountKey]*account
	// mempool and gifts wait for the next block, in the order of their coming.
	mempool []*cell.Cell
	gifts   []*cell.Cell
	// grown is closed and replaced when a block is added.
	grown   chan struct{}
	servers uint32
	stats   Stats
	closed  bool
	// work wakes Run; one token is enough, as Run looks for itself.
	work chan struct{}
}

// Block names a block that was made.
type Block struct {
	// Seqno counts masterchain blocks from 1.
	Seqno uint32
	// Time is the block's chain time.
	Time time.Time
	// Transactions counts those of both chains.
	Transactions int
}

// Stats counts what a network did since it was opened.
type Stats struct {
	Blocks, Transactions int
	// Refused counts external messages that no contract would pay for, Dropped those that were accepted and then could
	// not run when their block was made.
	Refused, Dropped int
}

// ErrClosed is returned by everything after Close.
var ErrClosed = errors.New("tonnet: network is closed")

// Open makes a network, or goes on with the one in cfg.Dir. A new network has one block.
func Open(cfg Config) (*Net, error) {
	n := &Net{cfg: cfg.withDefaults(), vm: tvm.NewTVM(), accounts: map[accountKey]*account{}, grown: make(chan struct{}), work: make(chan struct{}, 1)}
	n.log = n.cfg.Logger
	if err := n.load(); err != nil {
		n.release()
		return nil, err
	}
	if n.chain.last() == 0 {
		if _, err := n.produce(); err != nil {
			n.release()
			return nil, err
		}
	}
	return n, nil
}

// load reads the genesis, the blocks and the newest state.
func (n *Net) load() error {
	var err error
	if n.cfg.Dir == "" {
		n.genesis = newGenesis(n.cfg)
		n.chain, err = openArchive(&memory{}, false)
	} else {
		err = n.openDir()
	}
	if err != nil {
		return err
	}
	n.validator = n.genesis.key("validator", 0)
	public := n.validator.Public().(ed25519.PublicKey)
	if n.setHash, err = validatorSetHash(public); err != nil {
		return fmt.Errorf("tonnet: %w", err)
	}
	if n.params, err = n.genesis.params(public); err != nil {
		return err
	}
	if n.prices, err = tvm.PrepareBlockchainConfig(n.params); err != nil {
		return schemas.Errorf(schemas.KindInvalid, "tonnet: blockchain config: %w", err)
	}
	return n.restore()
}

// openDir opens the files of a network on disk.
func (n *Net) openDir() error {
	if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("tonnet: %w", err)
	}
	var err error
	if n.lock, err = lockDir(n.cfg.Dir); err != nil {
		return err
	}
	if n.genesis, err = loadGenesis(n.cfg); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(n.cfg.Dir, blocksFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("tonnet: %w", err)
	}
	chain, err := openArchive(f, n.cfg.Sync)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	n.chain = chain
	return nil
}

// Close keeps the newest state, so that the next start is quick, and releases the directory.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	return errors.Join(n.snapshot(), n.release())
}

// release closes the files.
func (n *Net) release() error {
	var errs []error
	if n.chain != nil {
		errs = append(errs, n.chain.log.on.Close())
	}
	if n.lock != nil {
		errs = append(errs, unlockDir(n.lock))
	}
	return errors.Join(errs...)
}

// Run makes blocks until the context ends: BlockTime after something waits, and every IdleTime otherwise. It returns nil
// when the context ends and the error when a block could not be made.
func (n *Net) Run(ctx context.Context) error {
	for {
		if !n.pause(ctx, n.cfg.IdleTime, n.work) || n.busy() && !n.pause(ctx, n.cfg.BlockTime, nil) {
			return nil
		}
		if _, err := n.Produce(); err != nil {
			return err
		}
		if n.busy() {
			n.wake()
		}
	}
}

// pause waits for d, or less if early has something. It reports false when the context ended.
func (n *Net) pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-early:
	}
	return ctx.Err() == nil
}

// busy reports whether something waits for a block.
func (n *Net) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.waiting() > 0
}

// waiting counts the messages that the next block would deliver.
func (n *Net) waiting() int {
	b, err := n.chain.block(n.chain.last())
	if err != nil {
		return 0
	}
	return len(n.mempool) + len(n.gifts) + len(b.carry)
}

// wake tells Run that something waits.
func (n *Net) wake() {
	select {
	case n.work <- struct{}{}:
	default:
	}
}

// Produce makes one block of each chain, delivering what waits.
func (n *Net) Produce() (Block, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.produce()
}

// ProduceAll makes blocks until nothing waits, at most limit of them.
func (n *Net) ProduceAll(limit int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ; limit > 0 && n.waiting() > 0; limit-- {
		if _, err := n.produce(); err != nil {
			return err
		}
	}
	return nil
}

// produce collates, seals and commits. After an error the network is as it was.
func (n *Net) produce() (Block, error) {
	if n.closed {
		return Block{}, ErrClosed
	}
	d, err := n.collate()
	if err != nil {
		return Block{}, err
	}
	r, b, w, err := n.seal(d)
	if err != nil {
		return Block{}, err
	}
	if err = n.chain.commit(r, b, w); err != nil {
		return Block{}, err
	}
	for key, acc := range d.accounts {
		n.remember(key, acc)
	}
	n.gifts, n.mempool = nil, nil
	n.stats.Blocks++
	n.stats.Transactions += len(d.transactions)
	close(n.grown)
	n.grown = make(chan struct{})
	if d.seqno%snapshotEvery == 0 {
		if err = n.snapshot(); err != nil {
			n.log.Warn("state not kept, the next start will take longer", "error", err)
		}
	}
	return Block{Seqno: d.seqno, Time: time.Unix(int64(d.utime), 0).UTC(), Transactions: len(d.transactions)}, nil
}

// Faucet gives money to an account, by a message from the zero address in the next block.
func (n *Net) Faucet(to *address.Address, amount tlb.Coins) error {
	return n.Give(to, amount, "")
}

// Give is Faucet with a comment.
func (n *Net) Give(to *address.Address, amount tlb.Coins, comment string) error {
	if wc := to.Workchain(); to.Type() != address.StdAddress || wc != basechain && wc != masterchain {
		return schemas.FieldError("address", "must be a standard address of the basechain or the masterchain")
	}
	body := cell.BeginCell()
	if comment != "" {
		if err := body.MustStoreUInt(0, 32).StoreStringSnake(comment); err != nil {
			return schemas.FieldError("comment", "does not fit")
		}
	}
	return n.give(&tlb.InternalMessage{DstAddr: to, Amount: amount, Body: body.EndCell()})
}

// Deploy makes a contract with the given code and data on the basechain, by a message in the next block that carries
// money, an empty body and the contract's state. It returns the contract's address. Code that throws on that message is
// not deployed.
func (n *Net) Deploy(code, data *cell.Cell, amount tlb.Coins) (*address.Address, error) {
	state := &tlb.StateInit{Code: code, Data: data}
	c, err := tlb.ToCell(state)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "tonnet: contract: %w", err)
	}
	to := address.NewAddress(0, basechain, c.Hash())
	return to, n.give(&tlb.InternalMessage{DstAddr: to, Amount: amount, StateInit: state, Body: cell.BeginCell().EndCell()})
}

// give puts a message from the zero address into the next block.
func (n *Net) give(msg *tlb.InternalMessage) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	if len(n.gifts) >= MaxPending {
		return schemas.Errorf(schemas.KindBusy, "tonnet: %d gifts wait for a block", len(n.gifts))
	}
	msg.IHRDisabled, msg.SrcAddr = true, address.NewAddress(0, basechain, make([]byte, 32))
	msg.CreatedLT, msg.CreatedAt = n.chain.entry(n.chain.last()).endLT, uint32(n.cfg.Now().Unix())
	m, err := tlb.ToCell(msg)
	if err != nil {
		return schemas.Errorf(schemas.KindInvalid, "tonnet: gift: %w", err)
	}
	n.gifts = append(n.gifts, m)
	n.wake()
	return nil
}

// Balance is what an account has as of the newest block.
func (n *Net) Balance(a *address.Address) (tlb.Coins, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	acc, err := n.account(keyOf(a))
	if err != nil || !acc.exists() {
		return tlb.Coins{}, err
	}
	return acc.prepared.State().Balance, nil
}

// History returns all transactions of an account, oldest first.
func (n *Net) History(a *address.Address) ([]*tlb.Transaction, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := keyOf(a)
	acc, err := n.account(key)
	if err != nil {
		return nil, err
	}
	var out []*tlb.Transaction
	for lt := acc.prepared.ShardAccount().LastTransLT; lt > 0; {
		c, _, err := n.chain.transaction(key, lt)
		if err != nil {
			return nil, err
		}
		tx := new(tlb.Transaction)
		if err = tlb.Parse(tx, c); err != nil {
			return nil, fmt.Errorf("tonnet: %w", err)
		}
		tx.Hash = c.Hash()
		out = append(out, tx)
		lt = tx.PrevTxLT
	}
	slices.Reverse(out)
	return out, nil
}

// Now is the time of the newest block.
func (n *Net) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Unix(int64(n.chain.entry(n.chain.last()).utime), 0).UTC()
}

// Genesis is the first masterchain block, which clients trust at the start.
func (n *Net) Genesis() *tonapi.BlockIDExt { return n.masterBlock(1) }

// Last is the newest masterchain block.
func (n *Net) Last() *tonapi.BlockIDExt { return n.masterBlock(0) }

// masterBlock names a masterchain block; 0 means the newest.
func (n *Net) masterBlock(seqno uint32) *tonapi.BlockIDExt {
	n.mu.Lock()
	defer n.mu.Unlock()
	if seqno == 0 {
		seqno = n.chain.last()
	}
	return n.chain.entry(seqno).id(masterchain)
}

// Stats returns the counters.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

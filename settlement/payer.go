package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// PayerConfig configures a Payer. Amounts and times are policy; correctness does not depend on them.
type PayerConfig struct {
	Ledger   *Ledger
	Treasury Treasury
	// Journal receives every batch before it is sent; nil keeps none, and then a restored ledger cannot recover by
	// itself: it stops payouts when it sees payments it does not know.
	Journal Journal
	// Threshold pays an owner who has earned that much; 0 means 0.1 TON, where the chain takes 1 %. An owner's own
	// minimum counts too.
	Threshold schemas.NanoTON
	// MaxAge pays an owner whose oldest unpaid earning is that old although the threshold is not reached; 0 means 24 h,
	// negative never.
	MaxAge time.Duration
	// Least is the smallest amount that MaxAge pays; 0 means 0.02 TON, where the chain takes 5 %.
	Least schemas.NanoTON
	// Floor is kept in the wallet for its own storage; 0 means 1 TON.
	Floor schemas.NanoTON
	// BatchSize is the most transfers of a batch; 0 means ton.MaxTransfers.
	BatchSize int
	// MaxOpen is the most batches in flight; 0 means 64.
	MaxOpen int
	// Poll is the pause between rounds; 0 means 5 s.
	Poll time.Duration
	// OnAlert is told about everything that needs a person; it must not block. nil only logs.
	OnAlert func(Alert)
	Logger  *slog.Logger
}

// Defaults of PayerConfig.
const (
	defaultThreshold = schemas.TON / 10
	defaultMaxAge    = 24 * time.Hour
	defaultLeast     = schemas.TON / 50
	defaultFloor     = schemas.TON
	defaultMaxOpen   = 64
	// maxJournalPage is how many forgotten batches are read back at a time.
	maxJournalPage = 100
)

// Payer pays what is owed, exactly once.
//
// One round (Tick) recalls batches that the ledger forgot, follows the wallet's history and judges by it, writes new
// batches, publishes and sends what is signed. Every step is either one commit or may be repeated; nothing is kept in
// memory between rounds. Two payers on one ledger do no harm: they send the same bytes.
type Payer struct {
	cfg    PayerConfig
	follow follower
	// mu lets one round run at a time and guards the fields below.
	mu sync.Mutex
	// recalled says that the journal was read: what it holds beyond this ledger does not grow behind our back.
	recalled bool
	// raised are the alerts of the round; they are told after the commit that keeps them.
	raised []Alert
}

// NewPayer checks the configuration.
func NewPayer(cfg PayerConfig) (*Payer, error) {
	if cfg.Ledger == nil || cfg.Treasury == nil {
		return nil, schemas.FieldError("payer", "needs Ledger and Treasury")
	}
	if cfg.BatchSize < 0 || cfg.BatchSize > ton.MaxTransfers {
		return nil, schemas.FieldError("batch_size", "must lie between 1 and "+strconv.Itoa(ton.MaxTransfers))
	}
	cfg.Threshold = positive(cfg.Threshold, defaultThreshold)
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultMaxAge
	}
	cfg.Least = positive(cfg.Least, defaultLeast)
	cfg.Floor = positive(cfg.Floor, defaultFloor)
	cfg.BatchSize = positive(cfg.BatchSize, ton.MaxTransfers)
	cfg.MaxOpen = positive(cfg.MaxOpen, defaultMaxOpen)
	cfg.Poll = positive(cfg.Poll, defaultPoll)
	cfg.Logger = logger(cfg.Logger)
	p := &Payer{cfg: cfg}
	p.follow = follower{ledger: cfg.Ledger, wallet: cfg.Treasury, role: roleTreasury, apply: p.apply, last: p.expire}
	return p, nil
}

// Run pays until ctx ends; while the chain is away, payouts wait and nothing else does. It returns early only on
// KindCorrupt.
func (p *Payer) Run(ctx context.Context) error {
	said := ""
	for {
		err := p.Tick(ctx, false)
		switch {
		case ctx.Err() != nil:
			return nil
		case schemas.KindOf(err) == schemas.KindCorrupt:
			return err
		case err == nil:
			said = ""
		case err.Error() != said: // what lasts for days is said once
			said = err.Error()
			p.cfg.Logger.Warn("payouts wait", slog.Any("error", err))
		}
		if !pause(ctx, p.cfg.Poll) {
			return nil
		}
	}
}

// Tick makes one round. force pays every positive balance of at least its owner's minimum, whatever the thresholds
// say. While payouts are stopped the round still follows the chain and judges, and ends with ErrStopped.
func (p *Payer) Tick(ctx context.Context, force bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raised = nil
	err := p.round(ctx, force)
	for _, a := range p.raised {
		p.cfg.Logger.Warn("payout alert", slog.String("kind", string(a.Kind)), slog.String("subject", a.Subject), slog.String("detail", a.Detail))
		if p.cfg.OnAlert != nil {
			p.cfg.OnAlert(a)
		}
	}
	return err
}

// round is Tick without the telling.
func (p *Payer) round(ctx context.Context, force bool) error {
	if err := p.recall(ctx); err != nil {
		return err
	}
	if _, err := p.follow.walk(ctx); err != nil {
		if errors.Is(err, errMoved) {
			return nil // another payer is at work on the same wallet; the next round sees what it did
		}
		return err
	}
	state, err := p.cfg.Treasury.State(ctx)
	if err != nil {
		return away(err)
	}
	if err := p.bookGas(ctx, state); err != nil {
		return err
	}
	w, err := p.cfg.Ledger.openWallet(ctx, p.cfg.Treasury.Address(), roleTreasury)
	if err != nil {
		return err
	}
	if w.stopped != "" {
		return fmt.Errorf("%w: %s", ErrStopped, w.stopped)
	}
	if err := p.plan(ctx, w, state, force || w.forced); err != nil {
		return err
	}
	if w.forced {
		if err := p.cfg.Ledger.unforce(ctx, w); err != nil {
			return err
		}
	}
	return p.send(ctx, w, state.At)
}

// recall reads back batches that this ledger does not know, before anything new is signed: it was restored from an old
// copy, and signing now could pay the same money twice.
func (p *Payer) recall(ctx context.Context) error {
	if p.recalled || p.cfg.Journal == nil {
		return nil
	}
	w, err := p.cfg.Ledger.openWallet(ctx, p.cfg.Treasury.Address(), roleTreasury)
	if err != nil {
		return err
	}
	for {
		last, err := p.cfg.Ledger.lastBatch(ctx)
		if err != nil {
			return err
		}
		records, err := p.cfg.Journal.After(ctx, last, maxJournalPage)
		if err != nil {
			return schemas.Errorf(schemas.KindUnavailable, "journal: %w", err)
		}
		for _, raw := range records {
			number, err := p.cfg.Ledger.recall(ctx, w.address, raw)
			if err != nil {
				return err
			}
			if err := p.raise(ctx, w, AlertRestored, strconv.FormatUint(number, 10), "a batch that this ledger had forgotten was read back"); err != nil {
				return err
			}
		}
		if len(records) == 0 {
			p.recalled = true
			return nil
		}
	}
}

// lastBatch is the highest batch number.
func (l *Ledger) lastBatch(ctx context.Context) (n uint64, err error) {
	err = l.read(ctx, func(t *tx) error {
		_, err := t.one([]any{&n}, "SELECT COALESCE(MAX(number), 0) FROM batches")
		return err
	})
	return n, err
}

// raise keeps an alert in a commit of its own.
func (p *Payer) raise(ctx context.Context, w walletRow, kind AlertKind, subject, detail string) error {
	return p.cfg.Ledger.write(ctx, func(t *tx) error { return p.alert(t, w, kind, subject, detail) })
}

// alert keeps an alert in a transaction and remembers to tell it.
func (p *Payer) alert(t *tx, w walletRow, kind AlertKind, subject, detail string) error {
	a, fresh, err := t.alert(w, kind, subject, detail)
	if fresh {
		p.raised = append(p.raised, a)
	}
	return err
}

// plan writes batches for everything that is due and that the wallet can pay.
func (p *Payer) plan(ctx context.Context, w walletRow, state ton.State, force bool) error {
	open, budget, err := p.budget(ctx, w, state)
	if err != nil || open >= p.cfg.MaxOpen {
		return err
	}
	list, err := p.cfg.Ledger.due(ctx, w, rules{
		threshold: p.cfg.Threshold, least: p.cfg.Least, maxAge: p.cfg.MaxAge, force: force,
		limit: (p.cfg.MaxOpen - open) * p.cfg.BatchSize,
	})
	if err != nil {
		return err
	}
	short := false
	for len(list) > 0 && open < p.cfg.MaxOpen {
		deploy := !state.Deployed
		taken, rest, lacking := fill(list, p.cfg.BatchSize, budget, func(items []due) ton.Batch {
			return unsigned(0, 0, time.Time{}, deploy, schemas.Hash{}, items)
		})
		list, short = rest, short || lacking
		if len(taken) == 0 {
			break
		}
		r, err := p.cfg.Ledger.writeBatch(ctx, w, p.cfg.Treasury, state.At, deploy, taken)
		if err != nil || r == nil {
			return err
		}
		p.cfg.Logger.Info("payout batch signed", slog.Uint64("batch", r.Statement.Batch), slog.Int("items", len(taken)))
		budget -= schemas.NanoTON(r.Cost)
		open++
	}
	if !short {
		return nil
	}
	last, err := p.cfg.Ledger.lastBatch(ctx)
	if err != nil {
		return err
	}
	return p.raise(ctx, w, AlertFunds, fmt.Sprintf("after batch %d", last),
		fmt.Sprintf("%d payments wait for money; the wallet holds %s", len(list), state.Balance))
}

// budget is what new batches may cost: the proven balance less the floor and all that batches in flight may still
// take. The balance is as of a block at least as new as the history that was judged, so a batch can only be counted
// twice, never not at all.
func (p *Payer) budget(ctx context.Context, w walletRow, state ton.State) (open int, budget schemas.NanoTON, err error) {
	budget = state.Balance - p.cfg.Floor
	err = p.cfg.Ledger.read(ctx, func(t *tx) error {
		batches, err := t.openBatches(w.id)
		for _, b := range batches {
			budget -= b.cost
		}
		open = len(batches)
		return err
	})
	return open, budget, err
}

// send publishes and sends every signed batch that may still be taken. It runs in every round until history has the
// answer; the bytes are always the same.
func (p *Payer) send(ctx context.Context, w walletRow, at ton.BlockTime) error {
	var batches []openBatch
	err := p.cfg.Ledger.read(ctx, func(t *tx) (err error) {
		batches, err = t.openBatches(w.id)
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range batches {
		if b.state != batchSigned || p.cfg.Treasury.Expired(b.created, at) {
			continue
		}
		if err := p.publish(ctx, b); err != nil {
			return err
		}
		boc, err := bocOf(b.record)
		if err != nil {
			return err
		}
		if err := p.cfg.Treasury.Send(ctx, boc); err != nil {
			p.cfg.Logger.Debug("send answered an error, which says nothing", slog.Uint64("batch", b.number), slog.Any("error", err))
		}
	}
	return nil
}

// publish puts a batch into the journal, where a restored ledger will find it. Only then may it be sent.
func (p *Payer) publish(ctx context.Context, b openBatch) error {
	if b.published || p.cfg.Journal == nil {
		return nil
	}
	if err := p.cfg.Journal.Put(ctx, b.number, b.record); err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "journal: %w", err)
	}
	// A crash here puts the same record again, which the journal answers with success.
	return p.cfg.Ledger.write(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE batches SET published = 1 WHERE number = ?", int64(b.number))
		return err
	})
}

// bocOf takes the signed bytes out of a record.
func bocOf(record []byte) ([]byte, error) {
	var r batchRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, corrupt("a stored batch does not parse: %w", err)
	}
	return r.BoC, nil
}

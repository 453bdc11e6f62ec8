package settlement

import (
	"context"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// CreditStore is the bucket that brokers read. The last Put of a tenant wins.
type CreditStore interface {
	Put(ctx context.Context, tenant schemas.TenantID, value []byte) error
}

// CreditConfig configures a CreditPublisher.
type CreditConfig struct {
	Ledger *Ledger
	Store  CreditStore
	// Brokers is the number of broker replicas that share a tenant's window; 0 means 1.
	Brokers int
	// Delay is the least time between two looks at the ledger; 0 means 200 ms.
	Delay time.Duration
	// Refresh is how often unchanged entries are published again; 0 means 1 min.
	Refresh time.Duration
	Logger  *slog.Logger
}

// Defaults of CreditConfig.
const (
	defaultCreditDelay   = 200 * time.Millisecond
	defaultCreditRefresh = time.Minute
	maxBrokers           = 1000
)

// CreditPublisher keeps the brokers' view of the tenants' credit.
//
// How far a tenant can overdraw. A broker never has more reserved than the published figure, and keeps a reservation
// until the outcome is booked in the figure (Through) or the job is given back. The figures of all brokers together are
// at most w = min(balance, stake), so as long as no broker forgets, nothing is overdrawn at all. A broker that restarts
// forgets its reservations and may give out its share again: work of at most 2·w is then unbooked. Since
// 2·min(balance, stake) ≤ balance + stake, what exceeds the balance is at most the stake, which is locked money of the
// tenant. While settlement is away the figures stand still, so the bound holds for as long as it is.
type CreditPublisher struct {
	cfg  CreditConfig
	last map[schemas.TenantID]standing
}

// standing is a tenant's credit and the balance behind it.
type standing struct {
	schemas.Credit
	balance schemas.NanoTON
}

// NewCreditPublisher checks the configuration.
func NewCreditPublisher(cfg CreditConfig) (*CreditPublisher, error) {
	if cfg.Ledger == nil || cfg.Store == nil {
		return nil, schemas.FieldError("credit", "needs Ledger and Store")
	}
	if cfg.Brokers < 0 || cfg.Brokers > maxBrokers {
		return nil, schemas.FieldError("brokers", "must lie between 1 and 1,000")
	}
	cfg.Brokers = positive(cfg.Brokers, 1)
	cfg.Delay = positive(cfg.Delay, defaultCreditDelay)
	cfg.Refresh = positive(cfg.Refresh, defaultCreditRefresh)
	cfg.Logger = logger(cfg.Logger)
	return &CreditPublisher{cfg: cfg, last: map[schemas.TenantID]standing{}}, nil
}

// Run publishes until ctx ends.
func (p *CreditPublisher) Run(ctx context.Context) error {
	for {
		changed := p.cfg.Ledger.Changed() // taken before looking, so that no change falls between
		if _, err := p.Publish(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("credit not published", slog.Any("error", err))
		}
		// Holds and other processes' commits do not signal: look at least every second.
		wait, cancel := context.WithTimeout(ctx, max(time.Second, p.cfg.Delay))
		select {
		case <-changed:
		case <-wait.Done():
		}
		cancel()
		if !pause(ctx, p.cfg.Delay) {
			return nil
		}
	}
}

// Publish puts every entry that changed or is due again and returns how many that were. An entry has changed when the
// figure or the balance has: a booked job moves the balance even where the stake alone decides the figure, and brokers
// wait for the new Through. A position that moved without anything booked for a tenant waits for the refresh.
func (p *CreditPublisher) Publish(ctx context.Context) (int, error) {
	entries, err := p.cfg.Ledger.credits(ctx, p.cfg.Brokers)
	if err != nil {
		return 0, err
	}
	count := 0
	for id, now := range entries {
		was, known := p.last[id]
		if known && was.Available == now.Available && was.balance == now.balance && now.Updated.Sub(was.Updated) < p.cfg.Refresh {
			continue
		}
		value, err := now.Encode()
		if err != nil {
			return count, err
		}
		if err := p.cfg.Store.Put(ctx, id, value); err != nil {
			return count, err
		}
		p.last[id] = now
		count++
	}
	return count, nil
}

// credits computes what brokers may know of every tenant, for a number of brokers.
func (l *Ledger) credits(ctx context.Context, brokers int) (map[schemas.TenantID]standing, error) {
	all := map[schemas.TenantID]standing{}
	err := l.read(ctx, func(t *tx) error {
		through, err := t.position()
		if err != nil {
			return err
		}
		base, err := t.base()
		if err != nil {
			return err
		}
		now := time.Unix(t.now, 0).UTC()
		return t.each(func(scan func(...any) error) error {
			var id schemas.TenantID
			var key []byte
			var balance, stake, reserved schemas.NanoTON
			err := scan(&id, &key, &balance, &stake, &reserved)
			window := max(0, min(balance, stake)-reserved)
			all[id] = standing{schemas.Credit{
				V: 1, Available: window / schemas.NanoTON(brokers), Key: key, Updated: now, Through: through - base,
			}, balance}
			return err
		}, `SELECT t.id, t.key, a.balance, s.balance, COALESCE(h.amount, 0) FROM tenants t
			JOIN accounts a ON a.id = t.account JOIN accounts s ON s.id = t.stake
			LEFT JOIN (SELECT tenant, SUM(amount) AS amount FROM holds WHERE expires > ? GROUP BY tenant) h ON h.tenant = t.id`, t.now)
	})
	return all, err
}

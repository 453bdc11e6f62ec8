package dashboard

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// How often the sources are looked at.
const (
	lookEvery    = 2 * time.Second
	moneyEvery   = 3 * time.Second
	trustEvery   = 5 * time.Second
	deadEvery    = 3 * time.Second
	batchesEvery = 3 * time.Second
	// lookTimeout bounds one look at one source; a source that hangs must not stop the others.
	lookTimeout = 3 * time.Second
)

// keep stores a section's new values, or notes the problem beside the old ones.
func keep[T any](section *T, fresh *Freshness, next T, err error, now time.Time) {
	if err == nil {
		*section = next
		return
	}
	if fresh.Problem == "" {
		fresh.Since = now
	}
	fresh.Problem = problem(err)
}

// problem says for a page why a source could not be read. It shows the kind and the message, never a cause.
func problem(err error) string {
	if schemas.KindOf(err) != schemas.KindUnknown {
		return err.Error()
	}
	return "cannot be reached"
}

// readMoney asks settlement.
func (d *Dashboard) readMoney(ctx context.Context) (Money, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return d.conf.Money.Money(ctx)
}

// readDead counts the dead letters, and lists the newest when there are others than before.
func (d *Dashboard) readDead(ctx context.Context) (Dead, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	state, err := d.conf.Bus.DeadLetterState(ctx)
	if err != nil {
		return Dead{}, err
	}
	dead := Dead{Count: state.Count, Letters: d.view.Dead.Letters}
	if state == d.deadState {
		return dead, nil
	}
	if dead.Letters, err = d.conf.Bus.NewestDead(ctx, 0, MaxDead); err != nil {
		return Dead{}, err
	}
	d.deadState = state
	return dead, nil
}

// wait sleeps until d has passed or ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

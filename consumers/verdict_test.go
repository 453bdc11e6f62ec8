package consumers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	kind := func(k schemas.Kind) error { return &schemas.Error{Kind: k} }
	for _, c := range []struct {
		err    error
		action action
		status schemas.Status
		kind   schemas.Kind
	}{
		{errLeaseLost, drop, "", schemas.KindLeased},
		{fmt.Errorf("retry: %w", streams.ErrLeaseLost), drop, "", schemas.KindLeased},
		{errDraining, again, "", schemas.KindUnavailable},
		{errHung, again, "", schemas.KindEngine},
		{errTooLong, again, "", schemas.KindEngine},
		{errStopped, finish, schemas.Cancelled, schemas.KindCancelled},
		{errOverdue, finish, schemas.Expired, schemas.KindExpired},
		{kind(schemas.KindLeased), again, "", schemas.KindLeased},
		{kind(schemas.KindBusy), again, "", schemas.KindBusy},
		{kind(schemas.KindUnavailable), again, "", schemas.KindUnavailable},
		{kind(schemas.KindAttestation), again, "", schemas.KindAttestation},
		{kind(schemas.KindPolicy), again, "", schemas.KindPolicy},
		{kind(schemas.KindPrice), again, "", schemas.KindPrice},
		{kind(schemas.KindEngine), again, "", schemas.KindEngine},
		{kind(schemas.KindInternal), again, "", schemas.KindInternal},
		{errors.New("nobody classified this"), again, "", schemas.KindInternal},
		{kind(schemas.KindInvalid), finish, schemas.Failed, schemas.KindInvalid},
		{kind(schemas.KindTooLarge), finish, schemas.Failed, schemas.KindTooLarge},
		{kind(schemas.KindCredit), finish, schemas.Failed, schemas.KindCredit},
		{kind(schemas.KindKeyLost), finish, schemas.Failed, schemas.KindKeyLost},
		{kind(schemas.KindSealed), finish, schemas.Failed, schemas.KindSealed},
		{kind(schemas.KindPoison), finish, schemas.Failed, schemas.KindPoison},
		{kind(schemas.Kind(999)), again, "", schemas.Kind(999)},
	} {
		v := judge(c.err)
		if v.action != c.action || v.status != c.status || v.kind != c.kind {
			t.Errorf("%v: got %+v, want action %d, status %q, kind %v", c.err, v, c.action, c.status, c.kind)
		}
		if v.action == again && v.after <= 0 {
			t.Errorf("%v: goes back without a delay", c.err)
		}
	}
}

// TestJudgeCoversEveryKind: no kind gives an outcome that may not be published.
func TestJudgeCoversEveryKind(t *testing.T) {
	t.Parallel()
	for k := schemas.Kind(0); k < 64; k++ {
		v := judge(&schemas.Error{Kind: k})
		if v.action != finish {
			continue
		}
		o := schemas.Outcome{Status: v.status, Kind: v.kind}
		if err := o.Check(); err != nil {
			t.Errorf("kind %v ends in an impossible outcome: %v", k, err)
		}
	}
}

func TestJudgeObeysRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ asked, want time.Duration }{{7 * time.Second, 7 * time.Second}, {time.Hour, maxDelay}} {
		if v := judge(&schemas.Error{Kind: schemas.KindBusy, RetryAfter: c.asked}); v.after != c.want {
			t.Errorf("asked for %v: waits %v, want %v", c.asked, v.after, c.want)
		}
	}
}

func TestPoisonEndsOnlyWhatCounts(t *testing.T) {
	t.Parallel()
	if v := judge(errHung).poison(); v.action != finish || v.kind != schemas.KindPoison || !v.bury {
		t.Errorf("a job that hangs every engine: %+v", v)
	}
	if v := judge(errDraining).poison(); v.action != again {
		t.Errorf("a job whose last worker drained: %+v", v)
	}
}

func TestOnPrefersTheCause(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	broken := errors.New("stream died")
	if got := on(ctx, broken); got != broken {
		t.Errorf("while the context lives: %v", got)
	}
	cancel(errStopped)
	if got := on(ctx, broken); !errors.Is(got, errStopped) {
		t.Errorf("after a cancel: %v", got)
	}
	if got := on(ctx, nil); got != nil {
		t.Errorf("a success became %v", got)
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(time.Second)
		if d < 500*time.Millisecond || d >= 1500*time.Millisecond {
			t.Fatalf("jitter of 1 s gave %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different delays of 100", len(seen))
	}
}

// TestWaitGrows: a job that finds no room asks less and less often, down to a bound; other delays stay what they are.
func TestWaitGrows(t *testing.T) {
	t.Parallel()
	busy := judge(&schemas.Error{Kind: schemas.KindBusy, RetryAfter: 4 * time.Second})
	for delivered, want := range map[int]time.Duration{1: 4 * time.Second, 2: 8 * time.Second, 3: 16 * time.Second, 4: maxBusyDelay, 9000: maxBusyDelay} {
		if got := busy.wait(delivered); got != want {
			t.Errorf("after %d deliveries %v, want %v", delivered, got, want)
		}
	}
	if long := judge(&schemas.Error{Kind: schemas.KindBusy, RetryAfter: time.Minute}); long.wait(9) != time.Minute {
		t.Errorf("a longer wait that the refusal asked for became %v", long.wait(9))
	}
	if away := judge(&schemas.Error{Kind: schemas.KindUnavailable}); away.wait(9) != away.after {
		t.Errorf("a broker that was away is asked after %v", away.wait(9))
	}
}

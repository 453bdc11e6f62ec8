package clocktest

import (
	"testing"
	"time"
)

func TestJump(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, d := range []time.Duration{0, time.Hour, -time.Hour, 1000 * time.Hour} {
		if got := Jump(now, d); got.Sub(now) != 0 || got.Unix() != now.Unix()+int64(d/time.Second) {
			t.Errorf("%v: %v became %v", d, now, got)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a time without a monotonic part was moved")
		}
	}()
	Jump(now.Round(0), time.Hour)
}

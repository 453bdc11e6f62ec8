package chaintest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/settlement/chaintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDevnet runs the suite on the devnet in every way that it can be reached.
func TestDevnet(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]chaintest.Options{
		"in process":          {},
		"in process, at once": {SameBlock: true},
		"ADNL":                {ADNL: true},
		"ADNL, three servers": {ADNL: true, Servers: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chaintest.Run(t, func(t testing.TB) chaintest.Backend { return chaintest.New(t, opt) })
		})
	}
}

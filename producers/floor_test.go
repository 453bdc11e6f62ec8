package producers_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestReplayedPolicyAfterRestart: a client that starts again knows which policy it has believed, and seals nothing under an
// older one.
func TestReplayedPolicyAfterRestart(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, producerstest.Echo)
	path := filepath.Join(t.TempDir(), "policy-floor")
	remembering := func(o *producers.Options) { o.FloorFile = path }
	if _, err := n.Client(t, remembering).Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) == 0 {
		t.Fatalf("nothing was remembered: %q, %v", b, err)
	}
	if err := os.WriteFile(path, []byte("1000\n"), 0o600); err != nil { // it has seen more since
		t.Fatal(err)
	}
	if _, err := n.Client(t, remembering).Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")}); !errors.Is(err, schemas.KindPolicy) {
		t.Errorf("the replayed policy was believed: %v", err)
	}
}

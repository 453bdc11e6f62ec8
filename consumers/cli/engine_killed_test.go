//go:build !worker

package cli

import (
	"encoding/json"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// TestEngineKilled: the engine of a worker is killed with SIGKILL in the middle of 16 jobs. The worker starts it again and
// all 16 are answered in full, each with one outcome.
func TestEngineKilled(t *testing.T) {
	t.Parallel()
	const jobs, tokens = 16, 450
	n := network(t)
	opened, err := OpenChild(ChildOptions{Program: program(t), Slots: jobs, Threads: 1})(t.Context(), weightsDir(t), schemas.Model{ID: n.model.ID, Context: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	engine := opened.(*child)
	end, err := n.serveOn(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()

	body := enginetest.Chat("bench", question).With("ignore_eos", true).With("max_completion_tokens", tokens).JSON(t)
	seals := enclave.NewSubmission(n.tenant, n.key)
	var sealed []enclave.SealedJob
	for range jobs {
		j, err := seals.Seal(schemas.Attributes{Budget: benchBudget}, schemas.Request{URL: consumers.PathChat, Body: body}, enclave.SpendLimit{Multiplier: schemas.One})
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, j)
	}
	for _, j := range sealed {
		if _, err := n.bus.PublishJob(t.Context(), streams.Job{Attributes: j.Attributes, Envelope: j.Envelope}); err != nil {
			t.Fatal(err)
		}
	}
	pid, _ := engine.Process()
	for engine.Capacity().Running < jobs {
		time.Sleep(time.Millisecond) // until all of them are in the engine
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}

	again := 0
	for _, j := range sealed {
		o, err := n.bus.AwaitOutcome(t.Context(), j.Attributes.Tenant, j.Attributes.ID)
		if err != nil {
			t.Fatal(err)
		}
		a, err := n.tenant.OpenResult(o, enclave.Expect{Job: j.Attributes.ID, Envelope: j.Hash, Broker: n.key.Broker()})
		if err = errors.Join(err, a.Result.Err()); err != nil {
			t.Fatalf("job %s: %v", j.Attributes.ID, err)
		}
		if a.Grant.Attempt > 1 {
			again++
		}
		var r enginetest.Response
		if err := json.Unmarshal(a.Result.Body, &r); err != nil || r.Usage == nil || r.Usage.Completion != tokens {
			t.Errorf("an answer is not whole: %v %s", err, a.Result.Body)
		}
	}
	if again < jobs/2 {
		t.Errorf("only %d of %d jobs were in the engine when it was killed", again, jobs)
	}
	if now, restarts := engine.Process(); now == pid || restarts != 1 {
		t.Errorf("process %d after %d, %d restarts", now, pid, restarts)
	}
	if outcomes := count(t, n); outcomes != jobs {
		t.Errorf("%d outcomes for %d jobs", outcomes, jobs)
	}
}

// count is the number of outcomes of the network.
func count(t *testing.T, n *benchNet) uint64 {
	t.Helper()
	js, err := jetstream.New(n.bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), streams.StreamOutcomes)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

package consumers

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// granterBundle is a granter whose brokers are the test.
type granterBundle struct {
	*granter
	stop func()

	mu      sync.Mutex
	sizes   []int
	took    time.Duration
	err     error
	refusal error
	refused []error
	denied  []schemas.Kind
}

// setupGranter runs a granter for the length of the test.
func setupGranter(t *testing.T) *granterBundle {
	t.Helper()
	b := &granterBundle{granter: newGranter()}
	b.call = func(ctx context.Context, jobs []enclave.Candidate) ([]enclave.Granted, error) {
		b.mu.Lock()
		b.sizes = append(b.sizes, len(jobs))
		took, err, refusal := b.took, b.err, b.refusal
		b.mu.Unlock()
		time.Sleep(took)
		if err != nil {
			return nil, err
		}
		granted := make([]enclave.Granted, len(jobs))
		for i := range granted {
			granted[i] = enclave.Granted{Job: &enclave.OpenJob{Attributes: jobs[i].Attributes}, Err: refusal}
		}
		return granted, nil
	}
	b.batches = func(int) {}
	b.granter.refused = func(err error) { b.refused = append(b.refused, err) }
	b.granter.denied = func(k schemas.Kind) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.denied = append(b.denied, k)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(ctx)
	}()
	b.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(b.stop)
	return b
}

// ask requests grants for n jobs at once and returns the answers.
func (b *granterBundle) ask(n int) []enclave.Granted {
	answers := make([]enclave.Granted, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id := schemas.JobID(string(rune('a' + i%26)))
			answers[i] = b.await(b.request(enclave.Candidate{Attributes: schemas.Attributes{ID: id}}))
			if answers[i].Job != nil && answers[i].Job.Attributes.ID != id {
				answers[i].Err = errors.New("the answer is for another job")
			}
		})
	}
	wg.Wait()
	return answers
}

// TestGrantsGather: jobs that ask while calls are under way go together, never more than a call may hold.
func TestGrantsGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupGranter(t)
		b.took = 10 * time.Millisecond
		const jobs = 500
		for i, a := range b.ask(jobs) {
			if a.Err != nil || a.Job == nil {
				t.Fatalf("job %d: %v", i, a.Err)
			}
		}
		if m := slices.Max(b.sizes); m > schemas.MaxGrantBatch {
			t.Errorf("a call held %d jobs", m)
		}
		if n := len(b.sizes); n > 3*jobs/schemas.MaxGrantBatch {
			t.Errorf("%d jobs took %d calls: they were not gathered (%v)", jobs, n, b.sizes)
		}
	})
}

// TestGrantAlone: one job does not wait for others.
func TestGrantAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupGranter(t)
		start := time.Now()
		b.ask(1)
		if took := time.Since(start); took != 0 {
			t.Errorf("waited %v for a batch", took)
		}
	})
}

func TestGrantCallFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupGranter(t)
		b.err = &schemas.Error{Kind: schemas.KindPolicy}
		for _, a := range b.ask(3) {
			if !errors.Is(a.Err, schemas.KindPolicy) {
				t.Errorf("answer %v", a.Err)
			}
		}
		if len(b.refused) == 0 {
			t.Error("nobody was told that the session failed")
		}
	})
}

// TestGrantRefusalIsOneJobs: a refusal of a job is not a failure of the session.
func TestGrantRefusalIsOneJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupGranter(t)
		b.refusal = &schemas.Error{Kind: schemas.KindCredit}
		b.ask(2)
		if len(b.refused) != 0 || !slices.Equal(b.denied, []schemas.Kind{schemas.KindCredit, schemas.KindCredit}) {
			t.Errorf("refused %v, denied %v", b.refused, b.denied)
		}
	})
}

// TestGranterEnds: no request hangs, whether it came before, during or after the end.
func TestGranterEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setupGranter(t)
		b.took = time.Second
		var wg sync.WaitGroup
		for i := range 600 { // far more than the calls under way and the channel hold
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				a := b.await(b.request(enclave.Candidate{}))
				if (a.Job == nil) == (a.Err == nil) {
					t.Errorf("request %d: %+v", i, a)
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		b.stop()
		wg.Wait()
		if a := b.await(b.request(enclave.Candidate{})); !errors.Is(a.Err, errDraining) {
			t.Errorf("after the end: %v", a.Err)
		}
	})
}

package broker_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestStanding: a worker on probation has one job at a time, a suspended one none.
func TestStanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var standing atomic.Int64
		b := setup(t, func(c *broker.Config) {
			c.Standing = func(schemas.WorkerID, schemas.Owner) broker.Standing { return broker.Standing(standing.Load()) }
		})
		try := func(want schemas.Kind) *enclave.OpenJob {
			t.Helper()
			open, err := b.try(t, b.worker, b.Call, enclavetest.Candidate(b.Seal(t, b.submission, "x")))
			if want == schemas.KindUnknown {
				noError(t, err)
			} else {
				wantKind(t, err, want)
			}
			return open
		}
		standing.Store(int64(broker.Suspended))
		try(schemas.KindDenied)
		standing.Store(int64(broker.Probation))
		first := try(schemas.KindUnknown)
		try(schemas.KindDenied)
		errs, err := b.worker.Done(t.Context(), b.Call, []*enclave.OpenJob{first})
		noError(t, err)
		noError(t, errs[0])
		try(schemas.KindUnknown)
		time.Sleep(31 * time.Second) // its lease lapses
		try(schemas.KindUnknown)
		standing.Store(int64(broker.Good))
		try(schemas.KindUnknown)
		try(schemas.KindUnknown)
	})
}

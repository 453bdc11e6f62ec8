package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// MaxHolds bounds one call of Reserve.
const MaxHolds = 256

// Hold reserves a job's ceiling until its outcome is booked, it is released, or it expires.
type Hold struct {
	Job     schemas.JobID
	Tenant  schemas.TenantID
	Amount  schemas.NanoTON
	Expires time.Time
}

// Reserve makes holds, in one commit. It returns one error per hold, nil for those that stand: KindCredit when the
// tenant's available credit does not cover it, KindNotFound for unknown tenants, KindReplayed for jobs that are booked
// already. A job that has a hold keeps it; its expiry is moved.
func (l *Ledger) Reserve(ctx context.Context, holds []Hold) ([]error, error) { panic("skeleton") }

// Release gives holds back; jobs without a hold are ignored.
func (l *Ledger) Release(ctx context.Context, jobs ...schemas.JobID) error { panic("skeleton") }

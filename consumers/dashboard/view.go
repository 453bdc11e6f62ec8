package dashboard

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of a view.
const (
	// MaxJobs is how many jobs the jobs page remembers, newest first.
	MaxJobs = 200
	// MaxDead is how many dead letters are listed, newest first; the count is exact beyond it.
	MaxDead = 200
	// HistorySpan is the time that charts go back, HistoryStep the time between their points.
	HistorySpan = 10 * time.Minute
	HistoryStep = 2 * time.Second
)

// View is one look at the network.
type View struct {
	Network Network `json:"network"`
	Workers Workers `json:"workers"`
	Jobs    Jobs    `json:"jobs"`
	Dead    Dead    `json:"dead"`
	Money   Money   `json:"money"`
	Trust   Trust   `json:"trust"`
	History History `json:"history"`
}

// Freshness says how old a section is.
type Freshness struct {
	// Problem is why the section could not be read at the last look, empty when it could.
	Problem string `json:"problem,omitempty"`
	// Since is the time of the last good look, set while there is a problem.
	Since time.Time `json:"since,omitzero"`
}

// Network is what waits and how fast it goes.
type Network struct {
	Freshness
	Environment schemas.Environment `json:"environment,omitempty"`
	Models      []ModelRow          `json:"models"`
	// WorkersOnline counts living entries; Slots and Busy sum over them.
	WorkersOnline int `json:"workers_online"`
	Slots         int `json:"slots"`
	Busy          int `json:"busy"`
	// JobsPerSecond and TokensPerSecond are averages over the last ten seconds.
	JobsPerSecond   float64 `json:"jobs_per_second"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	// JobsServed and TokensServed count since this dashboard began to look, MedianWait over the jobs it remembers.
	JobsServed   uint64        `json:"jobs_served"`
	TokensServed uint64        `json:"tokens_served"`
	MedianWait   time.Duration `json:"median_wait"`
	// Started is when it began to look.
	Started time.Time `json:"started"`
}

// ModelRow is a model with its price, its queues and its supply.
type ModelRow struct {
	Model     schemas.ModelID   `json:"model"`
	Name      string            `json:"name"`
	Slug      string            `json:"slug"`
	Context   int               `json:"context"`
	Endpoints []string          `json:"endpoints"`
	Price     schemas.Price     `json:"price"`
	Queues    []streams.Backlog `json:"queues"`
	Workers   int               `json:"workers"`
	Slots     int               `json:"slots"`
	Busy      int               `json:"busy"`
}

// Workers is every worker that is alive, with what control thinks of it.
type Workers struct {
	Freshness
	Workers []WorkerRow `json:"workers"`
}

// WorkerRow is one worker.
type WorkerRow struct {
	streams.WorkerEntry
	// Reputation is nil while control has said nothing yet.
	Reputation *streams.Reputation `json:"reputation,omitempty"`
	Seen       time.Time           `json:"seen"`
}

// Jobs is the newest outcomes. There is no page of waiting jobs: the queues show their number, and only the tenant knows
// what they are.
type Jobs struct {
	Freshness
	Jobs []JobRow `json:"jobs"`
}

// JobRow is the public story of one finished job. Times are as grant, receipt and stream state them.
type JobRow struct {
	Seq     uint64           `json:"seq"`
	Job     schemas.JobID    `json:"job"`
	Tenant  schemas.TenantID `json:"tenant"`
	Model   schemas.ModelID  `json:"model"`
	Class   schemas.Class    `json:"class,omitempty"`
	Status  schemas.Status   `json:"status"`
	Kind    string           `json:"kind,omitempty"`
	Worker  schemas.WorkerID `json:"worker,omitempty"`
	Attempt int              `json:"attempt,omitempty"`
	Usage   schemas.Usage    `json:"usage"`
	Ceiling schemas.NanoTON  `json:"ceiling,omitempty"`
	// Granted, Started, Finished and Stored are the timeline; zero when the job did not come that far.
	Granted  time.Time `json:"granted,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Stored   time.Time `json:"stored"`
}

// Dead is the dead letters.
type Dead struct {
	Freshness
	Count   int                  `json:"count"`
	Letters []streams.DeadLetter `json:"letters"`
}

// MoneySource is settlement's books, where this process has them.
type MoneySource interface {
	// Money sums up the books. It must be cheap: it is called every few seconds.
	Money(ctx context.Context) (Money, error)
}

// Money is what the books say. All amounts come from the ledger, none from workers.
type Money struct {
	Freshness
	// Absent tells that no settlement runs beside this dashboard.
	Absent bool `json:"absent,omitempty"`
	// Held is the tenants' money, Earned all that workers ever earned, Paid what the chain has paid them, Pending the
	// rest, Fees the network's share.
	Held    schemas.NanoTON `json:"held"`
	Earned  schemas.NanoTON `json:"earned"`
	Paid    schemas.NanoTON `json:"paid"`
	Pending schemas.NanoTON `json:"pending"`
	Fees    schemas.NanoTON `json:"fees"`
	// Treasury is the address payouts come from and Chain the network's name.
	Treasury schemas.Owner `json:"treasury,omitempty"`
	Chain    string        `json:"chain,omitempty"`
	// Owners earn; Batches are the newest payout batches; Alerts stop payouts or ask for a person.
	Owners  []OwnerRow `json:"owners"`
	Batches []BatchRow `json:"batches"`
	Alerts  []string   `json:"alerts"`
}

// OwnerRow is one worker owner's account.
type OwnerRow struct {
	Owner   schemas.Owner   `json:"owner"`
	Earned  schemas.NanoTON `json:"earned"`
	Paid    schemas.NanoTON `json:"paid"`
	Pending schemas.NanoTON `json:"pending"`
}

// BatchRow is one payout batch.
type BatchRow struct {
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Created   time.Time       `json:"created"`
	Transfers int             `json:"transfers"`
	Amount    schemas.NanoTON `json:"amount"`
	Root      string          `json:"root,omitempty"`
	// Link is where the transaction can be looked at, or its hash on a network without an explorer.
	Link string `json:"link,omitempty"`
}

// Trust is the signed documents in force and the keys that jobs are sealed to.
type Trust struct {
	Freshness
	Environment schemas.Environment `json:"environment,omitempty"`
	Roots       schemas.Hash        `json:"roots,omitzero"`
	Policy      DocumentRow         `json:"policy"`
	Catalogue   DocumentRow         `json:"catalogue"`
	// Measurements are the programs that the policy admits.
	Measurements []MeasurementRow `json:"measurements"`
	Keys         []KeyRow         `json:"keys"`
}

// DocumentRow is a signed document in force.
type DocumentRow struct {
	Version uint64       `json:"version"`
	Hash    schemas.Hash `json:"hash,omitzero"`
	Issued  time.Time    `json:"issued,omitzero"`
	Expires time.Time    `json:"expires,omitzero"`
	Signers int          `json:"signers"`
}

// MeasurementRow is a program that the policy admits.
type MeasurementRow struct {
	Name string       `json:"name"`
	Role schemas.Role `json:"role"`
}

// KeyRow is the key that a model's jobs are sealed to.
type KeyRow struct {
	Model       schemas.ModelID `json:"model"`
	Key         schemas.KeyID   `json:"kid"`
	Epoch       uint64          `json:"epoch"`
	ActiveUntil time.Time       `json:"active_until"`
	Broker      schemas.KeyID   `json:"broker"`
}

// History is the charts' series: one value of each per point in time.
type History struct {
	// Time is in unix seconds.
	Time    []int64   `json:"time"`
	Jobs    []float64 `json:"jobs_per_second"`
	Tokens  []float64 `json:"tokens_per_second"`
	Pending []float64 `json:"pending"`
	Busy    []float64 `json:"busy"`
	// Paid is what has been paid on chain, in TON; it is for drawing only.
	Paid []float64 `json:"paid"`
}

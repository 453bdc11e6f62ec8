package dashboard

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Limits of a view.
const (
	// MaxJobs is how many ended jobs the jobs page remembers, MaxWaiting how many that have not ended, newest first.
	MaxJobs    = 200
	MaxWaiting = 100
	// MaxDead is how many dead letters are listed, newest first; the count is exact beyond it, and older ones are paged.
	MaxDead = 100
	// MaxBatches is how many groups of bulk work and how many batches are listed.
	MaxBatches = 200
	// MaxRefusals is how many refusals are listed, newest first.
	MaxRefusals = 200
	// HistorySpan is the time that charts go back, HistoryStep the time between their points.
	HistorySpan = 10 * time.Minute
	HistoryStep = 2 * time.Second
)

// View is one look at the network.
type View struct {
	Network  Network  `json:"network"`
	Workers  Workers  `json:"workers"`
	Refusals Refusals `json:"refusals"`
	Jobs     Jobs     `json:"jobs"`
	Batches  Batches  `json:"batches"`
	Dead     Dead     `json:"dead"`
	Money    Money    `json:"money"`
	Trust    Trust    `json:"trust"`
	History  History  `json:"history"`
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
	// Models are the rows.
	Models []ModelRow `json:"models,omitempty"`
	// WorkersOnline counts living entries, States them by state; Slots and Busy sum over them.
	WorkersOnline int                         `json:"workers_online"`
	States        map[streams.WorkerState]int `json:"states,omitempty"`
	Slots         int                         `json:"slots"`
	Busy          int                         `json:"busy"`
	// Waiting and InFlight sum over all queues; OldestAt is since when the oldest job of all waits.
	Waiting  uint64    `json:"waiting"`
	InFlight uint64    `json:"in_flight"`
	OldestAt time.Time `json:"oldest_at,omitzero"`
	// JobsPerSecond and TokensPerSecond are averages over the last ten seconds.
	JobsPerSecond   float64 `json:"jobs_per_second"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	// JobsServed counts the outcomes since the network was made, TokensSeen the tokens in those that this dashboard has read.
	JobsServed uint64 `json:"jobs_served"`
	TokensSeen uint64 `json:"tokens_seen"`
	// MedianWait is the median time from the queue to the outcome and MedianRun that from grant to outcome, over the jobs it
	// remembers; 0 when it has seen none.
	MedianWait time.Duration `json:"median_wait"`
	MedianRun  time.Duration `json:"median_run"`
	// Started is when it began to look.
	Started time.Time `json:"started"`
	// DeadLetters is their number, for the menu.
	DeadLetters uint64 `json:"dead_letters"`
}

// ModelRow is a model with its price, its queues and its supply.
type ModelRow struct {
	Model     schemas.ModelID `json:"model"`
	Name      string          `json:"name"`
	Slug      string          `json:"slug"`
	Context   int             `json:"context"`
	Endpoints []string        `json:"endpoints"`
	Price     schemas.Price   `json:"price"`
	Queues    []QueueRow      `json:"queues"`
	Workers   int             `json:"workers"`
	Slots     int             `json:"slots"`
	Busy      int             `json:"busy"`
	// TokensPerSecond sums what workers state.
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// QueueRow is what waits in one class. Times are points in time, so that a row changes only when something happens.
type QueueRow struct {
	Class       schemas.Class `json:"class"`
	Pending     uint64        `json:"pending"`
	InFlight    uint64        `json:"in_flight"`
	Redelivered uint64        `json:"redelivered,omitempty"`
	// OldestAt is since when the oldest job that is not done waits, zero when there is none.
	OldestAt time.Time `json:"oldest_at,omitzero"`
	// Paused is set until when an operator has paused it.
	Paused time.Time `json:"paused,omitzero"`
}

// Workers is every worker that is alive or was a moment ago, with what control and the brokers think of it.
type Workers struct {
	Freshness
	Workers []WorkerRow `json:"workers,omitempty"`
}

// WorkerRow is one worker. Details of its evidence are asked for one by one, see WorkerDetail.
type WorkerRow struct {
	streams.WorkerEntry
	// Reputation is nil while control has said nothing yet.
	Reputation *Reputation `json:"reputation,omitempty"`
	// Evidence is nil while no broker has said anything about it.
	Evidence *EvidenceRow `json:"evidence_state,omitempty"`
	// Gone is when its entry lapsed or was taken away, zero for one that lives.
	Gone time.Time `json:"gone,omitzero"`
}

// Reputation is control's judgement over its shortest window in which something happened.
type Reputation struct {
	Standing streams.Standing `json:"standing"`
	// Rate is the share of success in basis points of Jobs; Lost are grants whose job another worker had to finish.
	Rate   schemas.BasisPoints `json:"rate"`
	Jobs   uint64              `json:"jobs"`
	Lost   uint64              `json:"lost"`
	Median time.Duration       `json:"median"`
	Span   time.Duration       `json:"span"`
}

// EvidenceRow is what brokers found in a worker's evidence, in short.
type EvidenceRow struct {
	// Admitted tells whether its evidence is admitted; Image is the policy's entry that matched and Policy the version. GPUs is the
	// number of attested GPUs and GPU the chip of the first.
	Admitted bool      `json:"admitted"`
	Image    string    `json:"image,omitempty"`
	Policy   uint64    `json:"policy,omitempty"`
	TCB      string    `json:"tcb,omitempty"`
	GPUs     int       `json:"gpus,omitempty"`
	GPU      string    `json:"gpu,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	// Reason is why it was refused last, when that was after the admission.
	Reason string `json:"reason,omitempty"`
}

// Refusals are the hosts whose evidence brokers refused in the last two hours, also those that never could log in.
type Refusals struct {
	Freshness
	Count    int               `json:"count"`
	Refusals []schemas.Finding `json:"refusals,omitempty"`
}

// WorkerDetail is everything known about the evidence of one worker.
type WorkerDetail struct {
	Worker schemas.WorkerID `json:"worker"`
	// Admitted is the newest admission and Refused the newest refusal. Who was refused is only stated.
	Admitted *schemas.Finding `json:"admitted,omitempty"`
	Refused  *schemas.Finding `json:"refused,omitempty"`
}

// Jobs is the newest jobs: outcomes, and those that this dashboard saw arrive and that have not ended.
type Jobs struct {
	Freshness
	Jobs []JobRow `json:"jobs,omitempty"`
}

// JobRow is the public story of one job. Times are as stream, grant and receipt state them.
type JobRow struct {
	// Seq is the position of the outcome, 0 for a job that has none.
	Seq     uint64           `json:"seq,omitempty"`
	Job     schemas.JobID    `json:"job"`
	Tenant  schemas.TenantID `json:"tenant"`
	Model   schemas.ModelID  `json:"model,omitempty"`
	Slug    string           `json:"slug,omitempty"`
	Class   schemas.Class    `json:"class,omitempty"`
	Status  schemas.Status   `json:"status,omitempty"`
	Kind    string           `json:"kind,omitempty"`
	Worker  schemas.WorkerID `json:"worker,omitempty"`
	Attempt int              `json:"attempt,omitempty"`
	Usage   schemas.Usage    `json:"usage"`
	Ceiling schemas.NanoTON  `json:"ceiling,omitempty"`
	Charged schemas.NanoTON  `json:"charged,omitempty"`
	// Queued, Granted, Started, Finished and Stored are the timeline; zero when it is not known or the job did not come so far.
	Queued   time.Time `json:"queued,omitzero"`
	Granted  time.Time `json:"granted,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Stored   time.Time `json:"stored,omitzero"`
	// Expiry is the deadline of a job that has not ended.
	Expiry time.Time `json:"expiry,omitzero"`

	encoded json.RawMessage // the row in JSON, kept because it never changes
}

// Batches is bulk work, from two sides. What the network can see are tenants' jobs of class batch: which of them belong to one
// submission stands in sealed bodies, which no dashboard reads. What the gateway of this process keeps are its own
// batches with their names.
type Batches struct {
	Freshness
	// Local tells that a gateway runs beside this dashboard.
	Local   bool       `json:"local"`
	Batches []BatchRow `json:"batches,omitempty"`
}

// BatchRow is a batch of the gateway beside this dashboard, or all bulk work of one tenant with one model.
type BatchRow struct {
	// ID is the gateway's id of a batch and Name what its submitter called it; both are empty for a tenant's bulk work.
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	// Tenant, Model and Slug are whose bulk work it is.
	Tenant schemas.TenantID `json:"tenant,omitempty"`
	Model  string           `json:"model,omitempty"`
	Slug   string           `json:"slug,omitempty"`
	// State is in OpenAI's words for a batch, and waiting, running or idle for a tenant's work.
	State string `json:"state"`
	// Total counts the lines of a batch, 0 when not known. Waiting have no outcome yet; Succeeded and Failed do.
	Total     uint64 `json:"total,omitempty"`
	Waiting   uint64 `json:"waiting"`
	Succeeded uint64 `json:"succeeded"`
	Failed    uint64 `json:"failed"`
	// Reasons counts what failed by error kind.
	Reasons map[string]uint64 `json:"reasons,omitempty"`
	// Tokens and Charged sum the ended ones; of a tenant's work since this dashboard began to look, at the prices in force.
	Tokens  uint64          `json:"tokens"`
	Charged schemas.NanoTON `json:"charged"`
	// PerSecond is the rate of outcomes over the last minute.
	PerSecond float64 `json:"per_second"`
	// OldestAt is since when the oldest job of the queue waits, Created when the batch was made, Last when something ended last,
	// Expires when the answers are worth nothing any more.
	OldestAt time.Time `json:"oldest_at,omitzero"`
	Created  time.Time `json:"created,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

// BatchSource is a gateway's batches, where one runs in this process.
type BatchSource interface {
	// Batches lists up to limit batches, newest first. It is called every few seconds.
	Batches(ctx context.Context, limit int) ([]BatchRow, error)
}

// Dead is the dead letters.
type Dead struct {
	Freshness
	Count   uint64               `json:"count"`
	Letters []streams.DeadLetter `json:"letters,omitempty"`
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
	Owners  []OwnerRow  `json:"owners"`
	Batches []PayoutRow `json:"batches"`
	Alerts  []string    `json:"alerts"`
	// Earnings are those of the workers that earned most, hour by hour.
	Earnings Earnings `json:"earnings"`
	// Receipts and Tokens count what was booked since the network was made.
	Receipts uint64 `json:"receipts"`
	Tokens   uint64 `json:"tokens"`
}

// Earnings is a chart's data: one series a worker over the same hours.
type Earnings struct {
	// Hours are the beginnings in unix seconds, oldest first and without a hole.
	Hours   []int64         `json:"hours,omitempty"`
	Workers []WorkerEarning `json:"workers,omitempty"`
}

// WorkerEarning is what one worker earned in each hour.
type WorkerEarning struct {
	Worker schemas.WorkerID  `json:"worker"`
	Total  schemas.NanoTON   `json:"total"`
	Earned []schemas.NanoTON `json:"earned"`
}

// OwnerRow is one worker owner's account.
type OwnerRow struct {
	Owner   schemas.Owner   `json:"owner"`
	Earned  schemas.NanoTON `json:"earned"`
	Paid    schemas.NanoTON `json:"paid"`
	Pending schemas.NanoTON `json:"pending"`
}

// PayoutRow is one payout batch.
type PayoutRow struct {
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Created   time.Time       `json:"created"`
	Transfers int             `json:"transfers"`
	Amount    schemas.NanoTON `json:"amount"`
	// Paid is what the chain shows as paid of it.
	Paid schemas.NanoTON `json:"paid"`
	// Root is the statement root that the batch carries on chain, Transaction the hash of the transaction, and Link where it can
	// be looked at, empty on a network without an explorer.
	Root        string `json:"root,omitempty"`
	Transaction string `json:"transaction,omitempty"`
	Link        string `json:"link,omitempty"`
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
	// Brokers answer for the keys.
	Brokers []BrokerRow `json:"brokers"`
	// Rules are what the policy demands, for people.
	Rules []RuleRow `json:"rules"`
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
	Name     string          `json:"name"`
	Role     schemas.Role    `json:"role"`
	MRTD     schemas.Measure `json:"mrtd"`
	RTMR0    schemas.Measure `json:"rtmr0"`
	RTMR1    schemas.Measure `json:"rtmr1"`
	RTMR2    schemas.Measure `json:"rtmr2"`
	Configs  int             `json:"configs"`
	NotAfter time.Time       `json:"not_after,omitzero"`
}

// RuleRow is one demand of the policy.
type RuleRow struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// BrokerRow is one broker group and the keys that it has published.
type BrokerRow struct {
	Broker schemas.KeyID `json:"broker"`
	Keys   int           `json:"keys"`
	// FirstEpoch and LastEpoch are the range of its epochs, NextChange when the first of its keys stops being sealed to.
	FirstEpoch uint64    `json:"first_epoch"`
	LastEpoch  uint64    `json:"last_epoch"`
	NextChange time.Time `json:"next_change,omitzero"`
}

// KeyRow is the key that a model's jobs are sealed to.
type KeyRow struct {
	Model       schemas.ModelID `json:"model"`
	Key         schemas.KeyID   `json:"kid"`
	Epoch       uint64          `json:"epoch"`
	ActiveUntil time.Time       `json:"active_until"`
	Broker      schemas.KeyID   `json:"broker"`
}

// History is the charts' series.
type History struct {
	Points []Point `json:"points,omitempty"`
}

// Point is one moment of the charts.
type Point struct {
	// Time is in unix seconds.
	Time    int64   `json:"t"`
	Jobs    float64 `json:"jobs"`
	Tokens  float64 `json:"tokens"`
	Waiting float64 `json:"waiting"`
	Busy    float64 `json:"busy"`
	Slots   float64 `json:"slots"`
	// Paid is what has been paid on chain, in TON; it is for drawing only.
	Paid float64 `json:"paid"`
}

package settlement

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// hour is the finest step of earnings.
const hour = int64(time.Hour / time.Second)

// workerHour is the key of one row of earnings.
type workerHour struct{ worker, hour int64 }

// earned is what a group of receipts adds to one row.
type earned struct {
	receipts        int64
	usage           schemas.Usage
	charged, worker schemas.NanoTON
}

// earnings collects what a group of receipts adds, so that a row is written once for each group however many receipts
// of the worker are in it.
type earnings struct {
	rows  map[workerHour]*earned
	order []workerHour
}

// add counts one receipt.
func (e *earnings) add(worker int64, c *claim) {
	key := workerHour{worker, c.receipt.Finished.Unix() / hour * hour}
	row := e.rows[key]
	if row == nil {
		if e.rows == nil {
			e.rows = map[workerHour]*earned{}
		}
		row = &earned{}
		e.rows[key] = row
		e.order = append(e.order, key)
	}
	row.receipts++
	row.usage = row.usage.Add(c.receipt.Usage)
	row.charged += c.charge.Total
	row.worker += c.charge.Worker
}

// addEarnings adds to one row, or begins it.
const addEarnings = `INSERT INTO earnings (worker, hour, receipts, prompt, cached, completion, reasoning, charged, earned)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (worker, hour) DO UPDATE SET receipts = earnings.receipts + excluded.receipts,
	prompt = earnings.prompt + excluded.prompt, cached = earnings.cached + excluded.cached,
	completion = earnings.completion + excluded.completion, reasoning = earnings.reasoning + excluded.reasoning,
	charged = earnings.charged + excluded.charged, earned = earnings.earned + excluded.earned`

// flush writes what was collected.
func (e *earnings) flush(t *tx) error {
	for _, key := range e.order {
		r := e.rows[key]
		if _, err := t.exec(addEarnings, key.worker, key.hour, r.receipts, int64(r.usage.Prompt), int64(r.usage.Cached),
			int64(r.usage.Completion), int64(r.usage.Reasoning), int64(r.charged), int64(r.worker)); err != nil {
			return err
		}
	}
	return nil
}

// Limits of an EarningsQuery.
const (
	// MaxEarningsSteps bounds the points of one worker.
	MaxEarningsSteps = 1000
	// MaxEarningsWorkers bounds the workers of one answer.
	MaxEarningsWorkers = 100
	// defaultEarningsSpan is how far back an answer goes.
	defaultEarningsSpan = 7 * 24 * time.Hour
)

// EarningsQuery asks what workers earned over time; the zero value asks for the last seven days in hours of the 100
// workers who earned most in them.
type EarningsQuery struct {
	// Worker is the only one asked about; empty for all.
	Worker schemas.WorkerID
	// Since is the beginning, rounded down to a step of UTC; zero means seven days ago.
	Since time.Time
	// Step is the length of one point, a multiple of an hour; 0 means one hour. Steps are counted from the Unix epoch, so
	// that 24 h are days of UTC.
	Step time.Duration
	// Workers is how many workers to answer for, those that earned most since then; 0 and more than 100 mean 100.
	Workers int
}

// Earned is what one worker earned in one step of time. A receipt counts in the step in which its job finished.
type Earned struct {
	Worker schemas.WorkerID `json:"worker"`
	// At is when the step starts.
	At time.Time `json:"at"`
	// Receipts is the number of jobs and Usage the tokens counted in them.
	Receipts uint64        `json:"receipts"`
	Usage    schemas.Usage `json:"usage"`
	// Charged is what tenants paid and Earned the worker's share of it.
	Charged schemas.NanoTON `json:"charged"`
	Earned  schemas.NanoTON `json:"earned"`
}

// bounds fills in and checks a query; the answer is in Unix seconds.
func (q *EarningsQuery) bounds(now int64) (since, step int64, err error) {
	if q.Step == 0 {
		q.Step = time.Hour
	}
	if q.Step < 0 || q.Step%time.Hour != 0 {
		return 0, 0, schemas.FieldError("step", "must be a multiple of an hour")
	}
	step = int64(q.Step / time.Second)
	since = now - int64(defaultEarningsSpan/time.Second)
	if !q.Since.IsZero() {
		since = q.Since.Unix()
	}
	since = max(since, 0) / step * step
	if (now-since)/step >= MaxEarningsSteps {
		return 0, 0, schemas.FieldError("step", "makes more than 1,000 points: begin later or take longer steps")
	}
	if q.Workers <= 0 || q.Workers > MaxEarningsWorkers {
		q.Workers = MaxEarningsWorkers
	}
	return since, step, nil
}

// Earnings answers what workers earned over time: the points of each worker in order of time, the worker that earned
// most first. Steps in which a worker earned nothing are left out. It reads a few rows for each worker and hour, not the
// receipts, so it may be asked every few seconds. A step that is no multiple of an hour, or of which there would be more
// than MaxEarningsSteps, is KindInvalid.
func (l *Ledger) Earnings(ctx context.Context, q EarningsQuery) (all []Earned, err error) {
	since, step, err := q.bounds(l.now().Unix())
	if err != nil {
		return nil, err
	}
	err = l.read(ctx, func(t *tx) error {
		return t.each(func(scan func(...any) error) error {
			var e Earned
			var at int64
			u := &e.Usage
			err := scan(&e.Worker, &at, &e.Receipts, &u.Prompt, &u.Cached, &u.Completion, &u.Reasoning, &e.Charged, &e.Earned)
			e.At = time.Unix(at, 0).UTC()
			all = append(all, e)
			return err
		}, earningsQuery, since, string(q.Worker), string(q.Worker), q.Workers, step, step, since)
	})
	return all, err
}

// earningsQuery sums hours up to steps, for the workers that earned most. The casts are for PostgreSQL, whose sums are
// of a wider type.
const earningsQuery = `SELECT best.name, e.step, CAST(SUM(e.receipts) AS BIGINT), CAST(SUM(e.prompt) AS BIGINT), CAST(SUM(e.cached) AS BIGINT),
	CAST(SUM(e.completion) AS BIGINT), CAST(SUM(e.reasoning) AS BIGINT), CAST(SUM(e.charged) AS BIGINT), CAST(SUM(e.earned) AS BIGINT)
	FROM (SELECT w.id, w.name, SUM(h.earned) AS total FROM earnings h JOIN workers w ON w.id = h.worker
		WHERE h.hour >= ? AND (CAST(? AS TEXT) = '' OR w.name = ?) GROUP BY w.id, w.name ORDER BY total DESC, w.name LIMIT ?) best
	JOIN (SELECT worker, hour, hour / ? * ? AS step, receipts, prompt, cached, completion, reasoning, charged, earned FROM earnings) e
		ON e.worker = best.id AND e.hour >= ?
	GROUP BY best.name, best.total, e.step ORDER BY best.total DESC, best.name, e.step`

// Served counts all receipts that are booked and the tokens in them. It reads a row for each worker and hour: ask it now and
// then, not with every request.
func (l *Ledger) Served(ctx context.Context) (receipts, tokens uint64, err error) {
	err = l.read(ctx, func(t *tx) error {
		var r, n int64
		_, err := t.one([]any{&r, &n}, `SELECT CAST(COALESCE(SUM(receipts), 0) AS BIGINT),
			CAST(COALESCE(SUM(prompt + cached + completion + reasoning), 0) AS BIGINT) FROM earnings`)
		receipts, tokens = uint64(r), uint64(n)
		return err
	})
	return receipts, tokens, err
}

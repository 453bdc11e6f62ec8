package producers

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Sealed is a job that can be published: what a producer must remember of it until its outcome is verified. Everything in
// it may be stored in the open.
type Sealed struct {
	// Attributes are the job's public face.
	Attributes schemas.Attributes
	// Hash is the hash of the envelope, the message id.
	Hash schemas.Hash
	// Envelope is the message body; it is not needed any more to verify an outcome.
	Envelope []byte
	// Shard is the model's job stream.
	Shard int
	// Tokens is the number of tokens that the job has at its worst.
	Tokens int64
}

// message is the job as streams publishes it.
func (s *Sealed) message() streams.Job {
	return streams.Job{Shard: s.Shard, Attributes: s.Attributes, Envelope: s.Envelope}
}

// plan is a job made ready to be sealed: everything decided but its id, its time and the key.
type plan struct {
	call       *openai.Call
	model      *schemas.Model
	attributes schemas.Attributes // ID, Time and Expiry are set when it is sealed
	timeout    time.Duration
	request    schemas.Request
	limit      enclave.SpendLimit
	cost       Cost
	// fingerprint is the identity of the request: jobs of one idempotency key must have the same.
	fingerprint schemas.Hash
}

// plan checks a job against the catalogue and decides what it may cost.
func (c *Client) plan(ctx context.Context, j *Job) (*plan, error) {
	call, err := j.call()
	if err != nil {
		return nil, err
	}
	catalogue, err := c.believer.prices(ctx)
	if err != nil {
		return nil, err
	}
	p := &plan{call: call, fingerprint: fingerprint(call)}
	if p.model, err = catalogue.Find(call.Model); err != nil {
		return nil, err
	}
	if !slices.Contains(p.model.Endpoints, call.URL) {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "model", Message: "does not offer " + call.URL}
	}
	p.attributes.Class = firstClass(j.Class, call.Class, c.o.Class, schemas.Standard)
	if p.limit.Multiplier, err = multiplier(j, call, catalogue.Multiplier(p.attributes.Class)); err != nil {
		return nil, err
	}
	if p.cost, err = Estimate(call, p.model, p.limit.Multiplier, catalogue.FeeBP); err != nil {
		return nil, err
	}
	p.attributes.Budget = p.cost.Ceiling
	if j.MaxCost > 0 {
		p.attributes.Budget = min(p.attributes.Budget, j.MaxCost)
	}
	if p.attributes.Attempts = j.Attempts; j.Attempts == 0 {
		p.attributes.Attempts = DefaultAttempts
	}
	p.timeout = timeout(j, call, p.attributes.Class)
	p.request = schemas.Request{Method: "POST", URL: call.URL, ContentType: call.ContentType, Body: call.Body, Stream: j.Live}
	return p, nil
}

// fingerprint is the identity of a request.
func fingerprint(call *openai.Call) schemas.Hash {
	return schemas.HashFields("cocoon/producer-request/v1", []byte(call.URL), []byte(call.ContentType), call.Body)
}

// firstClass returns the first class that is set.
func firstClass(classes ...schemas.Class) schemas.Class {
	for _, c := range classes {
		if c != "" {
			return c
		}
	}
	return ""
}

// multiplier is the highest price multiplier that a job pays: the class's, or what the caller names instead.
func multiplier(j *Job, call *openai.Call, class schemas.BasisPoints) (schemas.BasisPoints, error) {
	asked := j.MaxMultiplier
	if asked == 0 {
		asked = call.MaxMultiplier
	}
	switch {
	case asked == 0:
		return class, nil
	case asked > schemas.MaxMultiplier:
		return 0, schemas.FieldError("max_coefficient", "is above 100x")
	case asked < class:
		return 0, &schemas.Error{Kind: schemas.KindPrice, Field: "max_coefficient", Message: "is below the price of the class; nobody serves it"}
	}
	return asked, nil
}

// timeout is how long a job's answer is worth something.
func timeout(j *Job, call *openai.Call, class schemas.Class) time.Duration {
	for _, d := range []time.Duration{j.Timeout, call.Timeout} {
		if d > 0 {
			return d
		}
	}
	if class == schemas.Batch {
		return DefaultBatchTimeout
	}
	return DefaultTimeout
}

// seal seals one planned job under an id.
func (p *plan) seal(s *enclave.Submission, id schemas.JobID) (Sealed, error) {
	a := p.attributes
	a.ID = id
	now := time.Now().UTC()
	a.Time = now.Truncate(time.Second)
	a.Expiry = now.Add(p.timeout + time.Second - 1).Truncate(time.Second)
	if a.Expiry.Sub(a.Time) > schemas.MaxLifetime {
		a.Expiry = a.Time.Add(schemas.MaxLifetime)
	}
	sealed, err := s.Seal(a, p.request, p.limit)
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Attributes: sealed.Attributes, Hash: sealed.Hash, Envelope: sealed.Envelope, Shard: p.model.Shard, Tokens: p.cost.Tokens}, nil
}

// keyedID is the job id of an idempotency key: the same key and request are the same job on every machine of the
// tenant.
func (c *Client) keyedID(key string, request schemas.Hash) schemas.JobID {
	return c.o.Tenant.JobID("key/" + request.String() + "/" + key)
}

// laterID is the id of a later generation of a job, one that was sealed again. Every machine of the tenant derives the
// same.
func (c *Client) laterID(first schemas.JobID, generation int) schemas.JobID {
	if generation == 0 {
		return first
	}
	return c.o.Tenant.JobID("again/" + string(first) + "/" + strconv.Itoa(generation))
}

// submission returns what seals jobs for a model, verifying its key when that is due. shared submissions serve many
// jobs from one encapsulation.
func (c *Client) submission(ctx context.Context, m *schemas.Model, shared bool) (*enclave.Submission, error) {
	key, err := c.believer.key(ctx, m)
	if err != nil {
		return nil, err
	}
	if !shared {
		return enclave.NewSubmission(c.o.Tenant, key), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shared[m.ID]
	if s == nil || s.key != key {
		s = &sharedSubmission{key: key, submission: enclave.NewSubmission(c.o.Tenant, key)}
		c.shared[m.ID] = s
	}
	return s.submission, nil
}

// sharedSubmission is a submission and the key it seals to.
type sharedSubmission struct {
	key        *enclave.TrustedKey
	submission *enclave.Submission
}

// sealOne seals one job, again when its key expired between looking and sealing.
func (c *Client) sealOne(ctx context.Context, p *plan, id schemas.JobID) (Sealed, error) {
	for {
		s, err := c.submission(ctx, p.model, c.o.Linkable)
		if err != nil {
			return Sealed{}, err
		}
		sealed, err := p.seal(s, id)
		if !errors.Is(err, schemas.KindKeyLost) || time.Now().Before(s.GoodUntil()) {
			return sealed, err
		}
	}
}

// Seal seals jobs without sending anything. Jobs for one model share encapsulations, 1,000 each. Jobs with an
// IdempotencyKey get the id that Submit would give them. The first job that cannot be sealed ends it; the error's Line
// is its number in jobs, counted from 1.
func (c *Client) Seal(ctx context.Context, jobs []Job) ([]Sealed, error) {
	plans := make([]*plan, len(jobs))
	bulk := map[schemas.ModelID]*enclave.Submission{}
	for i := range jobs {
		p, err := c.plan(ctx, &jobs[i])
		if err != nil {
			return nil, atLine(err, i+1)
		}
		plans[i] = p
		if bulk[p.model.ID] == nil {
			if bulk[p.model.ID], err = c.submission(ctx, p.model, false); err != nil {
				return nil, atLine(err, i+1)
			}
		}
	}
	sealed := make([]Sealed, len(jobs))
	errs := make([]error, len(jobs))
	parallel(len(jobs), func(i int) {
		id := schemas.NewJobID()
		if key := jobs[i].IdempotencyKey; key != "" {
			id = c.keyedID(key, plans[i].fingerprint)
		}
		sealed[i], errs[i] = plans[i].seal(bulk[plans[i].model.ID], id)
	})
	for i, err := range errs {
		if err != nil {
			return nil, atLine(err, i+1)
		}
	}
	return sealed, ctx.Err()
}

// atLine puts a number on the error of one of many.
func atLine(err error, line int) error {
	var e *schemas.Error
	if !errors.As(err, &e) {
		return err
	}
	numbered := *e
	numbered.Line = line
	return &numbered
}

// parallel runs f for 0 to n-1 on all processors.
func parallel(n int, f func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}

// Publish sends sealed jobs and returns one result each, in order. A job that the network cannot take is KindBusy when
// its queue is full and KindUnavailable when it could not be reached for Options.PublishWait; sending the same bytes
// again is harmless.
func (c *Client) Publish(ctx context.Context, jobs []Sealed) []streams.Published {
	ctx, cancel := context.WithTimeout(ctx, c.o.PublishWait)
	defer cancel()
	results := make([]streams.Published, 0, len(jobs))
	messages := func(yield func(streams.Job) bool) {
		for i := range jobs {
			if !yield(jobs[i].message()) {
				return
			}
		}
	}
	for r := range c.bus.PublishJobs(ctx, messages, streams.BulkOptions{Window: publishWindow}) {
		results = append(results, r)
	}
	return results
}

// publishWindow is how many jobs of a bulk are on their way at a time.
const publishWindow = 512

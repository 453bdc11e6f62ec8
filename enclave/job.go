package enclave

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Candidate is a pulled job that the worker would like to run.
type Candidate struct {
	Attributes schemas.Attributes
	Envelope   []byte
}

// Granted is the broker's answer for one candidate: an opened job, or why not.
type Granted struct {
	// Job is nil when Err is set.
	Job *OpenJob
	// Err says why the job may not be run here; its kind says what to do with the message. KindLeased, KindBusy and
	// KindUnavailable: later. KindDenied: another worker. The others end the job; see [Refused].
	Err error
}

// OpenJob is a job that this worker may run: granted, opened, and not yet answered.
type OpenJob struct {
	// Attributes are the public face of the job, Request its secret part.
	Attributes schemas.Attributes
	Request    *schemas.Request

	session  *Session
	envelope schemas.Hash

	mu    sync.Mutex // guards grant and token, which a renewal replaces
	grant schemas.Grant
	token string
}

// candidate is what one job needs between request and reply.
type candidate struct {
	envelope *schemas.Envelope
	// hash names the whole job; digest and recipients are the parts of it that opening needs again.
	hash, digest, recipients schemas.Hash
	content                  [secretSize]byte // pin mode only
	position                 int              // in the call
}

// Grant asks for grants of up to schemas.MaxGrantBatch jobs and opens them. The answers are in the order of jobs. The error
// is about the call as a whole: the broker cannot be reached, or the worker is not admitted.
func (s *Session) Grant(ctx context.Context, call Call, jobs []Candidate) ([]Granted, error) {
	if len(jobs) > schemas.MaxGrantBatch {
		return nil, schemas.FieldError("jobs", "must be at most 64")
	}
	granted := make([]Granted, len(jobs))
	prepared := make([]*candidate, len(jobs))
	request := schemas.GrantCall{Sent: time.Now().Unix()}
	encs := map[string]uint32{}
	for i := range jobs {
		prepared[i], granted[i].Err = s.prepare(&jobs[i], &request, encs)
	}
	if len(request.Jobs) == 0 {
		return granted, nil
	}
	var reply schemas.GrantReply
	st, err := s.sealedCall(ctx, call, VerbGrant, &request, &reply)
	if err != nil {
		return nil, err
	}
	if len(reply.Jobs) != len(request.Jobs) {
		return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "the broker answered for another number of jobs"}
	}
	for i, c := range prepared {
		if c != nil {
			granted[i].Job, granted[i].Err = s.open(st, &jobs[i], c, &reply.Jobs[c.position])
		}
	}
	return granted, nil
}

// prepare adds one job to a grant call.
func (s *Session) prepare(job *Candidate, request *schemas.GrantCall, encs map[string]uint32) (*candidate, error) {
	if job.Attributes.Expired(time.Now()) {
		return nil, &schemas.Error{Kind: schemas.KindExpired, Message: "the job's deadline has passed"}
	}
	e, err := schemas.ParseEnvelope(job.Envelope)
	if err != nil {
		return nil, err
	}
	c := &candidate{envelope: e, digest: job.Attributes.Digest(), recipients: e.RecipientsHash(), position: len(request.Jobs)}
	entry := schemas.GrantJob{
		Attributes: job.Attributes.Fields(), Mode: e.Mode, Commit: e.Commit, Payload: e.PayloadHash(), Recipients: c.recipients,
	}
	c.hash = schemas.EnvelopeHash(c.digest, e.Mode, c.recipients, e.Commit, entry.Payload)
	if e.Mode == schemas.ModePin {
		if err := s.unwrapPinned(job, c, &entry); err != nil {
			return nil, err
		}
	} else {
		r := &e.Recipients[0]
		if r.KeyID() != job.Attributes.Key {
			return nil, schemas.FieldError("envelope.recipients", "names another key than the attributes")
		}
		position, ok := encs[string(r.Enc)]
		if !ok {
			position = uint32(len(request.Encs))
			encs[string(r.Enc)] = position
			request.Encs = append(request.Encs, r.Enc)
		}
		entry.Enc, entry.Index, entry.Wrapped = position, r.Index, r.Wrapped
	}
	request.Jobs = append(request.Jobs, entry)
	return c, nil
}

// unwrapPinned opens the wrap that is meant for this worker.
func (s *Session) unwrapPinned(job *Candidate, c *candidate, entry *schemas.GrantJob) error {
	kids := make([][16]byte, len(c.envelope.Recipients))
	mine := -1
	for i := range c.envelope.Recipients {
		kids[i] = c.envelope.Recipients[i].Key
		if kids[i] == s.pinned.kid {
			mine = i
		}
	}
	if schemas.PoolKeyID(kids) != job.Attributes.Key {
		return schemas.FieldError("envelope.recipients", "are another pool than the attributes name")
	}
	if mine < 0 {
		return &schemas.Error{Kind: schemas.KindDenied, Message: "the job is pinned to other workers"}
	}
	r := &c.envelope.Recipients[mine]
	wrap, err := s.pinned.Unwrap(schemas.ModePin, r.Enc, r.Index, r.Wrapped, &job.Attributes)
	if err != nil {
		return err
	}
	c.content = wrap.Content
	entry.Spend = schemas.EncodeCBOR(&wrap.Spend)
	return nil
}

// open turns the broker's answer for one job into an opened job.
func (s *Session) open(st *standing, job *Candidate, c *candidate, answer *schemas.GrantAnswer) (*OpenJob, error) {
	if err := answer.Refusal.Err(); err != nil {
		return nil, err
	}
	grant, err := s.checkGrant(st, answer.Grant, job, c.hash)
	if err != nil {
		return nil, err
	}
	content := c.content
	if c.envelope.Mode == schemas.ModeBroker {
		if len(answer.Content) != secretSize {
			return nil, schemas.FieldError("content", "must be 32 bytes")
		}
		content = [secretSize]byte(answer.Content)
	}
	defer clear(content[:])
	request, err := openEnvelope(c.envelope, c.digest, c.recipients, content)
	if err != nil {
		return nil, err
	}
	return &OpenJob{Attributes: job.Attributes, Request: request, session: s, envelope: c.hash, grant: grant, token: answer.Grant}, nil
}

// checkGrant refuses a grant that is not for this job and this worker.
func (s *Session) checkGrant(st *standing, token string, job *Candidate, envelope schemas.Hash) (schemas.Grant, error) {
	grant, err := s.signatures.VerifyGrant(token, st.broker)
	if err != nil {
		return schemas.Grant{}, err
	}
	a := &job.Attributes
	if grant.Job != a.ID || grant.Tenant != a.Tenant || grant.Model != a.Model || grant.Envelope != envelope || grant.Worker != s.ID() {
		return schemas.Grant{}, schemas.FieldError("grant", "is for another job or worker")
	}
	return grant, nil
}

// Grant is the grant under which the job runs now.
func (j *OpenJob) Grant() schemas.Grant {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.grant
}

// Lease is when the outcome must have been published, unless the lease is renewed before.
func (j *OpenJob) Lease() time.Time { return j.Grant().Lease }

// Envelope is the hash that names the sealed job.
func (j *OpenJob) Envelope() schemas.Hash { return j.envelope }

// current is the grant and its token together.
func (j *OpenJob) current() (schemas.Grant, string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.grant, j.token
}

// Renew prolongs the leases of running jobs, up to schemas.MaxRenewBatch. The answers are in the order of jobs: nil, or
// why the lease is lost; then the job must be dropped silently, because another worker may be running it.
func (s *Session) Renew(ctx context.Context, call Call, jobs []*OpenJob) ([]error, error) {
	return s.renew(ctx, call, jobs, schemas.LeaseKept)
}

// Return gives the leases of jobs back that this worker will not finish, so that another can have them at once.
func (s *Session) Return(ctx context.Context, call Call, jobs []*OpenJob) ([]error, error) {
	return s.renew(ctx, call, jobs, schemas.LeaseReturned)
}

// Done tells the broker that the outcomes of jobs are published, which frees their leases. It is a courtesy: a lease that
// nobody ends lapses.
func (s *Session) Done(ctx context.Context, call Call, jobs []*OpenJob) ([]error, error) {
	return s.renew(ctx, call, jobs, schemas.LeaseDone)
}

// renew makes a renew call.
func (s *Session) renew(ctx context.Context, call Call, jobs []*OpenJob, end schemas.LeaseEnd) ([]error, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	request := schemas.RenewCall{Sent: time.Now().Unix()}
	for _, j := range jobs {
		_, token := j.current()
		request.Jobs = append(request.Jobs, schemas.RenewJob{Grant: token, End: end})
	}
	var reply schemas.GrantReply
	st, err := s.sealedCall(ctx, call, VerbRenew, &request, &reply)
	if err != nil {
		return nil, err
	}
	if len(reply.Jobs) != len(jobs) {
		return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "the broker answered for another number of jobs"}
	}
	errs := make([]error, len(jobs))
	for i, j := range jobs {
		errs[i] = j.renewed(st, &reply.Jobs[i], end)
	}
	return errs, nil
}

// renewed takes the answer to a renewal.
func (j *OpenJob) renewed(st *standing, answer *schemas.GrantAnswer, end schemas.LeaseEnd) error {
	if err := answer.Refusal.Err(); err != nil || end != schemas.LeaseKept {
		return err
	}
	grant, err := j.session.checkGrant(st, answer.Grant, &Candidate{Attributes: j.Attributes}, j.envelope)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if grant.Attempt != j.grant.Attempt {
		return &schemas.Error{Kind: schemas.KindLeased, Message: "the job has begun another attempt"}
	}
	j.grant, j.token = grant, answer.Grant
	return nil
}

// SealResult seals a result for the tenant. It may be called again for another result of the same run.
func (j *OpenJob) SealResult(result schemas.Result) ([]byte, error) {
	result.Version = schemas.EnvelopeVersion
	if err := result.Check(); err != nil {
		return nil, err
	}
	r, enc, secret, err := j.run()
	if err != nil {
		return nil, err
	}
	return sealResult(r, enc, secret, j.Request.ReplySecret, &result)
}

// run numbers one use of the reply key.
func (j *OpenJob) run() (run, []byte, [secretSize]byte, error) {
	enc, secret, index, err := j.session.replies.take(j.Request.ReplyKey)
	if err != nil {
		return run{}, nil, secret, err
	}
	grant := j.Grant()
	return run{
		job: j.Attributes.ID, envelope: j.envelope, attempt: uint32(grant.Attempt), worker: grant.Worker, index: index,
	}, enc, secret, nil
}

// Chunks opens the live stream of the job: send is called with one sealed chunk after another, never at the same time.
// tick 0 means DefaultTick, and FirstTick for the first chunk.
func (j *OpenJob) Chunks(tick time.Duration, send func(sealed []byte) error) (*ChunkWriter, error) {
	r, enc, secret, err := j.run()
	if err != nil {
		return nil, err
	}
	key, err := r.key(labelChunk, secret, j.Request.ReplySecret)
	if err != nil {
		return nil, err
	}
	first := tick
	if tick == 0 {
		first, tick = FirstTick, DefaultTick
	}
	return &ChunkWriter{send: send, tick: first, then: tick, run: r, enc: enc, key: key}, nil
}

// Finish makes the outcome of the job: the sealed result, the grant, and a receipt when something is owed. What is owed
// follows from the result: an answer is paid; a cancelled job is paid when it has a usage; everything else is free.
func (j *OpenJob) Finish(result schemas.Result, started, finished time.Time) (schemas.Outcome, error) {
	grant, token := j.current()
	o := schemas.Outcome{
		Job: grant.Job, Tenant: grant.Tenant, Model: grant.Model, Status: statusOf(result.Kind), Kind: result.Kind, Grant: token,
	}
	var err error
	if o.Body, err = j.SealResult(result); err != nil {
		return schemas.Outcome{}, err
	}
	if o.Status == schemas.Succeeded || o.Status == schemas.Cancelled && result.Usage.Total() > 0 {
		o.Receipt, err = j.session.SignReceipt(schemas.Receipt{
			Job: grant.Job, Grant: schemas.HashOf([]byte(token)), Model: grant.Model, Usage: result.Usage, Status: o.Status,
			Result: schemas.HashOf(o.Body), Started: started.UTC().Truncate(time.Second), Finished: finished.UTC().Truncate(time.Second),
		})
		if err != nil {
			return schemas.Outcome{}, err
		}
	}
	return o, o.Check()
}

// statusOf is how a job ended that ended for this reason.
func statusOf(kind schemas.Kind) schemas.Status {
	switch kind {
	case schemas.KindUnknown:
		return schemas.Succeeded
	case schemas.KindCancelled:
		return schemas.Cancelled
	case schemas.KindExpired:
		return schemas.Expired
	}
	return schemas.Failed
}

// Refused is the outcome of a job that was never opened: it carries a kind and no body. An error without a kind is
// KindInternal.
func Refused(a *schemas.Attributes, err error) schemas.Outcome {
	kind := schemas.KindOf(err)
	if kind == schemas.KindUnknown {
		kind = schemas.KindInternal
	}
	return schemas.Outcome{Job: a.ID, Tenant: a.Tenant, Model: a.Model, Status: statusOf(kind), Kind: kind}
}

// SignReceipt numbers, chains and signs a receipt of this worker.
func (s *Session) SignReceipt(r schemas.Receipt) (string, error) {
	s.chain.Lock()
	defer s.chain.Unlock()
	r.V, r.Worker, r.Seq, r.Prev = 1, s.ID(), s.seq+1, s.prev
	if err := r.Check(); err != nil {
		return "", err
	}
	token, err := SignReceipt(s.sign, r)
	if err != nil {
		return "", err
	}
	s.seq, s.prev = r.Seq, schemas.HashOf([]byte(token))
	return token, nil
}

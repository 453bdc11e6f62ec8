package broker

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// grant answers VerbGrant: every job is decided on its own.
func (b *Broker) grant(ctx context.Context, request []byte) ([]byte, error) {
	var call schemas.GrantCall
	c, err := b.enter(enclave.VerbGrant, request, &call)
	if err != nil {
		return nil, err
	}
	catalogue, err := b.cfg.Catalogues.Current()
	if err != nil {
		return nil, err
	}
	reply := schemas.GrantReply{Jobs: make([]schemas.GrantAnswer, len(call.Jobs))}
	defer wipeAnswers(reply.Jobs)
	var told []gossip
	for i := range call.Jobs {
		j := &job{broker: b, caller: c, catalogue: catalogue, entry: &call.Jobs[i], now: time.Now()}
		if call.Jobs[i].Mode == schemas.ModeBroker {
			j.enc = call.Encs[call.Jobs[i].Enc]
		}
		answer, err := j.decide(ctx)
		b.audit(j.decision(answer), err)
		j.trace(ctx, err)
		if err != nil {
			reply.Jobs[i].Refusal = refusal(err)
			continue
		}
		reply.Jobs[i] = answer
		told = append(told, j.gossip())
	}
	b.tell(ctx, told)
	return c.reply(&reply), nil
}

// wipeAnswers forgets content keys that have been sealed.
func wipeAnswers(answers []schemas.GrantAnswer) {
	for i := range answers {
		clear(answers[i].Content)
	}
}

// refusal is an error as it goes to the worker.
func refusal(err error) schemas.Refusal {
	var e *schemas.Error
	if !errors.As(err, &e) {
		e = schemas.Errorf(schemas.KindInternal, "%w", err)
	}
	return schemas.NewRefusal(e)
}

// job is one decision.
type job struct {
	broker    *Broker
	caller    *caller
	catalogue *schemas.Catalogue
	entry     *schemas.GrantJob
	enc       []byte
	now       time.Time

	attributes schemas.Attributes
	digest     schemas.Hash
	envelope   schemas.Hash
	key        jobKey
	attempt    int
	until      time.Time
}

// decide runs the checks, the cheap ones first, and signs the grant when all of them passed.
func (j *job) decide(ctx context.Context) (schemas.GrantAnswer, error) {
	var err error
	if j.attributes, err = j.entry.Attributes.Attributes(); err != nil {
		return schemas.GrantAnswer{}, err
	}
	j.digest, j.key = j.attributes.Digest(), keyOf(j.attributes.Tenant, j.attributes.ID)
	for _, check := range []func() error{j.checkTime, j.checkModel, j.checkStanding, j.checkPolicy, j.checkEnvelope} {
		if err := check(); err != nil {
			return schemas.GrantAnswer{}, err
		}
	}
	account, err := j.account(ctx)
	if err != nil {
		return schemas.GrantAnswer{}, err
	}
	spend, content, err := j.unwrap(account.Key)
	if err != nil {
		return schemas.GrantAnswer{}, err
	}
	multiplier, err := j.multiplier(spend)
	if err != nil {
		return schemas.GrantAnswer{}, err
	}
	token, err := j.lease(account, spend, multiplier)
	if err != nil {
		return schemas.GrantAnswer{}, err
	}
	return schemas.GrantAnswer{Grant: token, Content: content}, nil
}

// checkTime refuses expired jobs and those of the future.
func (j *job) checkTime() error {
	if j.attributes.Expired(j.now) {
		return &schemas.Error{Kind: schemas.KindExpired, Message: "the job's deadline has passed"}
	}
	if j.attributes.Time.Sub(j.now) > callWindow {
		return schemas.FieldError("ce-time", "lies in the future: are the clocks right?")
	}
	return nil
}

// checkModel refuses models that are not served, or not by this worker.
func (j *job) checkModel() error {
	if !j.broker.served(j.catalogue, j.attributes.Model) {
		return &schemas.Error{Kind: schemas.KindUnknownModel, Field: "ce-subject", Message: "is not in the catalogue"}
	}
	if !slices.Contains(j.caller.Models, j.attributes.Model) {
		return &schemas.Error{Kind: schemas.KindDenied, Field: "ce-subject", Message: "this worker is not admitted for the model"}
	}
	return nil
}

// served reports whether a catalogue has a model; the answer for thousands of models must not cost a walk for each job.
func (b *Broker) served(catalogue *schemas.Catalogue, model schemas.ModelID) bool {
	index := b.models.Load()
	if index == nil || index.catalogue != catalogue {
		index = &modelIndex{catalogue, make(map[schemas.ModelID]struct{}, len(catalogue.Models))}
		for i := range catalogue.Models {
			index.ids[catalogue.Models[i].ID] = struct{}{}
		}
		b.models.Store(index)
	}
	_, ok := index.ids[model]
	return ok
}

// modelIndex is the set of models of one catalogue.
type modelIndex struct {
	catalogue *schemas.Catalogue
	ids       map[schemas.ModelID]struct{}
}

// checkPolicy refuses jobs that name a policy which was never in force here. The worker was admitted under the policy in
// force, which is that one or a later version under the same root keys.
func (j *job) checkPolicy() error {
	if _, ok := j.broker.cfg.Policies.Find(j.attributes.Policy); ok || j.broker.group.obeyed(j.attributes.Policy) {
		return nil
	}
	return &schemas.Error{Kind: schemas.KindPolicy, Field: "ce-cocoonpolicy", Message: "is no policy that this broker has obeyed"}
}

// checkEnvelope recomputes what the grant will name the envelope by.
func (j *job) checkEnvelope() error {
	e := j.entry
	switch e.Mode {
	case schemas.ModeBroker:
		one := schemas.Envelope{Recipients: []schemas.Recipient{{Key: j.attributes.Key.KeyBytes(), Enc: j.enc, Index: e.Index, Wrapped: e.Wrapped}}}
		if one.RecipientsHash() != e.Recipients {
			return schemas.FieldError("recipients", "is not the hash of the recipient")
		}
	case schemas.ModePin:
	default:
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "mode", Message: "is neither broker nor pin"}
	}
	j.envelope = schemas.EnvelopeHash(j.digest, e.Mode, e.Recipients, e.Commit, e.Payload)
	return nil
}

// account asks what settlement says about the tenant.
func (j *job) account(ctx context.Context) (schemas.Credit, error) {
	account, err := j.broker.cfg.Credit.Account(ctx, j.attributes.Tenant)
	if errors.Is(err, schemas.KindNotFound) {
		return account, &schemas.Error{Kind: schemas.KindCredit, Field: "ce-source", Message: "the tenant has no account"}
	}
	return account, err
}

// unwrap opens the wrap (broker mode) or takes the authorisation that the worker shows (pin mode), and verifies the
// tenant's signature.
func (j *job) unwrap(tenantKey ed25519.PublicKey) (*schemas.Spend, []byte, error) {
	if j.entry.Mode == schemas.ModePin {
		var spend schemas.Spend
		if err := schemas.DecodeCBOR(j.entry.Spend, &spend, schemas.MaxWrapped); err != nil {
			return nil, nil, err
		}
		if err := spend.Check(&j.attributes); err != nil {
			return nil, nil, err
		}
		return &spend, nil, j.broker.signatures.VerifyJobSpend(tenantKey, &spend, j.digest, j.entry.Commit)
	}
	key, err := j.broker.group.find(j.attributes.Model, j.attributes.Key, j.now)
	if err != nil {
		return nil, nil, err
	}
	wrap, err := key.unwrap.Unwrap(schemas.ModeBroker, j.enc, j.entry.Index, j.entry.Wrapped, &j.attributes)
	if err != nil {
		return nil, nil, err
	}
	seen := spendKey(tenantKey, &wrap.Spend, j.enc)
	if !j.broker.spends.known(seen, j.now) {
		if err := j.broker.signatures.VerifySubmissionSpend(tenantKey, &wrap.Spend, j.attributes.Key, j.enc); err != nil {
			return nil, nil, err
		}
		j.broker.spends.first(seen, j.now)
	}
	return &wrap.Spend, wrap.Content[:], nil
}

// multiplier is the class's, or the worker's ask when that is higher; the tenant must pay it.
func (j *job) multiplier(spend *schemas.Spend) (schemas.BasisPoints, error) {
	m := max(j.catalogue.Multiplier(j.attributes.Class), j.caller.Ask)
	if m > spend.Multiplier {
		return 0, &schemas.Error{Kind: schemas.KindPrice, Field: "multiplier", Message: "the tenant does not pay this worker's multiplier"}
	}
	return m, nil
}

// lease takes lease and credit and signs the grant. What fails after the lease gives it back.
func (j *job) lease(account schemas.Credit, spend *schemas.Spend, multiplier schemas.BasisPoints) (string, error) {
	issued := j.now.UTC().Truncate(time.Second)
	j.until = issued.Add(j.broker.cfg.LeaseTerm)
	attempt, undo, err := j.broker.leases.acquire(j.key, j.caller.id, j.attributes.Attempts, j.now, j.until, j.attributes.Expiry)
	if err != nil {
		return "", err
	}
	j.attempt = attempt
	if err := j.broker.book.reserve(j.attributes.Tenant, j.key, spend.Ceiling, account, j.until, j.now); err != nil {
		undo()
		return "", err
	}
	a := &j.attributes
	token, err := enclave.SignGrant(j.broker.group.sign, schemas.Grant{
		V: 1, Job: a.ID, Tenant: a.Tenant, Model: a.Model, Class: a.Class, Envelope: j.envelope, Attempt: attempt,
		Worker: j.caller.id, WorkerKey: j.caller.Worker, Owner: j.caller.Owner, Catalogue: j.catalogue.Version,
		Multiplier: multiplier, Ceiling: spend.Ceiling, Policy: j.caller.Policy, Environment: j.caller.Environment,
		Broker: j.broker.group.keyID, Issued: issued, Lease: j.until,
	})
	if err != nil {
		undo()
		j.broker.book.end(a.Tenant, j.key, false, j.now)
	}
	return token, err
}

// trace tells how long the decision took. A job whose attributes could not be read has no trace.
func (j *job) trace(ctx context.Context, err error) {
	if j.broker.cfg.Tracer == nil || j.attributes.ID == "" {
		return
	}
	span := j.broker.cfg.Tracer.Job(ctx, "broker.grant", j.attributes.ID, j.now)
	span.Model(j.attributes.Model, j.attributes.Class)
	span.Attempt(j.attempt)
	span.End(err)
}

// decision is the audit entry.
func (j *job) decision(answer schemas.GrantAnswer) Decision {
	d := Decision{
		Verb: enclave.VerbGrant, Worker: j.caller.id, Evidence: j.caller.Evidence, Policy: j.caller.Policy,
		Envelope: j.envelope, Attempt: j.attempt, Model: j.attributes.Model,
	}
	if answer.Grant != "" {
		d.Grant = schemas.HashOf([]byte(answer.Grant))
	}
	return d
}

// gossip is what the other brokers should know.
func (j *job) gossip() gossip {
	return gossip{Key: j.key, Attempt: uint8(j.attempt), Worker: j.caller.id, Until: j.until.Unix(), Expiry: j.attributes.Expiry.Unix()}
}

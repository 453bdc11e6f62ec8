//go:build !worker

package cli

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// The two reference programs of the pipeline's figures. Both move messages of the pipeline's own sizes through the
// pipeline's own streams, with the same window and the same number of jobs at work:
//
//   - raw publishes a job, pulls it, publishes an outcome (compare-and-set) and acknowledges (confirmed), nothing else;
//   - floor is raw with the bare cryptographic calls of the pipeline: as many HPKE, AES-GCM and Ed25519 calls per job, over
//     as many bytes, and no codec, no hash, no key derivation, no broker.

// referenceSlug is the queue of the reference programs.
const referenceSlug = "reference"

// shape is what one job looks like on the wire.
type shape struct {
	jobHeader     nats.Header
	job           []byte
	outcomeHeader nats.Header
	outcome       []byte
}

// reference is one of the two programs.
type reference struct {
	bus      *streams.Bus
	js       jetstream.JetStream
	consumer jetstream.Consumer
	tenant   schemas.TenantID
	shape    shape
	slots    int
	crypt    *bareCrypto // nil: raw
}

// newReference prepares a program on the network.
func newReference(ctx context.Context, n *benchNet, s shape, slots int, crypt *bareCrypto) (*reference, error) {
	r := &reference{bus: n.bus, tenant: schemas.NewTenantID(), shape: s, slots: slots, crypt: crypt}
	route := streams.Route{Slug: referenceSlug}
	if err := r.bus.CreateConsumer(ctx, route, schemas.Standard); err != nil {
		return nil, err
	}
	var err error
	if r.js, err = jetstream.New(r.bus.Conn(), jetstream.WithPublishAsyncMaxPending(benchWindow)); err != nil {
		return nil, err
	}
	r.consumer, err = r.js.Consumer(ctx, streams.StreamJobs(0), streams.QueueName(referenceSlug, schemas.Standard, 0))
	return r, err
}

// run takes n jobs the whole way and returns when all results were heard and all jobs acknowledged. With a pace above 0 one
// job is published per pace, and the times from before its sealing to after its opening are returned.
func (r *reference) run(ctx context.Context, n int, pace time.Duration) ([]time.Duration, error) {
	clock := newClock(n)
	var heard sync.WaitGroup
	heard.Add(n)
	sub, err := r.bus.Conn().Subscribe("res."+string(r.tenant)+".*", func(m *nats.Msg) {
		r.crypt.open()
		clock.end(schemas.JobID(m.Subject[len("res.")+len(r.tenant)+1:]))
		heard.Done()
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.work(ctx, n) })
	group.Go(func() error { return r.publish(ctx, n, pace, clock) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	heard.Wait()
	return clock.times(), nil
}

// publish sends the jobs.
func (r *reference) publish(ctx context.Context, n int, pace time.Duration, clock *clock) error {
	subject := streams.SubjectJob(streams.Route{Slug: referenceSlug}, schemas.Standard, r.tenant)
	acks := make([]jetstream.PubAckFuture, 0, n)
	for i := range n {
		if err := clock.wait(ctx, i, pace); err != nil {
			return err
		}
		id := schemas.NewJobID()
		clock.begin(id)
		r.crypt.seal()
		m := &nats.Msg{Subject: subject, Header: maps.Clone(r.shape.jobHeader), Data: r.shape.job}
		m.Header["ce-id"] = []string{string(id)}
		ack, err := r.js.PublishMsgAsync(m, jetstream.WithMsgID(string(id)), jetstream.WithStallWait(30*time.Second))
		if err != nil {
			return err
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// work pulls and answers n jobs, as many at a time as there are slots.
func (r *reference) work(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, r.slots)
	for taken := 0; taken < n; {
		slots <- struct{}{} // at least one is free
		free := min(1+cap(slots)-len(slots), n-taken)
		batch, err := r.consumer.Fetch(free, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return err
		}
		first := true
		for m := range batch.Messages() {
			if !first {
				slots <- struct{}{}
			}
			first = false
			taken++
			group.Go(func() error {
				defer func() { <-slots }()
				return r.answer(ctx, m)
			})
		}
		if first {
			<-slots
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
	return group.Wait()
}

// answer stores an outcome and acknowledges the job.
func (r *reference) answer(ctx context.Context, m jetstream.Msg) error {
	r.crypt.grant()
	r.crypt.answer()
	out := &nats.Msg{
		Subject: streams.SubjectOutcome(r.tenant, schemas.JobID(m.Headers().Get("ce-id"))),
		Header:  maps.Clone(r.shape.outcomeHeader), Data: r.shape.outcome,
	}
	if _, err := r.js.PublishMsg(ctx, out, jetstream.WithExpectLastSequencePerSubject(0)); err != nil {
		return err
	}
	return m.DoubleAck(ctx)
}

// bareCrypto makes the cryptographic calls of one job, step by step. A nil one makes none.
type bareCrypto struct {
	kem                            hpke.KEM
	epoch, reply                   hpke.PrivateKey
	enc                            []byte
	sign                           ed25519.PrivateKey
	public                         ed25519.PublicKey
	statement, signature           []byte
	key                            [32]byte
	payload, wrap, chunk, result   []byte
	sealedPayload, sealedWrap      []byte
	sealedResult                   []byte
	seals, grants, answers, opened atomic.Uint64
}

// Sizes that the pipeline adds to what is sealed: a wrapped key with its spend authorisation, and a statement to sign.
const (
	bareWrap      = 200
	bareStatement = 900
)

// newBareCrypto prepares keys and one ciphertext of each kind.
func newBareCrypto(payload, chunk, result int) (*bareCrypto, error) {
	c := &bareCrypto{
		kem: hpke.MLKEM768X25519(), payload: make([]byte, payload), wrap: make([]byte, bareWrap), chunk: make([]byte, chunk),
		result: make([]byte, result), statement: make([]byte, bareStatement),
	}
	var err error
	if c.epoch, err = c.kem.GenerateKey(); err != nil {
		return nil, err
	}
	if c.reply, err = c.kem.GenerateKey(); err != nil {
		return nil, err
	}
	if c.public, c.sign, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if c.enc, err = c.encapsulate(c.epoch.PublicKey()); err != nil {
		return nil, err
	}
	c.signature = ed25519.Sign(c.sign, c.statement)
	c.sealedPayload, c.sealedWrap, c.sealedResult = c.sealed(c.payload), c.sealed(c.wrap), c.sealed(c.result)
	return c, nil
}

// encapsulate makes a secret for a key.
func (c *bareCrypto) encapsulate(to hpke.PublicKey) ([]byte, error) {
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), nil)
	if err != nil {
		return nil, err
	}
	_, err = sender.Export("bench", 32)
	return enc, err
}

// decapsulate is its inverse.
func (c *bareCrypto) decapsulate() {
	r, err := hpke.NewRecipient(c.enc, c.epoch, hpke.HKDFSHA256(), hpke.AES256GCM(), nil)
	if err == nil {
		_, err = r.Export("bench", 32)
	}
	must(err)
}

// aead is made for every message: every message has a key of its own.
func (c *bareCrypto) aead() cipher.AEAD {
	block, err := aes.NewCipher(c.key[:])
	must(err)
	aead, err := cipher.NewGCM(block)
	must(err)
	return aead
}

// sealed seals one message.
func (c *bareCrypto) sealed(plain []byte) []byte {
	var nonce [12]byte
	return c.aead().Seal(nil, nonce[:], plain, nil)
}

// unseal opens one message.
func (c *bareCrypto) unseal(sealed []byte) {
	var nonce [12]byte
	_, err := c.aead().Open(nil, nonce[:], sealed, nil)
	must(err)
}

// verify checks one signature.
func (c *bareCrypto) verify() {
	if !ed25519.Verify(c.public, c.statement, c.signature) {
		must(errors.New("a signature made here does not verify"))
	}
}

// shared reports whether this call is the one in a thousand that pays for an encapsulation.
func shared(n *atomic.Uint64) bool { return n.Add(1)%schemas.MaxPerEncapsulation == 1 }

// seal is the producer's part: payload and wrap; an encapsulation and a spend signature per thousand.
func (c *bareCrypto) seal() {
	if c == nil {
		return
	}
	if shared(&c.seals) {
		_, err := c.encapsulate(c.epoch.PublicKey())
		must(err)
		ed25519.Sign(c.sign, c.statement)
	}
	c.sealed(c.payload)
	c.sealed(c.wrap)
}

// grant is the broker's part: the wrap, and the grant's signature; a decapsulation and the spend signature per thousand.
func (c *bareCrypto) grant() {
	if c == nil {
		return
	}
	if shared(&c.grants) {
		c.decapsulate()
		c.verify()
	}
	c.unseal(c.sealedWrap)
	ed25519.Sign(c.sign, c.statement)
}

// answer is the worker's part: the grant's signature, the payload, the live chunk, the result, the receipt.
func (c *bareCrypto) answer() {
	if c == nil {
		return
	}
	if shared(&c.answers) {
		_, err := c.encapsulate(c.reply.PublicKey())
		must(err)
	}
	c.verify()
	c.unseal(c.sealedPayload)
	if len(c.chunk) > 0 {
		c.sealed(c.chunk)
	}
	c.sealed(c.result)
	ed25519.Sign(c.sign, c.statement)
}

// open is the tenant's part: grant, receipt and result.
func (c *bareCrypto) open() {
	if c == nil {
		return
	}
	if shared(&c.opened) {
		c.decapsulate()
	}
	c.verify()
	c.verify()
	c.unseal(c.sealedResult)
}

// must stops a benchmark whose own keys do not work: there is nothing to measure then.
func must(err error) {
	if err != nil {
		panic("bench: " + err.Error())
	}
}

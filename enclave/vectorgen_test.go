package enclave_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// generator makes the vectors.
type generator struct {
	t      *testing.T
	net    *enclavetest.Net
	tenant *enclave.Tenant
	all    []vector
}

// generate makes all vectors.
func generate(t *testing.T) []vector {
	n := enclavetest.New(t)
	g := &generator{t: t, net: n, tenant: n.Tenant(t)}
	g.attributes()
	g.envelopes()
	g.pinned()
	g.answers()
	g.chunks()
	g.statements()
	g.bundles()
	g.spends()
	g.tenants()
	g.credits()
	return g.all
}

// add adds one vector.
func (g *generator) add(v vector) { g.all = append(g.all, v) }

// must ends the test on an error.
func (g *generator) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// clone copies headers.
func clone(h map[string][]string) map[string][]string {
	c := make(map[string][]string, len(h))
	for k, v := range h {
		c[k] = append([]string(nil), v...)
	}
	return c
}

// sample are attributes that every vector of headers starts from.
func sample() schemas.Attributes {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return schemas.Attributes{
		ID: schemas.JobIDFrom([16]byte{1, 2, 3}), Tenant: "taaaaaaaaaaaaaaaa", Time: at, Model: enclavetest.Model, Class: schemas.Standard,
		Key: "000102030405060708090a0b0c0d0e0f", Expiry: at.Add(time.Hour), Policy: schemas.HashOf([]byte("policy")), Budget: 5, Attempts: 3,
	}
}

// attributes are the headers of a job.
func (g *generator) attributes() {
	a := sample()
	digest := a.Digest()
	header := a.Header()
	g.add(vector{Format: "attributes", Name: "plain", Expect: "ok", Stage: "parse", Header: header, Want: map[string][]byte{"digest": digest[:]}})
	other := clone(header)
	other["Nats-Msg-Id"] = []string{"x"}
	g.add(vector{Format: "attributes", Name: "other headers are ignored", Expect: "ok", Stage: "parse", Header: other, Want: map[string][]byte{"digest": digest[:]}})
	edit := func(name, key string, values ...string) {
		h := clone(header)
		if h[key] = values; len(values) == 0 {
			delete(h, key)
		}
		g.add(vector{Format: "attributes", Name: name, Expect: "invalid", Stage: "parse", Header: h})
	}
	edit("missing id", "ce-id")
	edit("missing key", "ce-cocoonkid")
	edit("missing budget", "ce-cocoonbudget")
	edit("unknown attribute", "ce-cocoonhint", "x")
	edit("upper case prefix", "CE-id2", "x")
	edit("two values", "ce-cocoonclass", "standard", "standard")
	edit("unknown class", "ce-cocoonclass", "urgent")
	edit("upper case job id", "ce-id", strings.ToUpper(string(a.ID)))
	edit("short job id", "ce-id", string(a.ID)[1:])
	edit("tenant with a dot", "ce-source", "/tenants/taaaaaaa.aaaaaaaa")
	edit("source without tenants", "ce-source", "taaaaaaaaaaaaaaaa")
	edit("another type", "ce-type", schemas.TypeOutcome)
	edit("another specversion", "ce-specversion", "0.3")
	edit("time with a fraction", "ce-time", "2026-11-24T12:00:00.5Z")
	edit("time in another zone", "ce-time", "2026-11-24T12:00:00+01:00")
	edit("expiry before time", "ce-cocoonexpiry", "2026-11-24T11:00:00Z")
	edit("expiry after 48 hours", "ce-cocoonexpiry", "2026-11-26T12:00:01Z")
	edit("budget zero", "ce-cocoonbudget", "0")
	edit("budget negative", "ce-cocoonbudget", "-5")
	edit("budget with a plus", "ce-cocoonbudget", "+5")
	edit("budget with leading zero", "ce-cocoonbudget", "05")
	edit("budget above 63 bits", "ce-cocoonbudget", "9223372036854775808")
	edit("attempts zero", "ce-cocoonattempts", "0")
	edit("attempts eleven", "ce-cocoonattempts", "11")
	edit("model without root", "ce-subject", "tiny@1")
	edit("needless percent escape", "ce-cocoonclass", "%73tandard")
	edit("broken percent escape", "ce-cocoonclass", "standard%2")
	edit("lower case percent escape", "ce-source", "/tenants/taaaaaaaaaaaaaaaa%c3%a9")
	edit("policy without prefix", "ce-cocoonpolicy", strings.Repeat("a", 64))
	edit("key of 31 digits", "ce-cocoonkid", "000102030405060708090a0b0c0d0e0")
}

// envelopes are sealed jobs in broker mode.
func (g *generator) envelopes() {
	key, private := g.net.KeyPair(g.t)
	seed, err := private.Bytes()
	g.must(err)
	submission := enclave.NewSubmission(g.tenant, key)
	add := func(name, expect, stage string, header map[string][]string, body []byte, want map[string][]byte) {
		g.add(vector{Format: "envelope", Name: name, Expect: expect, Stage: stage, Header: header, Body: body, Keys: map[string][]byte{"private": seed}, Want: want})
	}
	golden := func(name string, r schemas.Request) enclave.SealedJob {
		sealed, err := submission.Seal(schemas.Attributes{Budget: 1000}, r, enclave.SpendLimit{Multiplier: schemas.One})
		g.must(err)
		request, spend, err := enclave.NewUnwrapper(private, 1).Open(&sealed.Attributes, sealed.Envelope)
		g.must(err)
		add(name, "ok", "open", sealed.Attributes.Header(), sealed.Envelope, map[string][]byte{
			"request": request.Encode(), "spend": schemas.EncodeCBOR(spend), "hash": sealed.Hash[:],
		})
		return sealed
	}
	j := golden("chat", schemas.Request{URL: "/v1/chat/completions", Body: []byte(`{"messages":[]}`), Stream: true})
	golden("second of the submission", schemas.Request{URL: "/v1/completions", Body: []byte(`{}`)})
	golden("empty body", schemas.Request{Method: "GET", URL: "/v1/models"})
	big := golden("two frames and more", schemas.Request{URL: "/v1/embeddings", Body: bytes.Repeat([]byte("x"), 40_000)})
	golden("other content type", schemas.Request{URL: "/v1/audio/transcriptions", ContentType: "multipart/form-data; boundary=x", Body: []byte{0, 1, 2, 255}})

	header := j.Attributes.Header()
	alter := func(name string, change func(*schemas.Attributes)) {
		a := j.Attributes
		change(&a)
		add("attribute changed "+name, "not_openable", "open", a.Header(), j.Envelope, nil)
	}
	alter("id", func(a *schemas.Attributes) { a.ID = schemas.NewJobID() })
	alter("source", func(a *schemas.Attributes) { a.Tenant = schemas.NewTenantID() })
	alter("time", func(a *schemas.Attributes) { a.Time = a.Time.Add(-time.Second) })
	alter("subject", func(a *schemas.Attributes) { a.Model = strangeModel })
	alter("class", func(a *schemas.Attributes) { a.Class = schemas.Batch })
	alter("key", func(a *schemas.Attributes) { a.Key = "000102030405060708090a0b0c0d0e0f" })
	alter("expiry", func(a *schemas.Attributes) { a.Expiry = a.Expiry.Add(time.Second) })
	alter("policy", func(a *schemas.Attributes) { a.Policy[0] ^= 1 })
	alter("budget", func(a *schemas.Attributes) { a.Budget++ })
	alter("attempts", func(a *schemas.Attributes) { a.Attempts++ })

	edit := func(name, expect, stage string, from enclave.SealedJob, change func(*schemas.Envelope)) {
		e, err := schemas.ParseEnvelope(from.Envelope)
		g.must(err)
		change(e)
		add(name, expect, stage, from.Attributes.Header(), e.Encode(), nil)
	}
	edit("version 2", "unsupported", "parse", j, func(e *schemas.Envelope) { e.Version = 2 })
	edit("mode 0", "unsupported", "parse", j, func(e *schemas.Envelope) { e.Mode = 0 })
	edit("mode pin with one recipient", "invalid", "parse", j, func(e *schemas.Envelope) { e.Mode = schemas.ModePin })
	edit("no recipient", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients = nil })
	edit("two recipients in broker mode", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients = append(e.Recipients, e.Recipients[0]) })
	edit("enc short", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients[0].Enc = e.Recipients[0].Enc[1:] })
	edit("index 1000", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients[0].Index = 1000 })
	edit("wrapped empty", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients[0].Wrapped = nil })
	edit("wrapped of tag size", "invalid", "parse", j, func(e *schemas.Envelope) { e.Recipients[0].Wrapped = e.Recipients[0].Wrapped[:16] })
	edit("payload empty", "invalid", "parse", j, func(e *schemas.Envelope) { e.Payload = nil })
	edit("payload of one tag", "invalid", "parse", j, func(e *schemas.Envelope) { e.Payload = e.Payload[:16] })
	edit("recipient of another key", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Key[0] ^= 1 })
	edit("enc changed in ML-KEM", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Enc[7] ^= 1 })
	edit("enc changed in X25519", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Enc[1100] ^= 1 })
	edit("index changed", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Index++ })
	edit("wrapped changed", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Wrapped[0] ^= 1 })
	edit("wrapped cut", "not_openable", "open", j, func(e *schemas.Envelope) { e.Recipients[0].Wrapped = e.Recipients[0].Wrapped[:40] })
	edit("commit changed", "not_openable", "open", j, func(e *schemas.Envelope) { e.Commit[31] ^= 1 })
	edit("payload changed", "not_openable", "open", j, func(e *schemas.Envelope) { e.Payload[0] ^= 1 })
	edit("payload tag changed", "not_openable", "open", j, func(e *schemas.Envelope) { e.Payload[len(e.Payload)-1] ^= 1 })
	const frame = schemas.FrameSize + schemas.TagSize
	edit("last frame missing", "not_openable", "open", big, func(e *schemas.Envelope) { e.Payload = e.Payload[:2*frame] })
	edit("first frame missing", "not_openable", "open", big, func(e *schemas.Envelope) { e.Payload = e.Payload[frame:] })
	edit("frames swapped", "not_openable", "open", big, func(e *schemas.Envelope) {
		e.Payload = slicesConcat(e.Payload[frame:2*frame], e.Payload[:frame], e.Payload[2*frame:])
	})
	edit("frame repeated", "not_openable", "open", big, func(e *schemas.Envelope) { e.Payload = slicesConcat(e.Payload[:frame], e.Payload) })
	edit("payload of another job", "not_openable", "open", j, func(e *schemas.Envelope) {
		o, err := schemas.ParseEnvelope(big.Envelope)
		g.must(err)
		e.Payload = o.Payload
	})
	edit("wrap of another job", "not_openable", "open", j, func(e *schemas.Envelope) {
		o, err := schemas.ParseEnvelope(big.Envelope)
		g.must(err)
		e.Recipients = o.Recipients
	})
	raw := func(name, expect string, change func([]byte) []byte) {
		add(name, expect, "parse", header, change(bytes.Clone(j.Envelope)), nil)
	}
	raw("byte behind the envelope", "invalid", func(b []byte) []byte { return append(b, 0) })
	raw("cut in the middle", "invalid", func(b []byte) []byte { return b[:len(b)/2] })
	raw("nothing", "invalid", func([]byte) []byte { return nil })
	raw("indefinite array", "invalid", func(b []byte) []byte { return append(append([]byte{0x9f}, b[1:]...), 0xff) })
	raw("version in two bytes", "invalid", func(b []byte) []byte { return slicesConcat([]byte{b[0], 0x18, 1}, b[2:]) })
	raw("six elements", "invalid", func(b []byte) []byte { return append(append([]byte{0x86}, b[1:]...), 0) })
	raw("tagged", "invalid", func(b []byte) []byte { return append([]byte{0xd9, 0xd9, 0xf7}, b...) })

	g.inside(key, add)
}

// strangeModel is a model of the right form that nothing is sealed for.
const strangeModel schemas.ModelID = "other@1:sha256-00000000000000000000000000000000000000000000000000000000000000bb"

// slicesConcat joins byte strings.
func slicesConcat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// inside makes envelopes that open and then hold what they must not.
func (g *generator) inside(key *enclave.TrustedKey, add func(name, expect, stage string, header map[string][]string, body []byte, want map[string][]byte)) {
	make := func(name, expect string, wrap func(*schemas.Wrap), content func(*schemas.Request) []byte, padded func([]byte) []byte) {
		enc, secret, err := key.Encapsulate()
		g.must(err)
		a := sample()
		a.Tenant, a.Key, a.Budget = g.tenant.ID(), key.Bundle().Key, 1000
		digest, kid := a.Digest(), key.Bundle().Key.KeyBytes()
		w := schemas.Wrap{Content: [32]byte{9}, Spend: schemas.Spend{
			Tenant: a.Tenant, Job: a.ID, Ceiling: a.Budget, Multiplier: schemas.One,
			Signature: g.tenant.SignSpend(schemas.SpendSubmission(a.Tenant, a.Key, enc)),
		}}
		if wrap != nil {
			wrap(&w)
		}
		r := schemas.Request{Version: 1, Method: "POST", URL: "/v1/completions", ContentType: "application/json", ReplyKey: g.tenant.ReplyKey(), ReplySecret: g.tenant.ReplySecret(a.ID)}
		plain := r.Encode()
		if content != nil {
			plain = content(&r)
		}
		full := enclave.Pad(plain, enclave.RequestFloor)
		if padded != nil {
			full = padded(full)
		}
		e := schemas.Envelope{Version: 1, Mode: schemas.ModeBroker, Commit: enclave.Expand(w.Content[:], enclave.LabelCommit, digest[:])}
		e.Recipients = []schemas.Recipient{{Key: kid, Enc: enc, Wrapped: enclave.SealOnce(enclave.WrapKey(secret, e.Mode, kid, 0, digest), w.Encode())}}
		e.Payload = enclave.SealFrames(enclave.PayloadKey(w.Content, e.Mode, digest, e.RecipientsHash()), full)
		var want map[string][]byte
		if expect == "ok" {
			hash := e.Hash(&a)
			want = map[string][]byte{"request": r.Encode(), "spend": schemas.EncodeCBOR(&w.Spend), "hash": hash[:]}
		}
		add(name, expect, "open", a.Header(), e.Encode(), want)
	}
	make("made step by step", "ok", nil, nil, nil)
	make("spend of another tenant", "invalid", func(w *schemas.Wrap) { w.Spend.Tenant = "tbbbbbbbbbbbbbbbb" }, nil, nil)
	make("spend of another job", "invalid", func(w *schemas.Wrap) { w.Spend.Job = schemas.JobIDFrom([16]byte{9}) }, nil, nil)
	make("spend above the budget", "invalid", func(w *schemas.Wrap) { w.Spend.Ceiling++ }, nil, nil)
	make("spend multiplier zero", "invalid", func(w *schemas.Wrap) { w.Spend.Multiplier = 0 }, nil, nil)
	make("padding not zero", "not_openable", nil, nil, func(b []byte) []byte { b[len(b)-1] = 1; return b })
	make("padding too long", "not_openable", nil, nil, func(b []byte) []byte { return append(b, make256()...) })
	make("padding too short", "not_openable", nil, nil, func(b []byte) []byte { return b[:len(b)-256] })
	make("length beyond the end", "not_openable", nil, nil, func(b []byte) []byte { b[0] = 0xff; return b })
	make("request of another form", "not_openable", nil, func(*schemas.Request) []byte { return []byte("{}") }, nil)
	make("request with a query", "not_openable", nil, func(r *schemas.Request) []byte { r.URL += "?x=1"; return r.Encode() }, nil)
	make("request with a short reply key", "not_openable", nil, func(r *schemas.Request) []byte { r.ReplyKey = r.ReplyKey[1:]; return r.Encode() }, nil)
}

// make256 is padding that does not belong there.
func make256() []byte { return bytes.Repeat([]byte{0}, 256) }

// pinned are sealed jobs in pin mode.
func (g *generator) pinned() {
	first, private := g.net.WorkerPair(g.t)
	second, _ := g.net.WorkerPair(g.t)
	_, stranger := g.net.WorkerPair(g.t)
	submission, err := enclave.NewPinned(g.tenant, enclavetest.Model, []*enclave.TrustedWorker{first, second})
	g.must(err)
	sealed := g.net.Seal(g.t, submission, "pinned")
	seed, err := private.Bytes()
	g.must(err)
	request, spend, err := enclave.NewUnwrapper(private, 1).Open(&sealed.Attributes, sealed.Envelope)
	g.must(err)
	v := vector{
		Format: "envelope", Name: "pinned to two workers", Expect: "ok", Stage: "open", Header: sealed.Attributes.Header(), Body: sealed.Envelope,
		Keys: map[string][]byte{"private": seed},
		Want: map[string][]byte{"request": request.Encode(), "spend": schemas.EncodeCBOR(spend), "hash": sealed.Hash[:]},
	}
	g.add(v)
	v.Want = nil
	v.Name, v.Expect = "pinned to others", "not_openable"
	other, err := stranger.Bytes()
	g.must(err)
	v.Keys = map[string][]byte{"private": other}
	g.add(v)
	v.Keys = map[string][]byte{"private": seed}
	edit := func(name, expect, stage string, change func(*schemas.Envelope)) {
		e, err := schemas.ParseEnvelope(sealed.Envelope)
		g.must(err)
		change(e)
		v.Name, v.Expect, v.Stage, v.Body = name, expect, stage, e.Encode()
		g.add(v)
	}
	edit("pinned recipients swapped", "invalid", "parse", func(e *schemas.Envelope) {
		e.Recipients[0], e.Recipients[1] = e.Recipients[1], e.Recipients[0]
	})
	edit("pinned recipient twice", "invalid", "parse", func(e *schemas.Envelope) { e.Recipients[1] = e.Recipients[0] })
	edit("pinned recipient added", "not_openable", "open", func(e *schemas.Envelope) {
		extra := e.Recipients[1]
		for i := range extra.Key {
			extra.Key[i] = 0xff
		}
		e.Recipients = append(e.Recipients, extra)
	})
	edit("pinned as broker mode", "invalid", "parse", func(e *schemas.Envelope) { e.Mode = schemas.ModeBroker })
}

// answers are outcomes and results.
func (g *generator) answers() {
	worker := g.net.Session(g.t)
	submission := enclave.NewSubmission(g.tenant, g.net.Key(g.t))
	job := g.net.Grant(g.t, worker, g.net.Seal(g.t, submission, "question"))
	other := g.net.Grant(g.t, worker, g.net.Seal(g.t, submission, "other"))
	finish := func(j *enclave.OpenJob, r schemas.Result) schemas.Outcome {
		o, err := j.Finish(r, time.Now(), time.Now())
		g.must(err)
		return o
	}
	o, theirs := finish(job, enclavetest.Result([]byte("answer"))), finish(other, enclavetest.Result([]byte("answer")))
	keys := map[string][]byte{"tenant": g.tenant.Marshal(), "broker": g.net.Broker.Public()}
	add := func(name, expect, stage string, o schemas.Outcome, keys map[string][]byte, want map[string][]byte) {
		g.add(vector{Format: "result", Name: name, Expect: expect, Stage: stage, Header: o.Header(), Body: o.Body, Keys: keys, Want: want})
	}
	golden := func(name string, o schemas.Outcome) {
		answer, err := g.tenant.OpenResult(o, enclave.Expect{})
		g.must(err)
		add(name, "ok", "open", o, keys, map[string][]byte{"result": answer.Result.Encode()})
	}
	golden("succeeded", o)
	golden("failed", finish(job, schemas.Failure(&schemas.Error{Kind: schemas.KindInvalid, Field: "messages[0]", Message: "no"})))
	cancelled := enclavetest.Result([]byte("half"))
	cancelled.Kind = schemas.KindCancelled
	golden("cancelled with a usage", finish(job, cancelled))
	golden("several frames", finish(job, enclavetest.Result(bytes.Repeat([]byte("y"), 50_000))))
	golden("expired without a body", schemas.Outcome{Job: o.Job, Tenant: o.Tenant, Model: o.Model, Status: schemas.Expired, Kind: schemas.KindExpired})

	stranger, err := enclave.NewTenant()
	g.must(err)
	add("another tenant", "denied", "open", o, map[string][]byte{"tenant": stranger.Marshal()}, nil)
	add("another broker", "denied", "open", o, map[string][]byte{"tenant": keys["tenant"], "broker": stranger.Public()}, nil)
	edit := func(name, expect string, from schemas.Outcome, change func(*schemas.Outcome)) {
		change(&from)
		add(name, expect, "open", from, keys, nil)
	}
	edit("body of another job", "invalid", o, func(o *schemas.Outcome) { o.Body = theirs.Body })
	edit("receipt of another job", "invalid", o, func(o *schemas.Outcome) { o.Receipt = theirs.Receipt })
	edit("grant of another job", "invalid", o, func(o *schemas.Outcome) { o.Grant = theirs.Grant })
	edit("all of another job under this id", "invalid", theirs, func(t *schemas.Outcome) { t.Job = o.Job })
	// Without a receipt nothing but the seal itself is left to notice.
	bare := finish(job, schemas.Failure(&schemas.Error{Kind: schemas.KindEngine}))
	edit("status of another outcome", "invalid", bare, func(o *schemas.Outcome) {
		o.Status, o.Kind = schemas.Cancelled, schemas.KindCancelled
		o.Body = theirs.Body[:0]
		o.Receipt = theirs.Receipt
	})
	reseal := func(name string, change func(*schemas.SealedResult)) {
		edit(name, "not_openable", bare, func(o *schemas.Outcome) {
			r, err := schemas.ParseSealedResult(o.Body)
			g.must(err)
			change(r)
			o.Body = r.Encode()
		})
	}
	reseal("attempt changed", func(r *schemas.SealedResult) { r.Attempt++ })
	reseal("index changed", func(r *schemas.SealedResult) { r.Index++ })
	reseal("enc changed", func(r *schemas.SealedResult) { r.Enc[50] ^= 1 })
	reseal("payload changed", func(r *schemas.SealedResult) { r.Payload[50] ^= 1 })
	reseal("payload cut", func(r *schemas.SealedResult) { r.Payload = r.Payload[:len(r.Payload)-1] })
	reseal("payload of another job", func(r *schemas.SealedResult) {
		o, err := schemas.ParseSealedResult(theirs.Body)
		g.must(err)
		r.Payload, r.Index, r.Enc = o.Payload, o.Index, o.Enc
	})
	long := finish(job, longFailure())
	edit("last frame missing", "not_openable", long, func(o *schemas.Outcome) {
		r, err := schemas.ParseSealedResult(o.Body)
		g.must(err)
		r.Payload = r.Payload[:schemas.FrameSize+schemas.TagSize]
		o.Body = r.Encode()
	})
	g.outcomes(o)
}

// longFailure is a failed result of more than one frame.
func longFailure() schemas.Result {
	r := schemas.Failure(&schemas.Error{Kind: schemas.KindEngine, Message: "it broke"})
	r.Body = bytes.Repeat([]byte("z"), 30_000)
	return r
}

// outcomes are the headers of an outcome.
func (g *generator) outcomes(o schemas.Outcome) {
	want := map[string][]byte{"status": []byte(o.Status), "job": []byte(o.Job)}
	g.add(vector{Format: "outcome", Name: "succeeded", Expect: "ok", Stage: "parse", Header: o.Header(), Body: o.Body, Want: want})
	g.add(vector{Format: "outcome", Name: "headers only", Expect: "ok", Stage: "parse", Header: o.Header(), Want: want})
	edit := func(name string, change func(*schemas.Outcome)) {
		c := o
		change(&c)
		g.add(vector{Format: "outcome", Name: name, Expect: "invalid", Stage: "parse", Header: c.Header()})
	}
	edit("succeeded without receipt", func(o *schemas.Outcome) { o.Receipt = "" })
	edit("succeeded without grant", func(o *schemas.Outcome) { o.Grant = "" })
	edit("succeeded with a kind", func(o *schemas.Outcome) { o.Kind = schemas.KindEngine })
	edit("failed without a kind", func(o *schemas.Outcome) { o.Status, o.Receipt = schemas.Failed, "" })
	edit("failed with a receipt", func(o *schemas.Outcome) { o.Status, o.Kind = schemas.Failed, schemas.KindEngine })
	edit("cancelled with another kind", func(o *schemas.Outcome) { o.Status, o.Kind = schemas.Cancelled, schemas.KindEngine })
	edit("unknown status", func(o *schemas.Outcome) { o.Status = "done" })
	edit("bad tenant", func(o *schemas.Outcome) { o.Tenant = "x" })
	header := clone(o.Header())
	header[schemas.HeaderReceipt] = append(header[schemas.HeaderReceipt], o.Receipt)
	g.add(vector{Format: "outcome", Name: "two receipts", Expect: "invalid", Stage: "parse", Header: header})
	header = clone(o.Header())
	header["ce-cocoonkind"] = []string{"00"}
	g.add(vector{Format: "outcome", Name: "kind with leading zero", Expect: "invalid", Stage: "parse", Header: header})
}

// chunks are live streams.
func (g *generator) chunks() {
	submission := enclave.NewSubmission(g.tenant, g.net.Key(g.t))
	sealed := g.net.Seal(g.t, submission, "stream")
	job := g.net.Grant(g.t, g.net.Session(g.t), sealed)
	var frames [][]byte
	w, err := job.Chunks(time.Hour, func(b []byte) error { frames = append(frames, b); return nil })
	g.must(err)
	full := func(b byte) (events [][]byte) { // a chunk that is full leaves at once
		for range schemas.MaxChunkEvents {
			events = append(events, []byte{b})
		}
		return events
	}
	for i := range 3 {
		for _, event := range full(byte('a' + i)) {
			g.must(w.Write(event))
		}
	}
	g.must(w.Close())
	keys := map[string][]byte{"tenant": g.tenant.Marshal(), "job": []byte(sealed.Attributes.ID), "envelope": sealed.Hash[:]}
	join := func(frames ...[]byte) (b []byte) {
		for _, f := range frames {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
		}
		return b
	}
	add := func(name, expect, stage string, body []byte, want *schemas.Chunk) {
		v := vector{Format: "chunk", Name: name, Expect: expect, Stage: stage, Body: body, Keys: keys}
		if want != nil {
			v.Want = map[string][]byte{"chunk": want.Encode()}
		}
		g.add(v)
	}
	add("first", "ok", "open", join(frames[0]), &schemas.Chunk{Events: full('a')})
	add("to the end", "ok", "open", join(frames...), &schemas.Chunk{})
	add("one lost", "ok", "open", join(frames[0], frames[2]), &schemas.Chunk{Events: full('c')})
	add("first lost", "unavailable", "open", join(frames[1]), nil)
	add("repeated", "replayed", "open", join(frames[0], frames[1], frames[1]), nil)
	add("after the end", "replayed", "open", join(frames[0], frames[3], frames[1]), nil)
	edit := func(name, expect, stage string, before, frame []byte, change func(*schemas.SealedChunk)) {
		c, err := schemas.ParseSealedChunk(frame)
		g.must(err)
		change(c)
		list := [][]byte{c.Encode()}
		if before != nil {
			list = [][]byte{before, c.Encode()}
		}
		add(name, expect, stage, join(list...), nil)
	}
	edit("payload changed", "not_openable", "open", nil, frames[0], func(c *schemas.SealedChunk) { c.Payload[0] ^= 1 })
	edit("marked as last", "not_openable", "open", nil, frames[0], func(c *schemas.SealedChunk) { c.Last = true })
	edit("end taken away", "not_openable", "open", frames[0], frames[3], func(c *schemas.SealedChunk) { c.Last = false })
	edit("renumbered", "not_openable", "open", frames[0], frames[1], func(c *schemas.SealedChunk) { c.Seq = 2 })
	edit("another attempt", "not_openable", "open", nil, frames[0], func(c *schemas.SealedChunk) { c.Attempt = 2 })
	edit("another worker", "not_openable", "open", nil, frames[0], func(c *schemas.SealedChunk) { c.Worker = "waaaaaaaaaaaaaaaa" })
	edit("another index", "not_openable", "open", nil, frames[0], func(c *schemas.SealedChunk) { c.Index++ })
	edit("enc where none belongs", "invalid", "parse", nil, frames[0], func(c *schemas.SealedChunk) { c.Seq = 1 })
	edit("attempt zero", "invalid", "parse", nil, frames[0], func(c *schemas.SealedChunk) { c.Attempt = 0 })
	edit("payload not padded", "invalid", "parse", nil, frames[0], func(c *schemas.SealedChunk) { c.Payload = c.Payload[1:] })
	edit("version 2", "unsupported", "parse", nil, frames[0], func(c *schemas.SealedChunk) { c.Version = 2 })
}

//go:build !worker

package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// Time spent on each figure.
const (
	benchTime      = 2 * time.Second
	benchTimeQuick = 300 * time.Millisecond
)

// span is the time for one figure.
func span(quick bool) time.Duration {
	if quick {
		return benchTimeQuick
	}
	return benchTime
}

// measured is the cost of one repetition.
type measured struct {
	each  time.Duration
	bytes float64 // allocated
}

// measure repeats each of several functions for a while, taking turns so that what else happens on the machine befalls all
// of them alike, and returns the mean cost of one repetition of each.
func measure(ctx context.Context, d time.Duration, functions ...func() error) ([]measured, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent, costs := make([]time.Duration, len(functions)), make([]measured, len(functions))
	var before, after runtime.MemStats
	turns := -1 // the first turn warms the caches, as in a process that runs
	for begin := time.Now(); turns < 1 || time.Since(begin) < d*time.Duration(len(functions)); turns++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for i, f := range functions {
			if turns%allocationTurns == 0 {
				runtime.ReadMemStats(&before)
			}
			start := benchClock()
			if err := f(); err != nil {
				return nil, err
			}
			if turns >= 0 {
				spent[i] += benchClock() - start
			}
			if turns%allocationTurns == 0 {
				runtime.ReadMemStats(&after)
				costs[i].bytes = float64(after.TotalAlloc - before.TotalAlloc)
			}
		}
	}
	for i := range costs {
		costs[i].each = spent[i] / time.Duration(turns)
	}
	return costs, nil
}

// allocationTurns is how seldom allocations are looked at: it stops the world.
const allocationTurns = 64

// microseconds is a duration as a figure.
func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// BenchSeal measures what sealing costs beside its floor, bare HPKE over the same bytes, in the same run.
func BenchSeal(ctx context.Context, quick bool) (cli.BenchResult, error) {
	const size = 4 << 10
	n, err := newBenchNet()
	if err != nil {
		return cli.BenchResult{}, err
	}
	key, private, err := n.key(ctx)
	if err != nil {
		return cli.BenchResult{}, err
	}
	body, d := make([]byte, size), span(quick)
	submission, unwrapper := enclave.NewSubmission(n.tenant, key), enclave.NewUnwrapper(private, 16)
	costs, err := measure(ctx, d,
		func() error { return bareHPKE(private, body) },
		func() error {
			return n.sealAndOpen(enclave.NewSubmission(n.tenant, key), enclave.NewUnwrapper(private, 1), body)
		},
		func() error { return n.sealAndOpen(submission, unwrapper, body) },
	)
	if err != nil {
		return cli.BenchResult{}, err
	}
	floor, single, bulk := costs[0], costs[1], costs[2]
	figures := []cli.Figure{
		cli.Reported("hpke_floor", "us", microseconds(floor.each)),
		cli.Reported("seal_open_single", "us", microseconds(single.each)),
		cli.Reported("seal_open_bulk", "us", microseconds(bulk.each)),
		cli.AtMost("seal_open_vs_floor", "ratio", float64(single.each)/float64(floor.each), 1.5),
		cli.Reported("bulk_vs_floor", "ratio", float64(bulk.each)/float64(floor.each)),
		cli.Reported("alloc_single", "bytes", single.bytes),
		cli.Reported("alloc_bulk", "bytes", bulk.bytes),
	}
	more, err := n.benchAnswers(ctx, d)
	return cli.BenchResult{Bench: "seal", Figures: append(figures, more...), Notes: []string{
		clockName + "; bodies of 4,096 bytes, padded; floor: crypto/hpke ML-KEM-768+X25519 Seal and Open of the same bytes",
		"stream: 50 events of 128 bytes; seal and open: ten chunks of one run, as many as ticks of 100 ms make at 50 tokens/s, by worker and by tenant; stub: CPU of process for a server that sends the same events over HTTP and of the worker's engine adapter that reads them, as fast as they go, and at 50 tokens/s; overhead: seal over stub, which is dearer than seal over stub_paced",
	}}, err
}

// bareHPKE is the floor.
func bareHPKE(private hpke.PrivateKey, body []byte) error {
	sealed, err := hpke.Seal(private.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), nil, body)
	if err != nil {
		return err
	}
	_, err = hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), nil, sealed)
	return err
}

// sealAndOpen takes one job through the envelope.
func (n *benchNet) sealAndOpen(s *enclave.Submission, u *enclave.Unwrapper, body []byte) error {
	sealed, err := n.seal(s, body)
	if err != nil {
		return err
	}
	_, _, err = u.Open(&sealed.Attributes, sealed.Envelope)
	return err
}

// benchAnswers measures the way back: results and live chunks.
func (n *benchNet) benchAnswers(ctx context.Context, d time.Duration) ([]cli.Figure, error) {
	b, err := n.broker(ctx)
	if err != nil {
		return nil, err
	}
	worker, err := n.session(ctx, b.Handle)
	if err != nil {
		return nil, err
	}
	published, err := b.Key(ctx, benchModel)
	if err != nil {
		return nil, err
	}
	key, err := enclave.VerifyKey(ctx, n.verifier, benchModel, published)
	if err != nil {
		return nil, err
	}
	sealed, err := n.seal(enclave.NewSubmission(n.tenant, key), []byte("{}"))
	if err != nil {
		return nil, err
	}
	granted, err := worker.Grant(ctx, b.Handle, []enclave.Candidate{{Attributes: sealed.Attributes, Envelope: sealed.Envelope}})
	if err != nil {
		return nil, err
	}
	if granted[0].Err != nil {
		return nil, granted[0].Err
	}
	job := granted[0].Job
	stub, err := benchStub(ctx, d)
	if err != nil {
		return nil, err
	}
	live := &liveStream{job: job, tenant: n.tenant, envelope: sealed.Hash}
	answer := schemas.Result{Status: 200, Body: make([]byte, 1<<10), Usage: schemas.Usage{Prompt: 1, Completion: 1}}
	costs, err := measure(ctx, d,
		func() error {
			outcome, err := job.Finish(answer, time.Now(), time.Now())
			if err != nil {
				return err
			}
			_, err = n.tenant.OpenResult(outcome, enclave.Expect{})
			return err
		},
		live.seal, live.open,
	)
	if err != nil {
		return nil, err
	}
	return []cli.Figure{
		cli.Reported("result_finish_open", "us", microseconds(costs[0].each)),
		cli.Reported("stream_seal", "us", microseconds(costs[1].each)),
		cli.Reported("stream_open", "us", microseconds(costs[2].each)),
		cli.Reported("stream_stub", "us", microseconds(stub.fast)),
		cli.Reported("stream_stub_paced", "us", microseconds(stub.paced)),
		cli.AtMost("stream_overhead", "ratio", float64(costs[1].each)/float64(stub.fast), 0.05),
	}, nil
}

// BenchBroker measures grants on one core and verifications. Only the time inside the broker counts.
func BenchBroker(ctx context.Context, quick bool) (cli.BenchResult, error) {
	n, err := newBenchNet()
	if err != nil {
		return cli.BenchResult{}, err
	}
	b, err := n.broker(ctx)
	if err != nil {
		return cli.BenchResult{}, err
	}
	published, err := b.Key(ctx, benchModel)
	if err != nil {
		return cli.BenchResult{}, err
	}
	key, err := enclave.VerifyKey(ctx, n.verifier, benchModel, published)
	if err != nil {
		return cli.BenchResult{}, err
	}
	d := span(quick)
	verify, err := n.benchVerify(ctx, d)
	if err != nil {
		return cli.BenchResult{}, err
	}
	var rates [2]float64
	for i, shared := range []bool{false, true} {
		if rates[i], err = n.benchGrants(ctx, b.Handle, key, d, shared); err != nil {
			return cli.BenchResult{}, err
		}
	}
	unwrap, err := unwrapFloor(ctx, d)
	if err != nil {
		return cli.BenchResult{}, err
	}
	return cli.BenchResult{Bench: "broker", Figures: []cli.Figure{
		cli.Reported("unwrap_floor", "1/s", 1/unwrap.Seconds()),
		cli.AtLeast("grants_per_core", "1/s", rates[0], 2_000),
		cli.AtLeast("grants_per_core_shared", "1/s", rates[1], 10_000),
		cli.Reported("evidence_first_floor", "ms", milliseconds(verify.firstFloor)),
		cli.Reported("evidence_first", "ms", milliseconds(verify.first)),
		cli.Reported("evidence_known_floor", "ms", milliseconds(verify.knownFloor)),
		cli.AtMost("evidence_known", "ms", milliseconds(verify.known), 0.4),
		cli.Reported("evidence_again", "ms", milliseconds(verify.again)),
	}, Notes: []string{
		fmt.Sprintf("%s, spent inside the broker only; calls of %d jobs; machine with %d cores", clockName, schemas.MaxGrantBatch, runtime.NumCPU()),
		"grants_per_core: every job has its own encapsulation; _shared: one for all; unwrap_floor: bare decapsulations per second",
		"evidence: a fresh TDX quote, collateral in memory, and one GPU's report with stapled revocation answers; simulated hardware, production verifier",
		"evidence_first: a machine that was never seen; its floor: every signature once (9 P-256, 8 P-384) by crypto/ecdsa; evidence_known: new evidence of a known machine; its floor: crypto/ecdsa over the quote and the report (1 P-256, 1 P-384), which a table for the GPU's key beats; evidence_again: the very same bytes",
	}}, nil
}

// unwrapFloor is one decapsulation and nothing else.
func unwrapFloor(ctx context.Context, d time.Duration) (time.Duration, error) {
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return 0, err
	}
	enc, _, err := hpke.NewSender(private.PublicKey(), hpke.HKDFSHA256(), hpke.ExportOnly(), nil)
	if err != nil {
		return 0, err
	}
	costs, err := measure(ctx, d, func() error {
		_, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ExportOnly(), nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	return costs[0].each, nil
}

// evidenceCost is what verifying evidence costs: of a machine that is new, of one that is known, and the same evidence
// again; and the signatures of the first two alone.
type evidenceCost struct{ first, firstFloor, known, knownFloor, again time.Duration }

// milliseconds is a duration as a figure.
func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// benchVerify measures verifications beside the signatures in them. Making evidence is not measured.
func (n *benchNet) benchVerify(ctx context.Context, d time.Duration) (v evidenceCost, err error) {
	machine, err := n.boot(ctx, benchWorker, 1)
	if err != nil {
		return v, err
	}
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return v, err
	}
	claims := schemas.Claims{
		V: 1, Role: schemas.RoleWorker, HPKE: private.PublicKey().Bytes(), Sign: n.tenant.Public(), Owner: benchOwner, Boot: schemas.NewBootID(),
		Expires: time.Now().UTC().Add(30 * time.Minute).Truncate(time.Second),
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const warm = 3 // the first turns fetch the collateral and make the table of the GPU's key
	var staples [][]byte
	times := -warm
	for begin := time.Now(); time.Since(begin) < 2*d || times < 2; times++ {
		nonce := [32]byte{1, byte(times), byte(times >> 8)}
		evidence, err := machine.Attest(ctx, claims, nonce)
		if err != nil {
			return v, err
		}
		if staples == nil {
			staples = evidence.GPUs[0].OCSP
		}
		evidence.GPUs[0].OCSP = staples // a machine keeps the vendor's answers for half of their life, see nvidia.Responder
		stranger, err := n.newVerifier()
		if err != nil {
			return v, err
		}
		for _, step := range []struct {
			verifier *attest.Verifier
			spent    *time.Duration
		}{{stranger, &v.first}, {n.verifier, &v.known}, {n.verifier, &v.again}} {
			start := benchClock()
			if _, err := step.verifier.Verify(ctx, evidence, nonce); err != nil {
				return v, err
			}
			if times >= 0 {
				*step.spent += benchClock() - start
			}
		}
	}
	for _, spent := range []*time.Duration{&v.first, &v.known, &v.again} {
		*spent /= time.Duration(times)
	}
	small, large, err := signatureCosts(ctx, d)
	v.firstFloor, v.knownFloor = 9*small+8*large, small+large
	return v, err
}

// signatureCosts are what crypto/ecdsa takes to verify one signature of P-256 and one of P-384.
func signatureCosts(ctx context.Context, d time.Duration) (small, large time.Duration, err error) {
	digest := make([]byte, 48)
	check := func(curve elliptic.Curve, size int) (func() error, error) {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:size])
		return func() error {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:size], signature) {
				return &schemas.Error{Kind: schemas.KindInternal, Message: "a signature does not verify"}
			}
			return nil
		}, err
	}
	p256, err := check(elliptic.P256(), 32)
	if err != nil {
		return 0, 0, err
	}
	p384, err := check(elliptic.P384(), 48)
	if err != nil {
		return 0, 0, err
	}
	costs, err := measure(ctx, d/2, p256, p384)
	if err != nil {
		return 0, 0, err
	}
	return costs[0].each, costs[1].each, nil
}

// benchGrants measures grants per second of time spent inside the broker.
func (n *benchNet) benchGrants(ctx context.Context, handle enclave.Call, key *enclave.TrustedKey, d time.Duration, shared bool) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var inside time.Duration
	call := func(ctx context.Context, verb enclave.Verb, request []byte) ([]byte, error) {
		begin := benchClock()
		defer func() { inside += benchClock() - begin }()
		return handle(ctx, verb, request)
	}
	worker, err := n.session(ctx, call)
	if err != nil {
		return 0, err
	}
	submission := enclave.NewSubmission(n.tenant, key)
	inside = 0
	jobs := 0
	for inside < d {
		batch := make([]enclave.Candidate, 0, schemas.MaxGrantBatch)
		for range schemas.MaxGrantBatch {
			if !shared {
				submission = enclave.NewSubmission(n.tenant, key)
			}
			sealed, err := n.seal(submission, []byte("{}"))
			if err != nil {
				return 0, err
			}
			batch = append(batch, enclave.Candidate{Attributes: sealed.Attributes, Envelope: sealed.Envelope})
		}
		granted, err := worker.Grant(ctx, call, batch)
		if err != nil {
			return 0, err
		}
		for _, g := range granted {
			if g.Err != nil {
				return 0, g.Err
			}
		}
		jobs += len(granted)
	}
	return float64(jobs) / inside.Seconds(), nil
}

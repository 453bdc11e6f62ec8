package tdx_test

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests own.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bundle is a simulated machine with one quote.
type bundle struct {
	*clock
	p     *sim.Platform
	td    *sim.TD
	quote []byte
	roots []schemas.Hash
}

func setup(t testing.TB) *bundle {
	t.Helper()
	b := &bundle{clock: &clock{now: start}}
	var err error
	if b.p, err = sim.New([sim.SeedSize]byte{3}, sim.Options{Now: b.Now}); err != nil {
		t.Fatal(err)
	}
	if b.td, err = b.p.Launch("host-1", sim.ImageRegisters("worker")); err != nil {
		t.Fatal(err)
	}
	if b.quote, err = b.td.Quote(context.Background(), [64]byte{1}); err != nil {
		t.Fatal(err)
	}
	b.roots = b.p.Roots().TDX
	return b
}

func (b *bundle) verify(v *tdx.Verifier) (*tdx.Report, error) {
	return v.Verify(context.Background(), b.quote, b.roots, b.Now())
}

func TestStatusesAreData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		knobs                func(*sim.Knobs)
		platform, module, qe schemas.TCBStatus
		field                string
	}{
		"healthy":              {func(*sim.Knobs) {}, "UpToDate", "UpToDate", "UpToDate", ""},
		"hardening":            {func(k *sim.Knobs) { k.Platform = "SWHardeningNeeded" }, "SWHardeningNeeded", "UpToDate", "UpToDate", ""},
		"platform outdated":    {func(k *sim.Knobs) { k.Platform = "OutOfDate" }, "OutOfDate", "UpToDate", "UpToDate", ""},
		"platform revoked":     {func(k *sim.Knobs) { k.Platform = "Revoked" }, "Revoked", "UpToDate", "UpToDate", ""},
		"module outdated":      {func(k *sim.Knobs) { k.Module = "OutOfDate" }, "UpToDate", "OutOfDate", "UpToDate", ""},
		"QE outdated":          {func(k *sim.Knobs) { k.QE = "OutOfDate" }, "UpToDate", "UpToDate", "OutOfDate", ""},
		"hardening, bad QE":    {func(k *sim.Knobs) { k.Platform, k.QE = "SWHardeningNeeded", "Revoked" }, "SWHardeningNeeded", "UpToDate", "Revoked", ""},
		"everything bad":       {func(k *sim.Knobs) { k.Platform, k.Module, k.QE = "OutOfDate", "Revoked", "OutOfDate" }, "OutOfDate", "Revoked", "OutOfDate", ""},
		"machine revoked":      {func(k *sim.Knobs) { k.RevokedMachines = []string{"host-1"} }, "", "", "", "quote"},
		"neighbour revoked":    {func(k *sim.Knobs) { k.RevokedMachines = []string{"host-2"} }, "UpToDate", "UpToDate", "UpToDate", ""},
		"intermediate revoked": {func(k *sim.Knobs) { k.RevokeIntermediate = true }, "", "", "", "quote"},
		"signer revoked":       {func(k *sim.Knobs) { k.RevokeSigner = true }, "", "", "", "quote"},
		"collateral ended":     {func(k *sim.Knobs) { k.Valid = -time.Minute }, "", "", "", "quote"},
		"from the future":      {func(k *sim.Knobs) { k.Issued = time.Hour }, "", "", "", "collateral"},
	} {
		b := setup(t)
		b.p.Turn(c.knobs)
		r, err := b.verify(tdx.NewVerifier(b.p.Collateral()))
		var e *schemas.Error
		if c.field != "" {
			if !errors.As(err, &e) || e.Kind != schemas.KindAttestation || e.Field != c.field {
				t.Errorf("%s: %v, want a refusal of %s", name, err, c.field)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Platform.Status != c.platform || r.TDXModule.Status != c.module || r.QE.Status != c.qe {
			t.Errorf("%s: %s %s %s", name, r.Platform, r.TDXModule, r.QE)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.p.Turn(func(k *sim.Knobs) { k.Platform, k.Advisories = schemas.OutOfDate, []string{"INTEL-SA-00837"} })
	r, err := b.verify(tdx.NewVerifier(b.p.Collateral()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Platform.String(), "OutOfDate since 2026-10-23"; got != want {
		t.Errorf("platform %q, want %q", got, want)
	}
	if !slices.Equal(r.Platform.Advisories, []string{"INTEL-SA-00837"}) || r.Evaluation != 19 || r.PPID != b.p.PPID("host-1") || r.FMSPC != "514d554c0001" {
		t.Errorf("report: %+v", r)
	}
	if r.MRTD != sim.ImageRegisters("worker").MRTD || r.Data != [64]byte{1} || r.Debug() {
		t.Errorf("registers: %+v", r.Registers)
	}
	if want := start.Add(30 * 24 * time.Hour); !r.NextUpdate.Equal(want) {
		t.Errorf("next update %s, want %s", r.NextUpdate, want)
	}
}

// TestKnownMachine checks that the short way refuses all that the long way refuses.
func TestKnownMachine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	collateral := b.p.Collateral()
	v := tdx.NewVerifier(collateral)
	r, err := b.verify(v)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Holds(context.Background(), r, b.Now()) {
		t.Error("a fresh report does not hold")
	}
	if _, err := v.Verify(context.Background(), b.quote, []schemas.Hash{tdx.IntelRoot}, b.Now()); err == nil {
		t.Error("a known machine is accepted under another root")
	}
	if _, err := v.Verify(context.Background(), b.quote, b.roots, start.Add(31*24*time.Hour)); err == nil {
		t.Error("a known machine is accepted after its collateral ended")
	}
	b.p.Turn(func(k *sim.Knobs) { k.RevokedMachines = []string{"host-1"} })
	b.Sleep(7 * time.Hour)
	if v.Holds(context.Background(), r, b.Now()) {
		t.Error("a report still holds after collateral was replaced")
	}
	if _, err := b.verify(v); err == nil {
		t.Error("a known machine is accepted after it was revoked")
	}
}

// TestMutatedQuotes verifies thousands of altered quotes the long way and the short way: both agree, and accept only what
// differs in white space of the certificates.
func TestMutatedQuotes(t *testing.T) {
	t.Parallel()
	b, random := setup(t), rand.New(rand.NewPCG(7, 8))
	warm := tdx.NewVerifier(b.p.Collateral())
	if _, err := b.verify(warm); err != nil {
		t.Fatal(err)
	}
	chainAt := strings.Index(string(b.quote), "-----BEGIN")
	accepted := 0
	for range 3000 {
		x := slices.Clone(b.quote)
		at := random.IntN(len(x))
		if random.IntN(2) == 0 {
			at = random.IntN(chainAt)
		}
		x[at] ^= byte(1 + random.IntN(255))
		_, err := warm.Verify(context.Background(), x, b.roots, b.Now())
		if err == nil && at < chainAt {
			t.Fatalf("quote altered at byte %d accepted", at)
		}
		if err == nil {
			accepted++
		}
		if random.IntN(10) == 0 {
			_, cold := tdx.NewVerifier(b.p.Collateral()).Verify(context.Background(), x, b.roots, b.Now())
			if (cold == nil) != (err == nil) {
				t.Fatalf("byte %d: known machine %v, unknown machine %v", at, err, cold)
			}
		}
	}
	if accepted > 100 {
		t.Errorf("%d altered quotes accepted: more than white space", accepted)
	}
}

// TestDebugIsVisible checks that nothing hides the debug bit from the policy.
func TestDebugIsVisible(t *testing.T) {
	t.Parallel()
	b := setup(t)
	registers := sim.ImageRegisters("worker")
	registers.Attributes |= 1
	td, err := b.p.Launch("host-1", registers)
	if err != nil {
		t.Fatal(err)
	}
	if b.quote, err = td.Quote(context.Background(), [64]byte{}); err != nil {
		t.Fatal(err)
	}
	if r, err := b.verify(tdx.NewVerifier(b.p.Collateral())); err != nil || !r.Debug() {
		t.Errorf("debug TD: %+v, %v", r, err)
	}
}

func TestExtend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	digest := schemas.Measure(sha512.Sum384([]byte("event")))
	if err := b.td.Extend(context.Background(), 3, digest); err != nil {
		t.Fatal(err)
	}
	if got, want := b.td.Registers().RTMR[3], (schemas.Measure{}).Extend(digest); got != want {
		t.Errorf("RTMR3 %s, want %s", got, want)
	}
}

// source is a collateral source that tests switch off and count.
type source struct {
	*sim.Platform
	mu     sync.Mutex
	down   bool
	asked  int
	change func(*tdx.Document)
}

func (s *source) Fetch(ctx context.Context, url string) (tdx.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down {
		return tdx.Document{}, errors.New("connection refused")
	}
	d, err := s.Platform.Fetch(ctx, url)
	if s.change != nil {
		s.change(&d)
	}
	return d, err
}

// shared is a store in memory.
type shared struct {
	mu    sync.Mutex
	kept  map[string]tdx.Document
	saves int
}

func (s *shared) Load(_ context.Context, name string) (tdx.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.kept[name]
	if !ok {
		return d, &schemas.Error{Kind: schemas.KindNotFound}
	}
	return d, nil
}

func (s *shared) Save(_ context.Context, name string, d tdx.Document) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	s.kept[name] = d
	return nil
}

func TestCollateralCache(t *testing.T) {
	t.Parallel()
	b := setup(t)
	src, store := &source{Platform: b.p}, &shared{kept: map[string]tdx.Document{}}
	newVerifier := func(src tdx.Source) *tdx.Verifier {
		return tdx.NewVerifier(tdx.NewCollateral(tdx.CollateralOptions{Source: src, Store: store, Now: b.Now}))
	}
	v := newVerifier(src)
	step := func(name string, asked int, ok bool) {
		t.Helper()
		before := src.asked
		_, err := b.verify(v)
		if (err == nil) != ok || src.asked-before != asked {
			t.Errorf("%s: asked %d times, %v; want %d times, ok %t", name, src.asked-before, err, asked, ok)
		}
	}
	step("first", 4, true)
	step("again", 0, true)
	b.Sleep(time.Hour)
	step("an hour later", 0, true)
	b.Sleep(6 * time.Hour)
	step("refresh", 4, true)
	if store.saves != 8 || len(store.kept) != 4 {
		t.Errorf("shared %d times, %d documents", store.saves, len(store.kept))
	}
	if _, err := b.verify(newVerifier(nil)); err != nil {
		t.Errorf("from the store alone: %v", err)
	}
	src.down = true
	b.Sleep(7 * time.Hour)
	step("service away, old documents still valid", 4, true)
	step("service away, not asked again at once", 0, true)
	b.Sleep(31 * 24 * time.Hour)
	step("service away, documents ended", 4, false)
	src.down = false
	b.Sleep(2 * time.Minute)
	step("service back", 4, true)
}

// slow is a source that lets the test decide when it answers about the quoting enclave.
type slow struct {
	*sim.Platform
	entered, release chan struct{}
}

func (s *slow) Fetch(ctx context.Context, url string) (tdx.Document, error) {
	if s.entered != nil && tdx.Name(url) == "qe" {
		s.entered <- struct{}{}
		<-s.release
	}
	return s.Platform.Fetch(ctx, url)
}

// TestRefreshBlocksNobodyElse: while one caller waits for a newer document, others work with the valid one.
func TestRefreshBlocksNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	src := &slow{Platform: b.p}
	v := tdx.NewVerifier(tdx.NewCollateral(tdx.CollateralOptions{Source: src, Now: b.Now}))
	if _, err := b.verify(v); err != nil {
		t.Fatal(err)
	}
	src.entered, src.release = make(chan struct{}), make(chan struct{})
	b.Sleep(7 * time.Hour)
	refreshed := make(chan error, 1)
	go func() {
		_, err := b.verify(v)
		refreshed <- err
	}()
	<-src.entered
	if _, err := b.verify(v); err != nil { // blocks for ever if it waits for the other
		t.Errorf("meanwhile: %v", err)
	}
	close(src.release)
	if err := <-refreshed; err != nil {
		t.Errorf("the one who waited: %v", err)
	}
}

func TestCollateralIsNotRolledBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	src := &source{Platform: b.p}
	v := tdx.NewVerifier(tdx.NewCollateral(tdx.CollateralOptions{Source: src, Now: b.Now}))
	if _, err := b.verify(v); err != nil {
		t.Fatal(err)
	}
	b.p.Turn(func(k *sim.Knobs) { k.RevokedMachines, k.Issued = []string{"host-1"}, -10*time.Minute })
	b.Sleep(7 * time.Hour)
	if _, err := b.verify(v); err == nil {
		t.Fatal("revoked machine accepted")
	}
	// Somebody serves lists from before the revocation that are still valid.
	b.p.Turn(func(k *sim.Knobs) { k.RevokedMachines, k.Issued = nil, -20*time.Hour })
	b.Sleep(7 * time.Hour)
	if _, err := b.verify(v); err == nil {
		t.Error("collateral was rolled back")
	}
}

func TestCollateralTroubles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		src   func(*source)
		store tdx.Store
		noSrc bool
	}{
		"service away":    {src: func(s *source) { s.down = true }},
		"empty documents": {src: func(s *source) { s.change = func(d *tdx.Document) { d.Body = nil } }},
		"huge documents":  {src: func(s *source) { s.change = func(d *tdx.Document) { d.Body = make([]byte, tdx.MaxDocument+1) } }},
		"empty store":     {src: func(*source) {}, store: tdx.Bundle{}, noSrc: true},
		"nothing":         {src: func(*source) {}, noSrc: true},
	} {
		b := setup(t)
		src := &source{Platform: b.p}
		c.src(src)
		o := tdx.CollateralOptions{Store: c.store, Now: b.Now}
		if !c.noSrc {
			o.Source = src
		}
		if _, err := tdx.NewVerifier(tdx.NewCollateral(o)).Verify(ctx, b.quote, b.roots, b.Now()); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStoredInTheFuture checks that a store cannot keep us from ever asking the source again.
func TestStoredInTheFuture(t *testing.T) {
	t.Parallel()
	b := setup(t)
	documents, err := b.p.Documents(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range documents {
		d.Fetched = b.Now().Add(1000 * time.Hour)
		documents[name] = d
	}
	src := &source{Platform: b.p}
	v := tdx.NewVerifier(tdx.NewCollateral(tdx.CollateralOptions{Source: src, Store: documents, Now: b.Now}))
	if _, err := b.verify(v); err != nil || src.asked != 4 {
		t.Errorf("asked %d times, %v", src.asked, err)
	}
}

// TestService runs Intel's protocol over HTTP against the simulated service.
func TestService(t *testing.T) {
	t.Parallel()
	b := setup(t)
	down := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		d, err := b.p.Fetch(r.Context(), "https://api.trustedservices.intel.com"+r.URL.String())
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		header := "SGX-Enclave-Identity-Issuer-Chain"
		switch {
		case strings.Contains(r.URL.Path, "pckcrl"):
			header = "SGX-PCK-CRL-Issuer-Chain"
		case strings.Contains(r.URL.Path, "tcb"):
			header = "TCB-Info-Issuer-Chain"
		}
		w.Header().Set(header, d.Issuer)
		w.Write(d.Body)
	}))
	defer server.Close()
	service := &tdx.Service{Base: server.URL, Client: server.Client(), Now: b.Now}
	for _, url := range []string{pcs.QeIdentityURL(), pcs.TcbInfoURL("514d554c0001"), pcs.PckCrlURL("platform")} {
		d, err := service.Fetch(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(d.Issuer, "BEGIN") || len(d.Body) == 0 || !d.Fetched.Equal(b.Now()) {
			t.Errorf("%s: %+v", url, d)
		}
	}
	down = true
	if _, err := service.Fetch(context.Background(), pcs.QeIdentityURL()); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("service down: %v", err)
	}
}

// TestConcurrent verifies on many goroutines while collateral changes, for the race detector.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := tdx.NewVerifier(tdx.NewCollateral(tdx.CollateralOptions{Source: b.p, Refresh: time.Minute, Recheck: time.Second, Now: b.Now}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := b.verify(v); err != nil {
					t.Error(i, err)
				}
				b.Sleep(10 * time.Second)
			}
		})
	}
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	w := setup(b)
	collateral := w.p.Collateral()
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%t", known), func(b *testing.B) {
			v := tdx.NewVerifier(collateral)
			if _, err := w.verify(v); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if !known {
					v = tdx.NewVerifier(collateral)
				}
				if _, err := w.verify(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

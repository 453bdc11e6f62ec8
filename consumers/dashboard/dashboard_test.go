package dashboard

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// operatorToken allows actions in tests.
const operatorToken = "an operator's token"

// hostile is a name that would run as a script if it reached a page as markup.
const hostile = `<img src=x onerror="document.title='owned'">`

// bundle is a dashboard over a network with a model, a worker and a finished job.
type bundle struct {
	bus    *streams.Bus
	board  *Dashboard
	server *httptest.Server
	model  schemas.Model
	worker schemas.WorkerID
}

// fixedMoney is settlement's books as a test writes them.
type fixedMoney struct {
	money Money
	err   error
}

// Money implements MoneySource.
func (f *fixedMoney) Money(context.Context) (Money, error) { return f.money, f.err }

// setup makes a network and a dashboard that looks at it until the test ends.
func setup(t *testing.T, money MoneySource) *bundle {
	t.Helper()
	bus := streamstest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	roots := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	keys, err := schemas.NewRootKeys(1, roots.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{bus: bus, worker: schemas.WorkerIDOf([]byte("worker"))}
	b.publishCatalogue(t, roots)
	b.board, err = New(Config{
		Bus: bus, Trust: schemas.Trust{Roots: keys, Environment: schemas.Simulated}, Money: money, Token: operatorToken,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.announce(t, streams.WorkerEntry{
		Worker: b.worker, Host: hostile, Environment: schemas.Simulated, State: streams.WorkerServing, Ask: schemas.One,
		Models:  []streams.WorkerModel{{Model: b.model.ID, Route: streams.RouteOf(&b.model), Slots: 16, Busy: 5}},
		GPUs:    []streams.WorkerGPU{{Name: "SIMULATED H100", CC: "on", Utilisation: 40, MemoryUsed: 1 << 30, MemoryTotal: 80 << 30}},
		Started: time.Now().UTC().Truncate(time.Second), Done: 7,
	})
	go func() {
		defer close(ended)
		done := make(chan struct{})
		go func() { defer close(done); control.New(bus, control.Options{}).Run(ctx) }()
		b.board.Run(ctx)
		<-done
	}()
	b.server = httptest.NewServer(b.board.Handler())
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
		cancel()
		<-ended
	})
	return b
}

// publishCatalogue publishes a signed catalogue with one model, and no policy.
func (b *bundle) publishCatalogue(t *testing.T, roots ed25519.PrivateKey) {
	t.Helper()
	ref := schemas.ModelRef{Name: "tiny", Revision: "1", Root: schemas.HashOf([]byte("weights"))}
	b.model = schemas.Model{
		ID: ref.ID(), Slug: ref.Slug(), Format: "gguf", Context: 512, Endpoints: []string{"/v1/chat/completions"},
		Price: schemas.Price{Prompt: 20 * schemas.TON, Completion: 160 * schemas.TON},
	}
	now := time.Now().UTC().Truncate(time.Second)
	signed, err := schemas.SignDocument(&schemas.Catalogue{
		V: 1, Version: 3, Issued: now, Expires: now.Add(time.Hour), Environment: schemas.Simulated, FeeBP: 500,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models:  []schemas.Model{b.model},
	}, roots)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bus.Bucket(streams.BucketCatalogue).Put(t.Context(), "current", text); err != nil {
		t.Fatal(err)
	}
}

// announce puts a worker's entry.
func (b *bundle) announce(t *testing.T, e streams.WorkerEntry) {
	t.Helper()
	value, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.bus.Bucket(streams.BucketWorkers).Put(t.Context(), streams.PrefixWorker+string(e.Worker), value); err != nil {
		t.Fatal(err)
	}
}

// finish stores an outcome with what its grant and receipt state. The dashboard shows statements without judging them,
// so the signatures are only letters here.
func (b *bundle) finish(t *testing.T) schemas.JobID {
	t.Helper()
	jws := func(v any) string {
		payload, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
	}
	job, now := schemas.NewJobID(), time.Now().UTC().Truncate(time.Second)
	_, err := b.bus.PublishOutcome(t.Context(), schemas.Outcome{
		Job: job, Tenant: schemas.NewTenantID(), Model: b.model.ID, Status: schemas.Succeeded, Body: []byte("sealed"),
		Grant:   jws(schemas.Grant{V: 1, Job: job, Class: schemas.Batch, Worker: b.worker, Attempt: 1, Issued: now.Add(-2 * time.Second)}),
		Receipt: jws(schemas.Receipt{V: 1, Job: job, Usage: schemas.Usage{Prompt: 23, Cached: 11, Completion: 90, Reasoning: 10}, Started: now.Add(-time.Second), Finished: now}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// view reads /api/view until ok is true.
func (b *bundle) view(t *testing.T, what string, ok func(View) bool) View {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var v View
		body := b.get(t, "/api/view", http.StatusOK)
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatal(err)
		}
		if ok(v) {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("never saw %s; the view is %s", what, body)
		}
		<-tick.C
	}
}

// get reads a path.
func (b *bundle) get(t *testing.T, path string, want int) []byte {
	t.Helper()
	r, err := http.Get(b.server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != want {
		t.Fatalf("GET %s: %s: %s", path, r.Status, body)
	}
	return body
}

// post sends an action.
func (b *bundle) post(t *testing.T, path, token, body string, header ...string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestViewFollowsTheNetwork(t *testing.T) {
	t.Parallel()
	b := setup(t, &fixedMoney{money: Money{Held: 5 * schemas.TON, Paid: schemas.TON}})
	job := b.finish(t)
	v := b.view(t, "the worker, the job and the money", func(v View) bool {
		return len(v.Workers.Workers) == 1 && len(v.Jobs.Jobs) == 1 && v.Money.Paid == schemas.TON && len(v.Network.Models) == 1
	})
	if n := v.Network; n.Slots != 16 || n.Busy != 5 || n.JobsServed != 1 || n.TokensSeen != 134 || n.Models[0].Workers != 1 {
		t.Errorf("network: %+v", n)
	}
	j := v.Jobs.Jobs[0]
	if j.Job != job || j.Worker != b.worker || j.Class != schemas.Batch || j.Usage.Completion != 90 || j.Granted.IsZero() || j.Finished.IsZero() {
		t.Errorf("job: %+v", j)
	}
	if v.Trust.Problem == "" {
		t.Error("no policy is published, and trust says nothing about it")
	}
	if v.Money.Held != 5*schemas.TON {
		t.Errorf("money: %+v", v.Money)
	}
	again := b.finish(t)
	b.view(t, "the second job first", func(v View) bool { return len(v.Jobs.Jobs) == 2 && v.Jobs.Jobs[0].Job == again })
}

// TestProblemKeepsTheLastValues breaks a source: its section keeps what it had and says since when.
func TestProblemKeepsTheLastValues(t *testing.T) {
	t.Parallel()
	money := &fixedMoney{money: Money{Paid: schemas.TON}}
	d := &Dashboard{conf: Config{Money: money}}
	now := time.Now()
	look := func() {
		m, err := d.readMoney(t.Context())
		keep(&d.view.Money, &d.view.Money.Freshness, m, err, now)
	}
	look()
	money.err = errors.New("disk on fire at /var/lib")
	look()
	now = now.Add(time.Minute)
	look()
	m := d.view.Money
	if m.Paid != schemas.TON || m.Problem == "" || !m.Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("after a failure: %+v", m)
	}
	if strings.Contains(m.Problem, "/var/lib") {
		t.Errorf("the page shows a cause: %q", m.Problem)
	}
	money.err = nil
	look()
	if d.view.Money.Problem != "" || !d.view.Money.Since.IsZero() {
		t.Errorf("after recovery: %+v", d.view.Money)
	}
}

// eventually polls until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// all names every section.
func all() (names []string) {
	for name := range sectionRows {
		names = append(names, name)
	}
	return names
}

func TestEventsSendOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	seen := map[string]uint64{}
	eventually(t, "every section to be looked at", func() bool {
		got, _ := b.board.store.since(all(), map[string]uint64{})
		return len(got) == len(sectionRows)
	})
	whole, changed := b.board.store.since(all(), seen)
	if len(whole) != len(sectionRows) || !whole[secWorkers].Whole || len(whole[secWorkers].Rows) != 1 {
		t.Fatalf("the first event stream gets %v", whole)
	}
	job := b.finish(t)
	for deadline := time.After(20 * time.Second); ; {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the jobs section never changed")
		}
		var fresh map[string]*delta
		fresh, changed = b.board.store.since(all(), seen)
		if d := fresh[secWorkers]; d != nil && (d.Whole || len(d.Rows) > 1) {
			t.Errorf("workers are sent again: %+v", d)
		}
		if d := fresh[secJobs]; d != nil {
			if d.Whole || len(d.Rows) != 1 || !strings.Contains(fmt.Sprint(string(first(d.Rows))), string(job)) {
				t.Errorf("jobs %+v", d)
			}
			return
		}
	}
}

// first is any row.
func first(rows map[string]json.RawMessage) json.RawMessage {
	for _, r := range rows {
		return r
	}
	return nil
}

func TestActions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	steer := fmt.Sprintf(`{"worker":%q,"order":{"drain":true}}`, b.worker)
	for _, c := range []struct {
		name, path, token, body string
		header                  []string
		want                    int
	}{
		{"no token", "/api/workers/steer", "", steer, nil, http.StatusForbidden},
		{"wrong token", "/api/workers/steer", operatorToken + "x", steer, nil, http.StatusForbidden},
		{"other origin", "/api/workers/steer", operatorToken, steer, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"unknown field", "/api/workers/steer", operatorToken, `{"worker":"x","oder":{}}`, nil, http.StatusBadRequest},
		{"bad worker", "/api/workers/steer", operatorToken, `{"worker":"worker.>","order":{}}`, nil, http.StatusBadRequest},
		{"oversized", "/api/workers/steer", operatorToken, `{"worker":"` + strings.Repeat("w", maxAction) + `"}`, nil, http.StatusRequestEntityTooLarge},
		{"no such letter", "/api/dead/replay", operatorToken, `{"seq":99}`, nil, http.StatusNotFound},
		{"drain", "/api/workers/steer", operatorToken, steer, nil, http.StatusOK},
		{"drain again", "/api/workers/steer", operatorToken, steer, nil, http.StatusOK},
	} {
		if status, answer := b.post(t, c.path, c.token, c.body, c.header...); status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, status, answer, c.want)
		}
	}
	entry, err := b.bus.Bucket(streams.BucketFleet).Get(t.Context(), streams.PrefixWorker+string(b.worker))
	if err != nil {
		t.Fatal(err)
	}
	var order streams.FleetWorker
	if err := json.Unmarshal(entry.Value, &order); err != nil || !order.Drain {
		t.Errorf("the order is %s, %v", entry.Value, err)
	}
}

func TestReadOnlyWithoutToken(t *testing.T) {
	t.Parallel()
	bus := streamstest.New(t)
	keys, err := schemas.NewRootKeys(1, ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Bus: bus, Trust: schemas.Trust{Roots: keys, Environment: schemas.Simulated}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/api/dead/replay", strings.NewReader(`{"seq":1}`))
	r.Header.Set("Authorization", "Bearer ")
	d.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "read-only") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, err := New(Config{Bus: bus, Trust: schemas.Trust{Roots: keys, Environment: schemas.Simulated}, Token: "short"}); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("a short token gave %v", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, &fixedMoney{money: Money{Held: 3 * schemas.TON, Paid: 2 * schemas.TON}})
	b.finish(t)
	b.view(t, "the job and the money", func(v View) bool { return v.Network.JobsServed == 1 && v.Money.Paid > 0 })
	var s Status
	if err := json.Unmarshal(b.get(t, "/status.json", http.StatusOK), &s); err != nil {
		t.Fatal(err)
	}
	if s.WorkersOnline != 1 || s.JobsServed != 1 || s.TokensServed != 134 || s.Held != 3*schemas.TON || s.Paid != 2*schemas.TON || s.Environment != schemas.Simulated {
		t.Errorf("status: %+v", s)
	}
	page := string(b.get(t, "/status", http.StatusOK))
	for _, want := range []string{"Simulated hardware", "3 TON", "2 TON", "Workers online"} {
		if !strings.Contains(page, want) {
			t.Errorf("the status page lacks %q", want)
		}
	}
}

func TestPagesAreSmallAndGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	size := 0
	for _, path := range []string{"/", "/static/app.css", "/static/app.js", "/static/pages.js", "/static/uplot.css", "/static/uplot.js"} {
		size += len(b.get(t, path, http.StatusOK))
	}
	if size > 200_000 {
		t.Errorf("the first page is %d bytes", size)
	}
	for _, path := range []string{"/workers", "/jobs", "/batches", "/dead", "/money", "/trust"} {
		b.get(t, path, http.StatusOK)
	}
	b.get(t, "/../../etc/passwd", http.StatusNotFound)
	r, err := http.Get(b.server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("content security policy: %q", csp)
	}
}

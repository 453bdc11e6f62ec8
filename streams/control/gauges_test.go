package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// classes are the queues of a model.
var classes = []schemas.Class{schemas.Priority, schemas.Standard, schemas.Batch}

// scraped is the page that Prometheus gets from a control service that has seen the queues of n models.
func scraped(tb testing.TB, n int) func() string {
	tb.Helper()
	s := New(streamstest.New(tb), Options{})
	for i := range n {
		for _, class := range classes {
			route := streams.Route{Slug: fmt.Sprintf("model-%d", i)}
			s.gauges.list = append(s.gauges.list, streams.Backlog{Route: route, Class: class, Pending: uint64(i), Lanes: 1, Oldest: time.Minute})
		}
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(s); err != nil {
		tb.Fatal(err)
	}
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
}

// TestScrapeManyModels: every queue of many models is on the page, and nothing by tenant or job.
func TestScrapeManyModels(t *testing.T) {
	t.Parallel()
	page := scraped(t, 1000)()
	if n := strings.Count(page, "\ncocoon_backlog_jobs{"); n != 1000*len(classes) {
		t.Errorf("%d queues on the page", n)
	}
	if strings.Contains(page, "tenant") || strings.Contains(page, "job_id") {
		t.Error("the page has a label that it must not have")
	}
}

// BenchmarkScrape is one scrape with 1,000 models, 3,000 queues.
func BenchmarkScrape(b *testing.B) {
	scrape := scraped(b, 1000)
	for b.Loop() {
		scrape()
	}
}

// looker is a control service whose queue holds n jobs, and its connection's count of messages.
func looker(tb testing.TB, n int) *Service {
	tb.Helper()
	bus := streamstest.New(tb)
	if err := bus.CreateConsumer(tb.Context(), streamstest.Route, schemas.Standard); err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		tenant := schemas.NewTenantID()
		if _, err := bus.PublishJob(tb.Context(), streamstest.Job(tenant, fmt.Appendf(nil, "sealed %d", i), nil)); err != nil {
			tb.Fatal(err)
		}
	}
	s := New(bus, Options{Hot: 1 << 30})
	if err := s.gauges.look(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if list := s.Backlogs(); len(list) != 1 || list[0].Pending != uint64(n) {
		tb.Fatalf("%d jobs wait, the look says %+v", n, list)
	}
	return s
}

// TestLookIsAsLongWhateverWaits counts what a look at the queues asks the server, and the bytes of the answers: a hundred times
// the jobs, of as many tenants, must not make it more.
func TestLookIsAsLongWhateverWaits(t *testing.T) {
	t.Parallel()
	cost := func(n int) (requests, bytes uint64) {
		s := looker(t, n)
		before := s.bus.Conn().Stats()
		if err := s.gauges.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := s.bus.Conn().Stats()
		return after.OutMsgs - before.OutMsgs, after.InBytes - before.InBytes
	}
	few, small := cost(10)
	many, large := cost(1000)
	if few == 0 || many != few || large > small+1024 {
		t.Errorf("a look at 10 jobs: %d requests, %d bytes; at 1000: %d requests, %d bytes", few, small, many, large)
	}
}

// BenchmarkLook is one look at a queue with few or many jobs.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{10, 1000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := looker(b, n)
			for b.Loop() {
				if err := s.gauges.look(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

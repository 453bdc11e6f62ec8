package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestOps(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "cocoon_test_total", Help: "Counts."})
	registry.MustRegister(counter)
	counter.Inc()
	var away error
	address := freeAddress(t)
	ops := Ops{Address: address, Metrics: registry, Ready: func(context.Context) error { return away }}
	stop, err := ops.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	if status, body := get("/metrics"); status != http.StatusOK || !strings.Contains(body, "cocoon_test_total 1") {
		t.Errorf("/metrics: %d %s", status, body)
	}
	if status, _ := get("/healthz"); status != http.StatusNoContent {
		t.Errorf("/healthz: %d", status)
	}
	if status, _ := get("/readyz"); status != http.StatusNoContent {
		t.Errorf("/readyz: %d", status)
	}
	away = errors.New("the ledger is away")
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "away") {
		t.Errorf("/readyz of a process that cannot work: %d %s", status, body)
	}
	if _, err := ops.Start(t.Context()); ExitCode(err) != ExitUsage {
		t.Errorf("a taken address gave %v", err)
	}
	stop()
	if _, err := http.Get("http://" + address + "/healthz"); err == nil {
		t.Error("it still serves after stop")
	}
}

func TestOpsNowhere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (Ops{}).Run(ctx); err != nil {
		t.Errorf("without an address: %v", err)
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		figure Figure
		ok     bool
		goal   string
	}{
		{AtLeast("speed", "ratio", 0.7, 0.7), true, ">=0.7"},
		{AtLeast("speed", "ratio", 0.69, 0.7), false, ">=0.7"},
		{AtMost("wait", "ratio", 2, 2), true, "<=2"},
		{AtMost("wait", "ratio", 2.01, 2), false, "<=2"},
		{AtLeast("grants", "1/s", 9999, 10_000), false, ">=10000"},
		{Reported("floor", "us", 1), true, ""},
	} {
		if c.figure.OK != c.ok || c.figure.Goal != c.goal {
			t.Errorf("%+v, want ok %v, goal %q", c.figure, c.ok, c.goal)
		}
	}
	table := FigureTable([]BenchResult{{Bench: "seal", Figures: []Figure{AtLeast("a", "ratio", 0.1, 1)}, Notes: []string{"quick"}}})
	if len(table.Rows) != 2 || table.Rows[0][5] != "NO" {
		t.Errorf("%v", table.Rows)
	}
}

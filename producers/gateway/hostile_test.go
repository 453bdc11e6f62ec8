package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// tests are the tests of the package; when they have run, their client has no connections any more.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer http.DefaultClient.CloseIdleConnections()
	return m.M.Run()
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(tests{m},
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.5.func1"),       // the server's clock
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"), // the same, by its new name
	)
}

// serveAlso serves a bundle's gateway on a second listener, whose address it returns.
func (b *bundle) serveAlso(t *testing.T, adjust func(*http.Server)) string {
	t.Helper()
	server := b.g.Server()
	adjust(server)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served // with the news that it was closed
	})
	return l.Addr().String()
}

// dial opens a connection that lasts until the end of the test.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(patience(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// served makes some requests as anybody would.
func (b *bundle) served(t *testing.T) {
	t.Helper()
	for range 3 {
		if w := b.post(t, "/v1/chat/completions", string(producerstest.Ask("x", ""))); w.StatusCode != http.StatusOK {
			t.Errorf("beside hostile clients: %d %s", w.StatusCode, read(t, w))
		}
	}
}

// TestIdleConnections has ten thousand connections on which nobody says anything: others are served as ever, and the
// connections are closed when the time for a request's header is over.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	const want, spare = 10_000, 1000 // spare descriptors are for everything else
	n := min(want, (descriptors(t, 2*want+spare)-spare)/2)
	if n < want {
		t.Logf("the system allows too few open files for both ends of %d connections: %d instead", want, n)
	}
	if n < 100 {
		missing(t, "the system allows only %d connections", n)
	}
	b := setup(t, producerstest.Echo)
	var opened, closed atomic.Int64
	address := b.serveAlso(t, func(s *http.Server) {
		s.ReadHeaderTimeout = 5 * time.Second
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				opened.Add(1)
			case http.StateClosed:
				closed.Add(1)
			}
		}
	})
	for range n {
		dial(t, address)
	}
	b.server.URL = "http://" + address
	b.served(t)
	poll(t, func() bool { return opened.Load() >= int64(n) && closed.Load() >= int64(n) })
}

// TestSlowReaders has clients that ask for long streams and do not read them: others are served as ever, and the slow
// ones are cut off when one write has taken too long.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	const slow = 8
	piece := strings.Repeat("x", 4<<10)
	registry := prometheus.NewRegistry()
	b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		if r.Stream {
			for range 100 {
				emit(producerstest.Chunk("tiny", piece, ""))
			}
			return producerstest.Chat("tiny", strings.Repeat(piece, 100))
		}
		return producerstest.Echo(ctx, r, emit)
	}, func(o *gateway.Options) { o.WriteTimeout, o.Metrics = 300*time.Millisecond, registry })
	address := b.serveAlso(t, func(s *http.Server) {
		s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			if err := c.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil { // or the system takes the whole stream
				t.Error(err)
			}
			return ctx
		}
	})
	body := string(producerstest.Ask("x", `,"stream":true`))
	var clients [slow]*net.TCPConn
	for i := range clients {
		clients[i] = dial(t, address)
		if err := clients[i].SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(clients[i], "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
	}
	b.served(t)
	poll(t, func() bool { return requests(t, registry) == slow+3 && inFlight(t, registry) == 0 })
	for _, c := range clients {
		if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil { // the rest may trickle on for long
			t.Fatal(err)
		}
		if all, _ := io.ReadAll(c); strings.Contains(string(all), "[DONE]") {
			t.Error("a client that did not read got everything: the test proves nothing")
		}
	}
}

// requests is how many requests the gateway says have ended.
func requests(t *testing.T, r *prometheus.Registry) (n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cocoon_gateway_requests_total" {
			for _, m := range f.GetMetric() {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// inFlight is how many requests the gateway says are under way.
func inFlight(t *testing.T, r *prometheus.Registry) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "cocoon_gateway_requests_in_flight" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("no metric of requests in flight")
	return 0
}

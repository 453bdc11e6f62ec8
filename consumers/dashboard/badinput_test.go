package dashboard

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cocoon-network/cocoon/streams"
)

// TestOversizedAndWrongQueries are refused with the field, before anything is read.
func TestOversizedAndWrongQueries(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.get(t, "/api/view?sections="+strings.Repeat("x", maxQuery), http.StatusRequestEntityTooLarge)
	for _, path := range []string{"/api/view?sections=secrets", "/api/events?sections=workers,,", "/api/dead?before=-1", "/api/dead/x", "/api/workers/worker.%3E"} {
		if body := string(b.get(t, path, http.StatusBadRequest)); !strings.Contains(body, `"field"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	b.get(t, "/api/dead/99", http.StatusNotFound)
}

// TestStreamThatVanishes: a stream that is removed while it is shown leaves the last values with the reason beside them.
func TestStreamThatVanishes(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	job := b.finish(t)
	b.view(t, "the job", func(v View) bool { return len(v.Jobs.Jobs) == 1 })
	for _, stream := range []string{streams.StreamOutcomes, streams.StreamDead} {
		if _, err := b.bus.Conn().Request("$JS.API.STREAM.DELETE."+stream, nil, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	v := b.view(t, "what is wrong", func(v View) bool { return v.Jobs.Problem != "" && v.Dead.Problem != "" })
	if len(v.Jobs.Jobs) != 1 || v.Jobs.Jobs[0].Job != job || v.Jobs.Since.IsZero() {
		t.Errorf("the job that was shown is gone: %+v", v.Jobs)
	}
}

// TestBrowserWrongToken: a wrong token does nothing, says so, is forgotten, and the right one then works.
func TestBrowserWrongToken(t *testing.T) {
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	p := browser(t, 1280, 900, false)
	p.open(b.server.URL+"/workers", drainButton)
	try := func(token, want string) {
		t.Helper()
		p.do(
			chromedp.Click(chromedp.CSS(drainButton)), chromedp.WaitVisible(chromedp.CSS("#token[open]")),
			chromedp.SendKeys(chromedp.CSS("#token-value"), token), chromedp.Click(chromedp.CSS(`#token button[value="ok"]`)), chromedp.WaitVisible(chromedp.CSS("#toast")),
		)
		eventually(t, want, func() bool { return strings.Contains(p.text("#toast"), want) })
	}
	try("not the operator's token", "wrong operator token")
	if _, err := b.bus.Bucket(streams.BucketFleet).Get(t.Context(), streams.PrefixWorker+string(b.worker)); err == nil {
		t.Error("a wrong token gave an order")
	}
	try(operatorToken, "Drain: done")
}

// TestBrowserActionOnce: however often a button is pressed, the action is sent once.
func TestBrowserActionOnce(t *testing.T) {
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	var sent atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sent.Add(1)
			wait(r.Context(), 300*time.Millisecond) // long enough to be pressed again
		}
		b.board.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() { slow.CloseClientConnections(); slow.Close() })
	p := browser(t, 1280, 900, false)
	p.open(slow.URL+"/workers", drainButton)
	read(p, chromedp.Evaluate[int](`(() => { sessionStorage.setItem("token", "`+operatorToken+`"); const b = document.querySelector('`+drainButton+`'), arg = JSON.parse(b.dataset.arg);
		for (let i = 0; i < 5; i++) { b.click(); document.getElementById("token-ok").click(); act(arg); } return 1 })()`))
	p.do(chromedp.WaitVisible(chromedp.CSS("#toast")))
	eventually(t, "the order", func() bool { return strings.Contains(p.text("#toast"), "Drain: done") })
	if n := sent.Load(); n != 1 {
		t.Errorf("the action was sent %d times", n)
	}
}

// TestBrowserServerRestart: the page says that its server is away, keeps what it shows, and goes on when it is back.
func TestBrowserServerRestart(t *testing.T) {
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	p := browser(t, 1280, 900, false)
	p.open(b.server.URL+"/jobs", "main .empty")
	address := b.server.Listener.Addr().String()
	b.server.Listener.Close()
	b.server.CloseClientConnections()
	p.do(chromedp.WaitVisible(chromedp.CSS("#stale")))
	if heading := p.text("main h1"); heading != "Jobs" || !strings.Contains(p.text("#stale"), "does not answer") {
		t.Errorf("heading %q, bar %q", heading, p.text("#stale"))
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again := &http.Server{Handler: b.board.Handler(), ReadHeaderTimeout: time.Minute}
	go again.Serve(listener)
	t.Cleanup(func() { again.Close() })
	b.finish(t)
	p.do(chromedp.WaitVisible(chromedp.CSS(`#live[data-state="live"]`)), chromedp.WaitVisible(chromedp.CSS("main tbody tr")))
	if read(p, chromedp.Evaluate[bool](`!document.getElementById("stale").hidden`)) {
		t.Error("the page still says that its server is away")
	}
}

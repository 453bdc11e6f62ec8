package dashboard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// page is a tab of a headless Chromium that ends with the test.
type page struct {
	t   *testing.T
	ctx context.Context
}

// browser starts the Chromium.
func browser(t *testing.T, width, height int, dark bool) page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
			t.Fatal("Chromium is not installed and COCOON_TEST_REQUIRE=all")
		}
		t.Skip("Chromium is not installed")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.WindowSize(width, height), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-background-networking", true),
		chromedp.UserDataDir(t.TempDir()),
	}
	if dark {
		options = append(options, chromedp.Flag("blink-settings", "preferredColorScheme=0"))
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	p := page{t, ctx}
	p.do(chromedp.Navigate("about:blank")) // the context of the first run is the browser's life
	p.ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	p.do(chromedp.EmulateViewport(int64(width), int64(height))) // a window is never narrower than 500 pixels
	return p
}

// do runs steps.
func (p page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// read runs an action that has a value.
func read[T any](p page, a chromedp.Action[T]) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, a)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// open goes to a page and waits until it shows something.
func (p page) open(url string, selector chromedp.CSS) {
	p.t.Helper()
	p.do(chromedp.Navigate(url), chromedp.WaitVisible(selector))
}

// text is the visible text of an element.
func (p page) text(selector chromedp.CSS) string {
	p.t.Helper()
	return read(p, chromedp.Text(selector))
}

// shoot keeps a picture of the page where COCOON_TEST_SCREENSHOTS says, so that a person can look at it.
func (p page) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("COCOON_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	png := read(p, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.png", p.t.Name(), name)), png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// books are what the money page shows in tests.
func books() *fixedMoney {
	return &fixedMoney{money: Money{
		Held: 1234*schemas.TON + 5, Earned: 12 * schemas.TON, Paid: 10 * schemas.TON, Pending: 2 * schemas.TON, Fees: schemas.TON / 2,
		Treasury: "0:" + schemas.Owner(strings.Repeat("ab", 32)), Chain: "tonnet",
		Owners:  []OwnerRow{{Owner: "0:" + schemas.Owner(strings.Repeat("cd", 32)), Earned: 12 * schemas.TON, Paid: 10 * schemas.TON, Pending: 2 * schemas.TON}},
		Batches: []PayoutRow{{ID: "1", State: "done", Created: time.Now(), Transfers: 1, Amount: 10 * schemas.TON, Root: schemas.HashOf([]byte("root")).String()}},
		Alerts:  []string{"low_funds: the treasury cannot cover what is due"},
	}}
}

func TestBrowserPages(t *testing.T) {
	b := setup(t, books())
	b.finish(t)
	b.view(t, "everything", func(v View) bool {
		return len(v.Jobs.Jobs) == 1 && len(v.Workers.Workers) == 1 && v.Money.Paid > 0
	})
	p := browser(t, 1280, 900, false)
	for _, page := range []struct{ path, heading, wants string }{
		{"/", "Network", "tiny@1"},
		{"/workers", "Workers", "SIMULATED H100"},
		{"/jobs", "Jobs", "succeeded"},
		{"/batches", "Batches", "1 / 1"},
		{"/dead", "Dead letters", "No dead letters"},
		{"/money", "Money", "1,234 TON"},
		{"/trust", "Trust", "simulated"},
	} {
		p.open(b.server.URL+page.path, "main h1")
		heading, body, banner := p.text("main h1"), p.text("main"), p.text("#banner")
		p.shoot(page.heading)
		if heading != page.heading || !strings.Contains(body, page.wants) || !strings.Contains(banner, "Simulated") {
			t.Errorf("%s shows %q, banner %q:\n%s", page.path, heading, banner, body)
		}
	}
}

// TestBrowserHostileName shows a name that is markup: it must be seen as text and run nothing.
func TestBrowserHostileName(t *testing.T) {
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	p := browser(t, 1280, 900, false)
	p.open(b.server.URL+"/workers", "main table")
	body, title := p.text("main"), read(p, chromedp.Title())
	images := read(p, chromedp.Evaluate[int](`document.querySelectorAll("main img").length`))
	if !strings.Contains(body, hostile) || title == "owned" || images != 0 {
		t.Errorf("title %q, %d images, body:\n%s", title, images, body)
	}
}

// drainButton is the first action of a worker.
const drainButton = `main button[data-act="do"]`

// TestBrowserLiveUpdateAndAction sees a job arrive without reloading, and drains a worker with the token.
func TestBrowserLiveUpdateAndAction(t *testing.T) {
	b := setup(t, nil)
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	p := browser(t, 1280, 900, false)
	p.open(b.server.URL+"/jobs", "main h1")
	if empty := p.text("main .empty"); !strings.Contains(empty, "No job has finished yet") {
		t.Errorf("the empty page says %q", empty)
	}
	job := b.finish(t)
	p.do(chromedp.WaitVisible(chromedp.CSS("main table")))
	if cell := read(p, chromedp.AttributeValue(chromedp.CSS("main tbody td .mono"), "title")); cell.Value != string(job) {
		t.Errorf("the page shows job %q, want %q", cell.Value, job)
	}
	p.do(
		chromedp.Click(chromedp.CSS(`nav a[href="/workers"]`)), chromedp.WaitVisible(chromedp.CSS(drainButton)),
		chromedp.Click(chromedp.CSS(drainButton)), chromedp.WaitVisible(chromedp.CSS("#token[open]")),
	)
	p.shoot("token")
	p.do(
		chromedp.SendKeys(chromedp.CSS("#token-value"), operatorToken), chromedp.Click(chromedp.CSS(`#token button[value="ok"]`)),
		chromedp.WaitVisible(chromedp.CSS("#toast")),
	)
	if toast := p.text("#toast"); toast != "Drain: done" {
		t.Errorf("the page says %q", toast)
	}
	if _, err := b.bus.Bucket(streams.BucketFleet).Get(t.Context(), streams.PrefixWorker+string(b.worker)); err != nil {
		t.Errorf("no order was stored: %v", err)
	}
}

// TestBrowserLostServer shows what a page says when its server is gone.
func TestBrowserLostServer(t *testing.T) {
	b := setup(t, books())
	b.view(t, "the worker", func(v View) bool { return len(v.Workers.Workers) == 1 })
	p := browser(t, 390, 844, true)
	p.open(b.server.URL+"/", `#live[data-state="live"]`)
	p.do(chromedp.WaitVisible(chromedp.CSS("main h1"))) // live comes before the first figures
	p.shoot("phone-dark")
	b.server.Listener.Close()
	b.server.CloseClientConnections()
	p.do(chromedp.WaitVisible(chromedp.CSS(`#live[data-state="lost"]`)))
	live, body := p.text("#live"), p.text("main")
	if !strings.Contains(live, "connection lost") || !strings.Contains(body, "Network") {
		t.Errorf("the page says %q and shows:\n%s", live, body)
	}
}

// TestBrowserPhoneWidth finds nothing that sticks out of a phone's screen.
func TestBrowserPhoneWidth(t *testing.T) {
	b := setup(t, books())
	b.finish(t)
	b.view(t, "everything", func(v View) bool { return len(v.Jobs.Jobs) == 1 && len(v.Workers.Workers) == 1 })
	p := browser(t, 390, 844, false)
	for _, path := range []string{"/", "/workers", "/jobs", "/batches", "/dead", "/money", "/trust"} {
		p.open(b.server.URL+path, "main h1")
		p.shoot(strings.TrimPrefix(path, "/"))
		if over := read(p, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`)); over > 0 {
			t.Errorf("%s is %d pixels wider than the screen", path, over)
		}
	}
}

package dashboard

import (
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// uptime counts for how much of the time that was looked at the network could serve: control answered, and a worker was there.
type uptime struct {
	mu          sync.Mutex // guards the fields below
	up, looked  time.Duration
	before      time.Time
	since, down time.Time // since when it is up, and since when it is not; one of them is zero
}

// maxLook bounds the time that one look can account for: a dashboard that slept knows nothing of it.
const maxLook = 10 * time.Second

// count adds one look.
func (u *uptime) count(now time.Time, up bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.before.IsZero() {
		d := min(max(now.Sub(u.before), 0), maxLook)
		u.looked += d
		if up {
			u.up += d
		}
	}
	u.before = now
	switch {
	case up && u.since.IsZero():
		u.since, u.down = now, time.Time{}
	case !up && u.down.IsZero():
		u.since, u.down = time.Time{}, now
	}
}

// figures are the share of the time in basis points, and since when it is up, zero when it is not.
func (u *uptime) figures() (share int, since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.looked == 0 {
		return 0, u.since
	}
	return int(u.up * 10_000 / u.looked), u.since
}

// Status is the few figures that outsiders ask for.
type Status struct {
	Environment schemas.Environment `json:"environment"`
	// Serving tells whether a job submitted now would find a worker.
	Serving       bool `json:"serving"`
	WorkersOnline int  `json:"workers_online"`
	Models        int  `json:"models"`
	// JobsServed counts outcomes since the network was made. TokensServed is what was booked; without books beside this page it
	// counts from when the page began to look.
	JobsServed   uint64 `json:"jobs_served"`
	TokensServed uint64 `json:"tokens_served"`
	// MedianSeconds is the median time from queue to outcome of the newest jobs, 0 when none was seen.
	MedianSeconds float64         `json:"median_seconds"`
	Held          schemas.NanoTON `json:"held_nanoton"`
	Paid          schemas.NanoTON `json:"paid_nanoton"`
	// Uptime is the share, in percent, of the time looked at in which the network could serve; UptimeSeconds is how long it
	// has been so without a break, LookedSeconds how long this page has looked.
	Uptime        float64 `json:"uptime_percent"`
	UptimeSeconds int64   `json:"uptime_seconds"`
	LookedSeconds int64   `json:"looked_seconds"`
	// Problem says what could not be read, empty when all could; the figures are then those of the last good look.
	Problem string `json:"problem,omitempty"`
	// Books tells whether settlement runs beside this page: without it nothing is known of money.
	Books bool `json:"books"`
}

// statusOf makes the public figures of the last look.
func (d *Dashboard) statusOf() Status {
	n, m := d.publicNetwork.Load(), d.publicMoney.Load()
	s := Status{Environment: d.conf.Trust.Environment, LookedSeconds: int64(d.conf.Now().Sub(d.started).Seconds()), Problem: "has not looked yet"}
	if n != nil {
		s.WorkersOnline, s.Models, s.JobsServed, s.TokensServed, s.Problem = n.WorkersOnline, len(n.Models), n.JobsServed, n.TokensSeen, n.Problem
		s.Serving = n.Problem == "" && n.States[streams.WorkerServing] > 0
		s.MedianSeconds = n.MedianWait.Seconds()
		if n.MedianWait == 0 {
			s.MedianSeconds = n.MedianRun.Seconds()
		}
	}
	if m != nil && !m.Absent {
		s.Books, s.Held, s.Paid = true, m.Held, m.Paid
		s.TokensServed = max(m.Tokens, s.TokensServed)
	}
	share, since := d.uptime.figures()
	s.Uptime = float64(share) / 100
	if !since.IsZero() {
		s.UptimeSeconds = int64(d.conf.Now().Sub(since).Seconds())
	}
	return s
}

// serveStatus writes the public figures.
func (d *Dashboard) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, d.statusOf())
}

// lasted spells seconds in their two largest units.
func lasted(seconds int64) string {
	minutes := seconds / 60
	switch {
	case seconds < 60:
		return fmt.Sprintf("%d s", max(seconds, 0))
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	case minutes < 48*60:
		return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%d days %d h", minutes/60/24, minutes/60%24)
}

// tons spells an amount with at most four digits after the point, rounded down.
func tons(n schemas.NanoTON) string { return (n / 100_000 * 100_000).String() }

// count spells a number with its thousands apart.
func count(n uint64) string {
	s := []byte{}
	for i := 0; n > 0 || i == 0; i++ {
		if i > 0 && i%3 == 0 {
			s = append(s, ',')
		}
		s = append(s, byte('0'+n%10))
		n /= 10
	}
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
	return string(s)
}

// statusPage is the public page; it works without scripts.
var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"ton": tons, "lasted": lasted, "count": count, "int": func(n int) uint64 { return uint64(max(n, 0)) },
}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="15"><title>Cocoon status</title><link rel="stylesheet" href="/static/app.css">
<body class="public"><main class="status">
<h1><span class="mark" aria-hidden="true"></span>Cocoon</h1>
{{if eq .Environment "simulated"}}<p class="banner">Simulated hardware: this network protects nothing and its money is not real.</p>{{end}}
{{if .Problem}}<p class="problem" role="alert">Figures may be old: {{.Problem}}</p>{{end}}
<p class="verdict {{if .Serving}}good{{else}}bad{{end}}"><strong>{{if .Serving}}Serving{{else}}Not serving{{end}}</strong>
<span>{{if .Serving}}for {{lasted .UptimeSeconds}}{{else}}no worker takes jobs now; queued jobs wait{{end}}</span></p>
<dl class="figures">
<div><dt>Workers online</dt><dd>{{count (int .WorkersOnline)}}</dd></div><div><dt>Models</dt><dd>{{count (int .Models)}}</dd></div>
<div><dt>Jobs served</dt><dd>{{count .JobsServed}}</dd></div><div><dt>Tokens served</dt><dd>{{count .TokensServed}}</dd></div>
<div><dt>Median wait</dt><dd>{{if .MedianSeconds}}{{printf "%.2f s" .MedianSeconds}}{{else}}–{{end}}</dd></div>
<div><dt>Uptime</dt><dd>{{printf "%.2f" .Uptime}} %</dd><dd class="soft">over {{lasted .LookedSeconds}}</dd></div>
{{if .Books}}<div><dt>Held for tenants</dt><dd>{{ton .Held}}</dd></div><div><dt>Paid to owners</dt><dd>{{ton .Paid}}</dd></div>{{end}}
</dl><p class="soft">Median wait is from the queue to the outcome. Renewed every 15 seconds; the same figures as <a href="/status.json">JSON</a>.</p></main></body></html>
`))

// serveStatusPage writes the public figures as a page.
func (d *Dashboard) serveStatusPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := statusPage.Execute(w, d.statusOf()); err != nil {
		d.conf.Log.Warn("status page", "error", err)
	}
}

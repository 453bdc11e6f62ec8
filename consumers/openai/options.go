package openai

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Options of an engine. URL is required.
type Options struct {
	// URL of the server without /v1: http://host:port, https://…, or unix:/path of a socket.
	URL string
	// Model is the name under which the server has the model; "" means its first one.
	Model string
	// Flavour is cocoon, vllm, sglang, llama-server, tgi or openai; "" asks the server.
	Flavour string
	// Key is the bearer token, if the server wants one.
	Key string
	// Slots bounds the requests in flight; 0 means 256, and what the server says about itself if it says less.
	Slots int
	// Poll is the time between looks at health and metrics; 0 means a second. PollTimeout bounds one; 0 means 5 seconds.
	Poll, PollTimeout time.Duration
	// Stall is how long a server may keep silent in the middle of an answer; 0 means 2 minutes.
	Stall time.Duration
	// Transport is for tests; nil makes one.
	Transport http.RoundTripper
	// Log gets what happens to the server, never text; nil discards.
	Log *slog.Logger
}

// Limits of what a server may send.
const (
	maxAnswer  = 64 << 20
	maxEvent   = 8 << 20
	maxMetrics = 8 << 20
	maxProblem = 64 << 10
	// maxSlots bounds Options.Slots, firstLimit is where the limit of requests in flight starts.
	maxSlots     = 4096
	defaultSlots = 256
	firstLimit   = 8
)

func (o Options) withDefaults() (Options, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Poll, time.Second)
	set(&o.PollTimeout, 5*time.Second)
	set(&o.Stall, 2*time.Minute)
	if o.Slots == 0 {
		o.Slots = defaultSlots
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Slots < 1 || o.Slots > maxSlots {
		return o, schemas.FieldError("slots", "must be 1 to 4096")
	}
	if !strings.HasPrefix(o.URL, "http://") && !strings.HasPrefix(o.URL, "https://") && !strings.HasPrefix(o.URL, "unix:/") {
		return o, schemas.FieldError("url", "must begin with http://, https:// or unix:/")
	}
	return o, nil
}

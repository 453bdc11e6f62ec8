package deploy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// collector takes traces as an OpenTelemetry collector does.
type collector struct {
	url string
	// mu guards bodies.
	mu     sync.Mutex
	bodies []string
}

// newCollector starts one.
func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bodies = append(c.bodies, string(body))
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// tracedSpan is a span as OTLP spells it, with the service that sent it.
type tracedSpan struct {
	Trace      string `json:"traceId"`
	Parent     string `json:"parentSpanId"`
	Name       string `json:"name"`
	Attributes []struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	} `json:"attributes"`
	Links []struct {
		Trace string `json:"traceId"`
	} `json:"links"`
	service string
}

// spans reads what has come.
func (c *collector) spans(t *testing.T) []tracedSpan {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []tracedSpan
	for _, body := range c.bodies {
		var b struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []struct{ Value map[string]any }
				}
				ScopeSpans []struct{ Spans []tracedSpan }
			}
		}
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.ResourceSpans {
			for _, s := range r.ScopeSpans[0].Spans {
				s.service, _ = r.Resource.Attributes[0].Value["stringValue"].(string)
				all = append(all, s)
			}
		}
	}
	return all
}

// check follows a job from the gateway, on the tenant's side, to its booking, on the network's, and holds the traces to
// what they must not say: question and answer, tenants, and on the network's side anything of the tenant's trace.
func (c *collector) check(t *testing.T, question, answer, accounts string) {
	t.Helper()
	own, network := map[string]bool{}, map[string]map[string]bool{}
	var links []string
	for _, s := range c.spans(t) {
		if s.service == "cocoon-gateway" {
			own[s.Trace] = true
			for _, l := range s.Links {
				links = append(links, l.Trace)
			}
			continue
		}
		if network[s.Trace] == nil {
			network[s.Trace] = map[string]bool{}
		}
		network[s.Trace][s.service+" "+s.Name] = true
		if len(s.Links) > 0 {
			t.Errorf("%s links to %v", s.Name, s.Links)
		}
	}
	if len(links) < 2 {
		t.Errorf("%d jobs of the gateway are linked to the network's traces", len(links))
	}
	for _, trace := range links {
		for _, want := range []string{"cocoon-broker broker.grant", "cocoon-worker worker.take", "cocoon-worker worker.run", "cocoon-worker worker.publish", "cocoon-settle settlement.book"} {
			if !network[trace][want] {
				t.Errorf("the trace of a job has no %q: %v", want, network[trace])
			}
		}
	}
	for trace := range network {
		if own[trace] {
			t.Errorf("the network has a trace of the tenant's: %s", trace)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	everything := strings.Join(c.bodies, "\n")
	secrets := append(regexp.MustCompile(`t[a-z2-7]{16}`).FindAllString(accounts, -1), answer, "the red cat sleeps", "messages", "local")
	for _, secret := range secrets {
		if strings.Contains(everything, secret) {
			t.Errorf("the traces say %q", secret)
		}
	}
	if len(secrets) < 5 || question == "" {
		t.Errorf("looked for %v only", secrets)
	}
}

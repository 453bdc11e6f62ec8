package deploy

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/settlement/service"
	"github.com/cocoon-network/cocoon/streams/control"
)

// collected takes collectors instead of a registry and remembers what they describe: metric to labels.
type collected map[string][]string

// descLine is how a description prints itself.
var descLine = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// Register implements prometheus.Registerer.
func (c collected) Register(collector prometheus.Collector) error {
	ch := make(chan *prometheus.Desc)
	go func() { collector.Describe(ch); close(ch) }()
	for d := range ch {
		m := descLine.FindStringSubmatch(d.String())
		if m == nil {
			panic("a description prints itself in another way now: " + d.String())
		}
		labels := []string{}
		for label := range strings.SplitSeq(m[2], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			c[m[1]+suffix] = labels
		}
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (c collected) MustRegister(all ...prometheus.Collector) {
	for _, collector := range all {
		_ = c.Register(collector) // it panics or returns nil
	}
}

// Unregister implements prometheus.Registerer.
func (c collected) Unregister(prometheus.Collector) bool { return false }

// inSource are metrics whose collectors only a running broker has: where their names stand in the source, and their labels.
var inSource = map[string]map[string][]string{
	"../enclave/cli/brokermetrics.go": {
		"cocoon_broker_decisions_total":              {"verb", "kind"},
		"cocoon_broker_audit_dropped_total":          {},
		"cocoon_policy_expires_timestamp_seconds":    {},
		"cocoon_catalogue_expires_timestamp_seconds": {},
		"cocoon_epoch_ends_timestamp_seconds":        {},
	},
}

// foreign are metrics that other programs export: Prometheus itself, and nats-io/prometheus-nats-exporter (the names of
// its collector/jsz.go).
var foreign = map[string][]string{
	"up":                                   {},
	"jetstream_server_jetstream_disabled":  {"server_name"},
	"jetstream_server_total_message_bytes": {"server_name"},
	"jetstream_server_total_messages":      {"server_name"},
	"jetstream_server_max_storage":         {"server_name"},
}

// exported are all metrics that may be used: what our collectors describe, and the foreign ones.
func exported(t *testing.T) collected {
	t.Helper()
	c := collected{}
	c.MustRegister(control.New(nil, control.Options{}), &service.Services{})
	consumers.NewMetrics(c)
	if len(c) < 40 || !slices.Contains(c["cocoon_backlog_jobs"], "class") {
		t.Fatalf("our collectors describe only %d metrics: %v", len(c), slices.Sorted(maps.Keys(c)))
	}
	for path, metrics := range inSource {
		source := string(read(t, path))
		for name, labels := range metrics {
			for _, word := range append([]string{name}, labels...) {
				if !strings.Contains(source, `"`+word+`"`) {
					t.Errorf("%s does not have %q any more", path, word)
				}
			}
			c[name] = labels
		}
	}
	maps.Copy(c, foreign)
	return c
}

// Parts of PromQL that are neither metrics nor labels.
var (
	promString   = regexp.MustCompile(`"[^"]*"`)
	promRange    = regexp.MustCompile(`\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	promSelector = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}`)
	promWord     = regexp.MustCompile(`[a-zA-Z_:][\w:]*\s*\(?`)
	promLabel    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	promWords    = []string{"and", "or", "unless", "bool", "offset"}
)

// scraped are labels that Prometheus adds, and le of histograms.
var scraped = []string{"instance", "job", "le"}

// checkExpr holds an expression to metrics that exist and labels that they have. Series that rules record are known
// with their labels.
func checkExpr(t *testing.T, where, expr string, known collected) {
	t.Helper()
	for _, problem := range problemsOf(expr, known) {
		t.Errorf("%s: %s in %s", where, problem, expr)
	}
}

// problemsOf lists what an expression uses and nobody exports.
func problemsOf(expr string, known collected) (problems []string) {
	expr = promRange.ReplaceAllString(promString.ReplaceAllString(expr, `""`), "")
	var grouped []string
	for _, m := range promGrouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			grouped = append(grouped, strings.TrimSpace(label))
		}
	}
	expr = promGrouping.ReplaceAllString(expr, "")
	for _, m := range promSelector.FindAllStringSubmatch(expr, -1) {
		for _, label := range promLabel.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(known[m[1]], label[1]) && !slices.Contains(scraped, label[1]) {
				problems = append(problems, m[1]+" has no label "+label[1])
			}
		}
	}
	expr = promSelector.ReplaceAllString(expr, "$1 ")
	var labels []string
	for _, word := range promWord.FindAllString(expr, -1) {
		name := strings.TrimSpace(word)
		if strings.HasSuffix(name, "(") || slices.Contains(promWords, name) {
			continue
		}
		if _, ok := known[name]; !ok {
			problems = append(problems, "nobody exports "+name)
		}
		labels = append(labels, known[name]...)
	}
	for _, label := range grouped {
		if !slices.Contains(labels, label) && !slices.Contains(scraped, label) {
			problems = append(problems, "no metric here has the label "+label)
		}
	}
	return problems
}

// TestExpressionCheckFails shows that the check of expressions finds what it is for.
func TestExpressionCheckFails(t *testing.T) {
	t.Parallel()
	known := collected{"a_total": {"model"}, "b": {}}
	for expr, want := range map[string]int{
		`sum by (model) (rate(a_total{model=~"x y"}[5m])) / on (model) b > 3`: 0,
		`rate(a_total[5m]) or invented_total`:                                 1,
		`a_total{tenant="t"}`:                                                 1,
		`sum by (tenant) (a_total)`:                                           1,
	} {
		if got := problemsOf(expr, known); len(got) != want {
			t.Errorf("%s: %q, want %d problems", expr, got, want)
		}
	}
}

package deploy

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rulesFile is a file of Prometheus rules; a key that is not here is refused.
type rulesFile struct {
	Groups []struct {
		Name     string
		Interval string
		Rules    []rule
	}
}

// rule is an alert or a recorded series.
type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

// rules reads the rules.
func rules(t *testing.T) []rule {
	t.Helper()
	var file rulesFile
	strict(t, "prometheus/cocoon.rules.yml", &file)
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// withRecorded adds the series that the rules record, with the labels that they keep.
func withRecorded(t *testing.T) collected {
	t.Helper()
	known := exported(t)
	for _, r := range rules(t) {
		if r.Record == "" {
			continue
		}
		labels := []string{}
		if m := promGrouping.FindStringSubmatch(r.Expr); m != nil {
			for label := range strings.SplitSeq(m[1], ",") {
				labels = append(labels, strings.TrimSpace(label))
			}
		}
		known[r.Record] = labels
	}
	return known
}

// TestAlertsUseWhatIsExported holds every rule to metrics and labels that the code exports.
func TestAlertsUseWhatIsExported(t *testing.T) {
	t.Parallel()
	known := withRecorded(t)
	for _, r := range rules(t) {
		checkExpr(t, r.Alert+r.Record, r.Expr, known)
	}
}

// duration is how Prometheus spells one.
var duration = regexp.MustCompile(`^[1-9][0-9]*(s|m|h)$`)

// TestAlertsSayWhatToDo holds every alert to a severity, to texts, and to the runbook of its name.
func TestAlertsSayWhatToDo(t *testing.T) {
	t.Parallel()
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts[r.Alert] = true
		if !slices.Contains([]string{"page", "ticket", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.For != "" && !duration.MatchString(r.For) {
			t.Errorf("%s: for: %q", r.Alert, r.For)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", r.Alert)
		}
		if want := "https://github.com/cocoon-network/cocoon/blob/main/deploy/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url must be %s", r.Alert, want)
		}
	}
	pages := map[string]bool{}
	for _, path := range glob(t, "runbooks/Cocoon*.md") {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		pages[name] = true
		page := string(read(t, path))
		for _, part := range []string{"# " + name + "\n", "\n## Look\n", "\n## Do\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("%s lacks %q", path, strings.TrimSpace(part))
			}
		}
		if !strings.Contains(string(read(t, "runbooks/README.md")), "("+name+".md)") {
			t.Errorf("runbooks/README.md does not list %s", name)
		}
	}
	if !maps.Equal(alerts, pages) {
		t.Errorf("alerts and runbooks differ:\n%v\n%v", slices.Sorted(maps.Keys(alerts)), slices.Sorted(maps.Keys(pages)))
	}
}

// TestAlertsAreTested holds the unit tests of promtool to every alert: once it fires there, once it is silent.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{}
	file := documents(t, "rules tests", read(t, "prometheus/cocoon.rules.test.yml"))[0]
	for _, test := range list(file["tests"]) {
		for _, c := range list(at(test, "alert_rule_test")) {
			if len(list(at(c, "exp_alerts"))) > 0 {
				fires[text(at(c, "alertname"))] = true
			} else {
				silent[text(at(c, "alertname"))] = true
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s: fires in a test: %v, is silent in one: %v", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// TestDashboardsUseWhatIsExported holds every panel to metrics that exist and to a place of its own on the page.
func TestDashboardsUseWhatIsExported(t *testing.T) {
	t.Parallel()
	known := withRecorded(t)
	uids := map[string]bool{}
	for _, path := range glob(t, "grafana/*.json") {
		var board object
		if err := json.Unmarshal(read(t, path), &board); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if uid := text(board["uid"]); uid == "" || uids[uid] || text(board["title"]) == "" {
			t.Errorf("%s: uid %q is missing or taken, or the title is", path, uid)
		} else {
			uids[uid] = true
		}
		taken := map[[2]int]string{}
		ids := map[any]bool{}
		for _, panel := range list(board["panels"]) {
			title := path + ": " + text(at(panel, "title"))
			if id := at(panel, "id"); ids[id] {
				t.Errorf("%s: id %v is taken", title, id)
			} else {
				ids[id] = true
			}
			checkPlace(t, title, panel, taken)
			if text(at(panel, "type")) == "row" {
				continue
			}
			if text(at(panel, "description")) == "" || len(list(at(panel, "targets"))) == 0 {
				t.Errorf("%s has no description or no query", title)
			}
			for _, target := range list(at(panel, "targets")) {
				checkExpr(t, title, text(at(target, "expr")), known)
			}
		}
		for _, variable := range list(at(board, "templating", "list")) {
			if query := text(at(variable, "query", "query")); query != "" {
				metric, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(query, "label_values("), ")"), ", ")
				checkExpr(t, path+" variable", metric+"{"+label+`=""}`, known)
			}
		}
	}
}

// checkPlace refuses panels that lie over each other or beside the page.
func checkPlace(t *testing.T, title string, panel any, taken map[[2]int]string) {
	t.Helper()
	number := func(key string) int { v, _ := at(panel, "gridPos", key).(float64); return int(v) }
	x, y, w, h := number("x"), number("y"), number("w"), number("h")
	if w < 1 || h < 1 || x+w > 24 {
		t.Errorf("%s lies beside the page", title)
	}
	for column := x; column < x+w; column++ {
		for line := y; line < y+h; line++ {
			if other, ok := taken[[2]int{column, line}]; ok {
				t.Errorf("%s lies over %s", title, other)
				return
			}
			taken[[2]int{column, line}] = title
		}
	}
}

package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"
)

// chartDir is the chart.
const chartDir = "helm/cocoon"

// merge lays values over defaults, as Helm does: objects are merged, everything else is replaced.
func merge(defaults, over object) object {
	merged := maps.Clone(defaults)
	for key, v := range over {
		have, ok1 := merged[key].(object)
		give, ok2 := v.(object)
		if ok1 && ok2 {
			merged[key] = merge(have, give)
		} else {
			merged[key] = v
		}
	}
	return merged
}

// chartFunctions are the functions of Helm that the chart uses, and no others: the chart is kept simple enough for that.
func chartFunctions(set *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var b strings.Builder
			err := set.ExecuteTemplate(&b, name, data)
			return b.String(), err
		},
		"toYaml": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err }, // JSON is YAML
		"nindent": func(n int, s string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(s, "\n", pad)
		},
		"quote": func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"default": func(d, v any) any {
			if v == nil || reflect.ValueOf(v).IsZero() {
				return d
			}
			return v
		},
		"required": func(message string, v any) (any, error) {
			if v == nil || v == "" {
				return nil, fmt.Errorf("%s", message)
			}
			return v, nil
		},
		"dict": func(pairs ...any) object {
			o := object{}
			for i := 0; i+1 < len(pairs); i += 2 {
				o[fmt.Sprint(pairs[i])] = pairs[i+1]
			}
			return o
		},
		"list": func(all ...any) []any { return all },
		"add": func(all ...any) (sum int, err error) {
			for _, v := range all {
				n, ok := v.(int)
				if !ok {
					return 0, fmt.Errorf("add: %v is no integer", v)
				}
				sum += n
			}
			return sum, nil
		},
	}
}

// render renders the chart with values, as release "net".
func render(t *testing.T, values object) ([]object, error) {
	t.Helper()
	set := template.New("chart").Option("missingkey=error")
	set.Funcs(chartFunctions(set))
	files := glob(t, chartDir+"/templates/*.tpl", chartDir+"/templates/*.yaml", chartDir+"/templates/NOTES.txt")
	for _, path := range files {
		if _, err := set.New(filepath.Base(path)).Parse(string(read(t, path))); err != nil {
			t.Fatal(err)
		}
	}
	chart := documents(t, "Chart.yaml", read(t, chartDir+"/Chart.yaml"))[0]
	data := object{
		"Values":  merge(documents(t, "values.yaml", read(t, chartDir+"/values.yaml"))[0], values),
		"Chart":   object{"AppVersion": chart["appVersion"]},
		"Release": object{"Name": "net", "Service": "Helm", "Namespace": "default"},
	}
	var all []object
	for _, path := range files {
		var b bytes.Buffer
		if err := set.ExecuteTemplate(&b, filepath.Base(path), data); err != nil {
			return nil, err
		}
		if filepath.Ext(path) == ".yaml" {
			all = append(all, documents(t, path, b.Bytes())...)
		}
	}
	return all, nil
}

// ciValues are the sets of values that the chart is tried with.
func ciValues(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, path := range glob(t, chartDir+"/ci/*.yaml") {
		all[path] = documents(t, path, read(t, path))[0]
	}
	return all
}

// pod is a workload's pods.
type pod struct {
	name   string
	labels object
	spec   any
	ports  map[string]bool
}

// podsOf collects the workloads.
func podsOf(objects []object) (all []pod) {
	for _, o := range objects {
		if kind := o["kind"]; kind != "Deployment" && kind != "StatefulSet" {
			continue
		}
		p := pod{name: text(at(o, "metadata", "name")), spec: at(o, "spec", "template", "spec"), ports: map[string]bool{}}
		p.labels, _ = at(o, "spec", "template", "metadata", "labels").(object)
		for _, port := range list(at(p.spec, "containers", 0, "ports")) {
			p.ports[text(at(port, "name"))] = true
		}
		all = append(all, p)
	}
	return all
}

// selected are the pods that a selector selects.
func selected(pods []pod, selector any) (all []pod) {
	want, _ := selector.(object)
	for _, p := range pods {
		matches := len(want) > 0
		for key, v := range want {
			matches = matches && p.labels[key] == v
		}
		if matches {
			all = append(all, p)
		}
	}
	return all
}

// TestChart renders the chart with each set of values and holds its objects to the program and to each other.
func TestChart(t *testing.T) {
	t.Parallel()
	for path, values := range ciValues(t) {
		objects, err := render(t, values)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		pods := podsOf(objects)
		names := map[string]bool{}
		for _, o := range objects {
			where := fmt.Sprintf("%s: %v %s", path, o["kind"], text(at(o, "metadata", "name")))
			if names[where] || text(o["apiVersion"]) == "" || text(at(o, "metadata", "name")) == "" {
				t.Errorf("%s is there twice, or has no name or version", where)
			}
			names[where] = true
			checkObject(t, where, o, pods)
		}
		for _, p := range pods {
			checkPod(t, path+": "+p.name, p)
		}
	}
}

// checkObject holds an object's selectors, ports and targets to the pods that there are.
func checkObject(t *testing.T, where string, o object, pods []pod) {
	t.Helper()
	selector, ports := at(o, "spec", "selector", "matchLabels"), []any{}
	switch o["kind"] {
	case "Service":
		selector = at(o, "spec", "selector")
		for _, port := range list(at(o, "spec", "ports")) {
			ports = append(ports, at(port, "targetPort"))
		}
	case "NetworkPolicy":
		selector = at(o, "spec", "podSelector", "matchLabels")
		for _, rule := range list(at(o, "spec", "ingress")) {
			for _, port := range list(at(rule, "ports")) {
				ports = append(ports, at(port, "port"))
			}
		}
	case "PodMonitor":
		ports = append(ports, at(o, "spec", "podMetricsEndpoints", 0, "port"))
	case "ScaledObject":
		target := text(at(o, "spec", "scaleTargetRef", "name"))
		if !slices.ContainsFunc(pods, func(p pod) bool { return p.name == target }) {
			t.Errorf("%s scales %s, which is not there", where, target)
		}
		checkExpr(t, where, text(at(o, "spec", "triggers", 0, "metadata", "query")), exported(t))
		return
	}
	found := selected(pods, selector)
	if len(found) != 1 {
		t.Errorf("%s selects the pods of %d workloads, not of one", where, len(found))
		return
	}
	for _, port := range ports {
		if !found[0].ports[text(port)] {
			t.Errorf("%s: %s has no port %v", where, found[0].name, port)
		}
	}
}

// checkPod holds a pod to a command of the program, to volumes that are mounted, to probes on its ports, to keys of the
// configuration and to its hardening.
func checkPod(t *testing.T, where string, p pod) {
	t.Helper()
	c := at(p.spec, "containers", 0)
	checkCommand(t, where, words(at(c, "args")))
	volumes, mounts := map[string]bool{}, map[string]bool{}
	for _, v := range list(at(p.spec, "volumes")) {
		volumes[text(at(v, "name"))] = true
	}
	var paths []string
	for _, m := range list(at(c, "volumeMounts")) {
		mounts[text(at(m, "name"))] = true
		paths = append(paths, text(at(m, "mountPath")))
	}
	if !maps.Equal(volumes, mounts) {
		t.Errorf("%s: volumes %v, mounts %v", where, slices.Sorted(maps.Keys(volumes)), slices.Sorted(maps.Keys(mounts)))
	}
	for _, arg := range words(at(c, "args")) {
		if _, value, _ := strings.Cut(arg, "="); strings.HasPrefix(value, "/") && !slices.ContainsFunc(paths, func(m string) bool { return strings.HasPrefix(value, m) }) {
			t.Errorf("%s: nothing is mounted at %s", where, value)
		}
	}
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		if port := text(at(c, probe, "httpGet", "port")); port != "" && !p.ports[port] {
			t.Errorf("%s: %s on port %q, which it has not", where, probe, port)
		}
	}
	for _, e := range list(at(c, "env")) {
		name := text(at(e, "name"))
		if section, key, ours := strings.Cut(strings.TrimPrefix(name, "COCOON_"), "__"); ours && !exampleKeys(t, strings.ToLower(section))[strings.ToLower(key)] {
			t.Errorf("%s: %s is no key of the configuration", where, name)
		}
	}
	if at(c, "securityContext", "readOnlyRootFilesystem") != true || at(c, "securityContext", "allowPrivilegeEscalation") != false ||
		at(p.spec, "securityContext", "runAsNonRoot") != true || at(p.spec, "automountServiceAccountToken") != false {
		t.Errorf("%s is not hardened", where)
	}
}

// TestChartWorkerDrains holds a worker's grace period to more than its drain.
func TestChartWorkerDrains(t *testing.T) {
	t.Parallel()
	objects, err := render(t, merge(ciValues(t)[chartDir+"/ci/simulated-values.yaml"], object{"worker": object{"drainSeconds": 300}}))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(podsOf(objects), func(p pod) bool { return p.name == "net-worker" })
	worker := podsOf(objects)[i]
	if at(worker.spec, "terminationGracePeriodSeconds") != 330 || !slices.Contains(words(at(worker.spec, "containers", 0, "args")), "--drain-timeout=300s") {
		t.Errorf("grace %v, args %v", at(worker.spec, "terminationGracePeriodSeconds"), at(worker.spec, "containers", 0, "args"))
	}
}

// TestChartRefuses holds the chart to what it must not render.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	production := ciValues(t)[chartDir+"/ci/production-values.yaml"]
	for name, over := range map[string]object{
		"nats.url is required":                                  {"nats": object{"url": ""}},
		"trust.configMap is required":                           {"trust": object{"configMap": ""}},
		"broker.runtimeClassName is required on real hardware":  {"broker": object{"runtimeClassName": ""}},
		"worker.runtimeClassName is required on real hardware":  {"worker": object{"runtimeClassName": ""}},
		"worker.measuredConfigMap is required on real hardware": {"worker": object{"measuredConfigMap": ""}},
		"worker.owner is required":                              {"worker": object{"owner": ""}},
		"settle.ledgerSecret is required":                       {"settle": object{"ledgerSecret": ""}},
		"gateway.tenantSecret is required":                      {"gateway": object{"enabled": true}},
		"simulated.claim is required with simulated.enabled":    {"simulated": object{"enabled": true}},
	} {
		if _, err := render(t, merge(production, over)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChartValuesAreDescribed holds values.yaml and values.schema.json to the same keys.
func TestChartValuesAreDescribed(t *testing.T) {
	t.Parallel()
	var schema object
	if err := json.Unmarshal(read(t, chartDir+"/values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, values object, schema any)
	walk = func(path string, values object, schema any) {
		described, _ := at(schema, "properties").(object)
		if described == nil {
			return // an object of the user's own, such as resources
		}
		have := keySet(described)
		delete(have, "global") // Helm's own
		if !maps.Equal(keySet(values), have) {
			t.Errorf("values%s has %v, the schema %v", path, slices.Sorted(maps.Keys(values)), slices.Sorted(maps.Keys(have)))
		}
		for key, v := range values {
			if o, ok := v.(object); ok {
				walk(path+"."+key, o, described[key])
			}
		}
	}
	walk("", documents(t, "values.yaml", read(t, chartDir+"/values.yaml"))[0], schema)
}

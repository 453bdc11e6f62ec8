//go:build helm

package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"testing"
)

// helm is Helm itself: the one that is installed, or else the pinned version, which takes minutes to build the first
// time.
func helm(args ...string) *exec.Cmd {
	if path, err := exec.LookPath("helm"); err == nil {
		return exec.Command(path, args...)
	}
	return exec.Command("go", append([]string{"run", "helm.sh/helm/v3/cmd/helm@v3.20.0"}, args...)...)
}

// TestChartRendersAsHelmDoes compares with Helm itself: the renderer of the other tests must not differ from the real one.
// deploy/check.sh runs it (go test -tags helm).
func TestChartRendersAsHelmDoes(t *testing.T) {
	t.Parallel()
	for path, values := range ciValues(t) {
		out, err := helm("template", "net", chartDir, "--kube-version", "1.30.0", "-f", path).Output()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		objects, err := render(t, values)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, want := byName(t, objects), byName(t, documents(t, path, out)); !maps.Equal(got, want) {
			t.Errorf("%s: this renderer and Helm differ:\n%v\n%v", path, got, want)
		}
	}
}

// byName spells objects canonically, by kind and name.
func byName(t *testing.T, objects []object) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range objects {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("%v/%s", o["kind"], text(at(o, "metadata", "name")))] = string(b)
	}
	return all
}

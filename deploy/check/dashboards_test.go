// Package check holds the files of deploy to the schemas of those who read them, with tools that are no dependency of the
// program: hence a module of its own. check.sh beside it runs everything; these tests are the part that is Go.
package check

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// TestDashboards reads every dashboard with Grafana's own types: a field that Grafana does not have, or of another type, is
// an error, down to the options of each panel and the queries of its data source.
func TestDashboards(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("../grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(text); wrong(err) {
			t.Errorf("%s: %v", path, err)
		}
		if err := d.Validate(); wrong(err) {
			t.Errorf("%s: %v", path, err)
		}
		if len(d.Panels) == 0 {
			t.Errorf("%s: no panels", path)
		}
	}
}

// wrong reports whether an error of the SDK has any: an empty list is none.
func wrong(err error) bool {
	var list cog.BuildErrors
	return err != nil && (!errors.As(err, &list) || len(list) > 0)
}

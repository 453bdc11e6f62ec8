package schemas_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cocoon-network/cocoon/schemas"
)

// pages reads all pages of the specification.
func pages(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("spec", "*.md"))
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d pages: %v", len(paths), err)
	}
	var all strings.Builder
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// TestLabelsAreSpecified: every label that keys, hashes and signatures are separated by stands in the specification, and
// the specification names none that the code does not use.
func TestLabelsAreSpecified(t *testing.T) {
	label := regexp.MustCompile(`cocoon/[a-z0-9-]+/v1`)
	private := []string{"cocoon/file-sealer/v1", "cocoon/spend-seen/v1"} // never leave one process
	used := map[string]bool{}
	for _, dir := range []string{".", "../enclave", "../enclave/broker", "../enclave/weights", "../enclave/attest"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range label.FindAllString(string(b), -1) {
				used[l] = true
			}
		}
	}
	specified := map[string]bool{}
	for _, l := range label.FindAllString(pages(t), -1) {
		specified[l] = true
	}
	for l := range used {
		if !specified[l] && !slices.Contains(private, l) {
			t.Errorf("%s is used and not specified", l)
		}
	}
	for l := range specified {
		if !used[l] {
			t.Errorf("%s is specified and not used", l)
		}
	}
}

// TestLinksOfTheSpecification: what the pages point at is there.
func TestLinksOfTheSpecification(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(pages(t), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("spec", m[1])); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for _, m := range regexp.MustCompile(`testdata/vectors/([a-z]+)(/[a-z-]+\.json)?`).FindAllString(pages(t), -1) {
		if _, err := os.Stat(m); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// TestAsyncAPI: the document is YAML, its references resolve, its subjects are those that streams lists, and its headers
// are those that messages carry.
func TestAsyncAPI(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("spec", "asyncapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		AsyncAPI string
		Channels map[string]struct {
			Address  string
			Messages map[string]map[string]string
		}
		Components struct {
			Messages map[string]struct {
				Headers struct{ Required []string }
			}
		}
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.AsyncAPI != "3.0.0" {
		t.Errorf("version %q", doc.AsyncAPI)
	}
	var addresses []string
	for name, c := range doc.Channels {
		addresses = append(addresses, c.Address)
		for _, m := range c.Messages {
			if _, ok := doc.Components.Messages[strings.TrimPrefix(m["$ref"], "#/components/messages/")]; !ok {
				t.Errorf("channel %s refers to %s", name, m["$ref"])
			}
		}
	}
	source, err := os.ReadFile("../streams/subjects.go")
	if err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(\S+(?:, \S+)*?)  +\S`).FindAllStringSubmatch(string(source), -1) {
		subjects = append(subjects, strings.NewReplacer("<", "{", ">", "}").Replace(m[1]))
	}
	sort.Strings(addresses)
	sort.Strings(subjects)
	if !slices.Equal(addresses, subjects) {
		t.Errorf("asyncapi.yaml has\n%s\nstreams/subjects.go lists\n%s", strings.Join(addresses, "\n"), strings.Join(subjects, "\n"))
	}
	job := sample()
	outcome := schemas.Outcome{Job: job.ID, Tenant: job.Tenant, Model: job.Model, Status: schemas.Expired, Kind: schemas.KindExpired}
	for name, header := range map[string]map[string][]string{"job": job.Header(), "outcome": outcome.Header()} {
		var have []string
		for key := range header {
			have = append(have, key)
		}
		want := doc.Components.Messages[name].Headers.Required
		sort.Strings(have)
		sort.Strings(want)
		if !slices.Equal(have, want) {
			t.Errorf("%s: headers %v, asyncapi.yaml says %v", name, have, want)
		}
	}
}

package main

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// modulePath is the import path of the repository.
const modulePath = "github.com/cocoon-network/cocoon"

// goPackage is what the layer tests need of `go list -json`.
type goPackage struct {
	ImportPath string
	Dir        string
	Name       string
	Doc        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
}

// listPackages lists the packages of the module and, for each, its direct imports and all its dependencies.
func listPackages(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,Doc,GoFiles,CgoFiles,Imports,Deps"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	return packages
}

// local is the import path inside the module, "" for the root, and whether the path is in the module at all.
func local(importPath string) (string, bool) {
	if importPath == modulePath {
		return "", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

// top is the top-level folder of a local path.
func top(p string) string {
	folder, _, _ := strings.Cut(p, "/")
	return folder
}

// below says which top-level folders a folder may import, besides itself.
var below = map[string][]string{
	"schemas":    {},
	"streams":    {"schemas"},
	"enclave":    {"schemas"},
	"producers":  {"schemas", "streams", "enclave"},
	"consumers":  {"schemas", "streams", "enclave"},
	"settlement": {"schemas", "streams", "enclave"},
	"deploy":     {"schemas", "streams", "enclave", "producers", "consumers", "settlement"},
	"":           {"schemas", "streams", "enclave", "producers", "consumers", "settlement"},
}

// freeImporter reports whether a package may import any folder: the verbs wire streams to enclave, main wires all.
func freeImporter(p string) bool {
	return path.Base(p) == "cli" && p != "schemas/cli" || p == "" || top(p) == "deploy"
}

// TestImportsPointOneWay holds every package to the arrow of the design: schemas ← {streams, enclave} ←
// {producers, consumers, settlement} ← */cli ← root.
func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t, "./...") {
		from, ok := local(p.ImportPath)
		if !ok {
			continue
		}
		allowed, known := below[top(from)]
		if !known {
			t.Errorf("%s lies in a top-level folder that the layout does not know", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			to, ok := local(imported)
			if !ok || top(to) == top(from) {
				continue
			}
			if path.Base(to) == "cli" && to != "schemas/cli" && !freeImporter(from) {
				t.Errorf("%s imports the verbs of %s; only verbs and main may", from, to)
			}
			if !freeImporter(from) && !contains(allowed, top(to)) {
				t.Errorf("%s imports %s: %s may import only %v", from, to, top(from), allowed)
			}
		}
	}
}

// testKits are packages made to be imported by tests; only they may import testing.
func testKit(p string) bool { return strings.HasSuffix(p, "test") }

// TestProductionNeverImportsTesting keeps the testing package, and the kits that need it, out of the program.
func TestProductionNeverImportsTesting(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t, "./...") {
		from, _ := local(p.ImportPath)
		if testKit(from) {
			continue
		}
		for _, imported := range p.Imports {
			if to, ok := local(imported); imported == "testing" || ok && testKit(to) && !linksNoTesting(t, imported) {
				t.Errorf("%s imports %s", from, imported)
			}
		}
	}
}

// linksNoTesting reports whether a kit is free of the testing package, as load generators for benchmarks are.
func linksNoTesting(t *testing.T, importPath string) bool {
	t.Helper()
	return !contains(listPackages(t, importPath)[0].Deps, "testing")
}

// TestOnlyStreamsSpeaksNATS keeps the message system behind one package. The verbs may not either.
func TestOnlyStreamsSpeaksNATS(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t, "./...") {
		from, _ := local(p.ImportPath)
		if top(from) == "streams" {
			continue
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "github.com/nats-io/nats") {
				t.Errorf("%s imports %s", from, imported)
			}
		}
	}
}

// TestEnclaveHasNoTransport keeps sockets out of the audited core: only its verbs and its weight fetcher may speak.
func TestEnclaveHasNoTransport(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"enclave", "enclave/broker", "enclave/attest"} {
		for _, p := range listPackages(t, "./"+name) {
			for _, imported := range p.Imports {
				if imported == "net" || imported == "net/http" {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
	}
}

// TestPureGoPackages keeps cgo where the design allows it.
func TestPureGoPackages(t *testing.T) {
	t.Parallel()
	cgo := map[string]bool{"consumers/ggml": true, "consumers/ggml/kernels": true, "enclave/nvidia": true}
	for _, p := range listPackages(t, "./...") {
		from, _ := local(p.ImportPath)
		if len(p.CgoFiles) > 0 && !cgo[from] {
			t.Errorf("%s uses cgo", from)
		}
	}
	for _, name := range []string{"./producers", "./schemas", "./enclave", "./settlement"} {
		for _, dep := range listPackages(t, name)[0].Deps {
			if strings.HasPrefix(dep, "github.com/ollama/") || strings.HasPrefix(dep, "github.com/NVIDIA/") {
				t.Errorf("%s depends on %s, which needs cgo", name, dep)
			}
		}
	}
}

// TestWorkerBuildIsSmall proves that the measured image carries no broker server, chain or gateway.
func TestWorkerBuildIsSmall(t *testing.T) {
	t.Parallel()
	for _, dep := range listPackages(t, "-tags", "worker", ".")[0].Deps {
		for _, banned := range []string{
			"github.com/nats-io/nats-server/", "github.com/xssnick/tonutils-go/", modulePath + "/producers/gateway",
			modulePath + "/settlement", modulePath + "/enclave/sim",
		} {
			if strings.HasPrefix(dep, banned) {
				t.Errorf("the worker build links %s", dep)
			}
		}
	}
}

// minPackageDoc is the least number of characters of a package comment that can teach anything.
const minPackageDoc = 300

// TestEveryPackageIsDocumented reads every package comment.
func TestEveryPackageIsDocumented(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t, "./...") {
		if p.ImportPath == modulePath {
			continue
		}
		if len(packageComment(t, p)) < minPackageDoc {
			t.Errorf("%s: the package comment is missing or too short to teach", p.ImportPath)
		}
	}
}

// packageComment joins the package comments of all files, as go doc shows them.
func packageComment(t *testing.T, p goPackage) string {
	t.Helper()
	var comment strings.Builder
	for _, name := range append(p.GoFiles, p.CgoFiles...) {
		f, err := parser.ParseFile(token.NewFileSet(), path.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			comment.WriteString(f.Doc.Text())
		}
	}
	return comment.String()
}

// contains reports whether list has s.
func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

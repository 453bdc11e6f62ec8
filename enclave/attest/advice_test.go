package attest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestEveryRefusalHasAdvice runs every case that a verifier must refuse: each tells a person what to do about it, and the
// finding names the step, the field and what was measured.
func TestEveryRefusalHasAdvice(t *testing.T) {
	t.Parallel()
	for _, r := range attesttest.Refusals() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			w := attesttest.New(t)
			e, nonce := r.Make(t, w)
			x := w.Verifier.Examine(t.Context(), e, nonce)
			_, err := x.Result()
			if attest.Advice(err) == "" {
				t.Errorf("nothing is advised about %v", err)
			}
			f := x.Finding()
			if f.Kind != r.Kind || f.Field != r.Field || f.Step == "" || f.Message == "" || f.Advice != attest.Advice(err) {
				t.Errorf("finding %+v, want %s: %s", f, r.Kind, r.Field)
			}
			if proven := f.Step != string(attest.StepPolicy) && f.Step != string(attest.StepQuote); proven != (f.TDX != nil) {
				t.Errorf("refused at %s, and the processor's side is %+v", f.Step, f.TDX)
			}
		})
	}
}

// TestFindingOfAdmission: an admission names the image, the registers and the GPU with all its golden values.
func TestFindingOfAdmission(t *testing.T) {
	t.Parallel()
	w, nonce := attesttest.New(t), [32]byte{1}
	claims := w.Claims(t, schemas.RoleWorker)
	x := w.Verifier.Examine(t.Context(), w.Attest(t, w.Boot(t, w.Spec()), claims, nonce), nonce)
	f := x.Finding()
	if f.Kind != schemas.KindUnknown || f.Image != attesttest.WorkerImage || f.NotAfter.IsZero() || f.Worker != schemas.WorkerIDOf(claims.Sign) || f.Advice != "" {
		t.Errorf("finding %+v", f)
	}
	if f.TDX == nil || f.TDX.MRTD == (schemas.Measure{}) || f.TDX.RTMR3 == (schemas.Measure{}) || f.TDX.Platform != string(schemas.UpToDate) {
		t.Errorf("processor %+v", f.TDX)
	}
	if len(f.GPUs) == 0 || f.GPUs[0].Driver == "" || f.GPUs[0].VBIOS == "" || f.GPUs[0].Matched == 0 {
		t.Errorf("GPUs %+v", f.GPUs)
	}
}

// TestEveryReasonInTheSourceHasAdvice reads the reasons from the calls that refuse: one that somebody adds without advice
// fails here, whether or not a case exists for it.
func TestEveryReasonInTheSourceHasAdvice(t *testing.T) {
	t.Parallel()
	found := 0
	advised := func(field string) bool {
		return attest.Advice(&schemas.Error{Kind: schemas.KindPolicy, Field: field}) != ""
	}
	for _, folder := range []string{".", "../tdx", "../nvidia"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no source: %v", folder, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				field, ok := refusedField(n)
				if !ok {
					return true
				}
				found++
				if !advised(field) && !advised("gpus[0]."+field) { // what is refused about a GPU gets its place put before it
					t.Errorf("%s refuses for %q, and nothing is advised about it", name, field)
				}
				return true
			})
		}
	}
	if found < 60 {
		t.Errorf("only %d reasons were found in the source: is it read rightly?", found)
	}
}

// refusedField is the field of a call to refuse or disprove. Where only its beginning is written down, the rest stands as x.
func refusedField(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 2 {
		return "", false
	}
	if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "refuse" && name.Name != "disprove" {
		return "", false
	}
	switch field := call.Args[0].(type) {
	case *ast.BasicLit:
		return literal(field), true
	case *ast.BinaryExpr: // "image." + register
		if head, ok := field.X.(*ast.BasicLit); ok {
			return literal(head) + "x", true
		}
	case *ast.CallExpr: // gpuField(i, ".id")
		if tail, ok := field.Args[len(field.Args)-1].(*ast.BasicLit); ok {
			return "gpus[0]" + literal(tail), true
		}
	}
	return "", false // a field that is looked up; TestEveryRefusalHasAdvice has a case for each
}

// literal is the text of a string literal.
func literal(l *ast.BasicLit) string {
	s, _ := strconv.Unquote(l.Value)
	return s
}

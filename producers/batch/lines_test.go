package batch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"github.com/cocoon-network/cocoon/schemas"
)

// request is one good line without its end.
func request(id string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":4}}`, id)
}

// file joins lines.
func file(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// check validates a text.
func check(t *testing.T, text string, rules Rules) *Report {
	t.Helper()
	r, err := Validate(t.Context(), strings.NewReader(text), rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	two := file(request("a"), request("b"))
	gz, zs := packed(t, two)
	for _, tt := range []struct{ name, text string }{
		{"plain", two},
		{"no last newline", strings.TrimSuffix(two, "\n")},
		{"CRLF", strings.ReplaceAll(two, "\n", "\r\n")},
		{"BOM", "\xef\xbb\xbf" + two},
		{"blank lines", "\n" + strings.ReplaceAll(two, "\n", "\n \n\n")},
		{"gzip", string(gz)},
		{"two gzip members", string(gz2(t, request("a")+"\n", request("b")+"\n"))},
		{"zstd", string(zs)},
		{"more fields around", strings.Replace(two, `{"custom_id"`, `{"priority":3,"custom_id"`, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, tt.text, Rules{})
			if !r.OK() || r.Lines != 2 || r.Models["m"] != 2 || r.Endpoints["/v1/chat/completions"] != 2 || r.Bytes != int64(len(tt.text)) {
				t.Errorf("report = %+v", r)
			}
		})
	}
}

// packed returns gzip and zstd of a text.
func packed(t *testing.T, text string) (gz, zs []byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return gz2(t, text), b.Bytes()
}

// gz2 makes one gzip member of each text.
func gz2(t *testing.T, texts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, text := range texts {
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestValidateNamesEverythingWrong(t *testing.T) {
	t.Parallel()
	gz, zs := packed(t, file(request("a"), request("b")))
	replace := func(old, new string) string { return strings.Replace(request("a"), old, new, 1) }
	for _, tt := range []struct {
		name, text string
		rules      Rules
		want       []Issue
	}{
		{"empty", "", Rules{}, []Issue{{Code: CodeEmptyFile, Kind: schemas.KindInvalid}}},
		{"only blank lines", "\n\n", Rules{}, []Issue{{Code: CodeEmptyFile, Kind: schemas.KindInvalid}}},
		{"UTF-16", "\xff\xfe{\x00", Rules{}, []Issue{{Code: CodeEncoding, Line: 1, Kind: schemas.KindInvalid}}},
		{"UTF-16 without mark", "{\x00\"\x00", Rules{}, []Issue{{Code: CodeEncoding, Line: 1, Kind: schemas.KindInvalid}}},
		{"UTF-32", "\x00\x00\xfe\xff", Rules{}, []Issue{{Code: CodeEncoding, Line: 1, Kind: schemas.KindInvalid}}},
		{"Latin-1 in one line", file(request("a"), replace("hi", "h\xe9"), request("b")), Rules{}, []Issue{{Code: CodeEncoding, Line: 2, Kind: schemas.KindInvalid}}},
		{"all errors", file("{", request("a"), "[]", request("a"), `{"custom_id":7}`, request("b")), Rules{}, []Issue{
			{Code: CodeInvalidJSON, Line: 1, Kind: schemas.KindInvalid},
			{Code: CodeInvalidJSON, Line: 3, Kind: schemas.KindInvalid},
			{Code: CodeDuplicate, Line: 4, Param: "custom_id", Kind: schemas.KindConflict},
			{Code: CodeCustomID, Line: 5, Param: "custom_id", Kind: schemas.KindInvalid},
		}},
		{"duplicate key", file(replace(`"model":"m"`, `"model":"m","model":"n"`)), Rules{}, []Issue{{Code: CodeInvalidJSON, Line: 1, Param: "body.model", Kind: schemas.KindInvalid}}},
		{"infinite number", file(replace(`"max_tokens":4`, `"temperature":1e999`)), Rules{}, []Issue{{Code: CodeInvalidJSON, Line: 1, Param: "body.temperature", Kind: schemas.KindInvalid}}},
		{"lone surrogate", file(replace(`"hi"`, `"\ud800"`)), Rules{}, []Issue{{Code: CodeInvalidJSON, Line: 1, Param: "body.messages[0].content", Kind: schemas.KindInvalid}}},
		{"deep nesting", file(replace(`"hi"`, strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000))), Rules{}, []Issue{{Code: CodeInvalidJSON, Line: 1, Param: "body", Kind: schemas.KindTooLarge}}},
		{"no custom_id", file(replace(`"custom_id":"a",`, "")), Rules{}, []Issue{{Code: CodeCustomID, Line: 1, Param: "custom_id", Kind: schemas.KindInvalid}}},
		{"long custom_id", file(request(strings.Repeat("x", 600))), Rules{}, []Issue{{Code: CodeCustomID, Line: 1, Param: "custom_id", Kind: schemas.KindInvalid}}},
		{"GET", file(replace("POST", "GET")), Rules{}, []Issue{{Code: CodeMethod, Line: 1, Param: "method", Kind: schemas.KindInvalid}}},
		{"no such endpoint", file(replace("/v1/chat/completions", "/v1/images")), Rules{}, []Issue{{Code: CodeURL, Line: 1, Param: "url", Kind: schemas.KindUnsupported}}},
		{"endpoint of the batch", file(request("a")), Rules{Endpoint: "/v1/embeddings"}, []Issue{{Code: CodeURLMismatch, Line: 1, Param: "url", Kind: schemas.KindInvalid}}},
		{"two models", file(request("a"), strings.Replace(request("b"), `"m"`, `"n"`, 1)), Rules{}, []Issue{{Code: CodeModelMix, Line: 2, Param: "body.model", Kind: schemas.KindInvalid}}},
		{"body is a list", file(`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":[]}`), Rules{}, []Issue{{Code: CodeBody, Line: 1, Param: "body", Kind: schemas.KindInvalid}}},
		{"model with a wildcard", file(replace(`"model":"m"`, `"model":"m*"`)), Rules{}, []Issue{{Code: CodeBody, Line: 1, Param: "body.model", Kind: schemas.KindInvalid}}},
		{"bad field", file(replace(`"max_tokens":4`, `"max_tokens":-4`)), Rules{}, []Issue{{Code: CodeBody, Line: 1, Param: "body.max_tokens", Kind: schemas.KindInvalid}}},
		{"stream", file(replace(`"max_tokens":4`, `"stream":true`)), Rules{}, []Issue{{Code: CodeBody, Line: 1, Param: "body.stream", Kind: schemas.KindInvalid}}},
		{"too many lines", file(request("a"), request("b"), request("c")), Rules{MaxLines: 2}, []Issue{{Code: CodeTooMany, Line: 3, Kind: schemas.KindTooLarge}}},
		{"torn gzip", string(gz[:len(gz)-9]), Rules{}, []Issue{{Code: CodeCompression, Line: 3, Kind: schemas.KindInvalid}}},
		{"torn zstd", string(zs[:len(zs)-9]), Rules{}, []Issue{{Code: CodeCompression, Line: 1, Kind: schemas.KindInvalid}}},
		{"not gzip", "\x1f\x8bnope", Rules{}, []Issue{{Code: CodeCompression, Line: 1, Kind: schemas.KindInvalid}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, tt.text, tt.rules)
			if diff := cmp.Diff(tt.want, r.Issues, cmpopts.IgnoreFields(Issue{}, "Message"), cmpopts.IgnoreUnexported(Issue{})); diff != "" {
				t.Errorf("issues: %s", diff)
			}
			if r.Wrong != len(tt.want) {
				t.Errorf("Wrong = %d, want %d", r.Wrong, len(tt.want))
			}
			var e *schemas.Error
			if err := r.Err(); !errors.As(err, &e) || e.Line != tt.want[0].Line || e.Kind != tt.want[0].Kind || e.Message == "" {
				t.Errorf("Err = %#v", e)
			}
		})
	}
}

func TestValidateBoundsBombs(t *testing.T) {
	t.Parallel()
	// 300 MB of nothing in some kilobytes, as one line and as many.
	for _, tt := range []struct{ name, packing, unit string }{
		{"zstd, one line", "zstd", " "}, {"zstd, many lines", "zstd", " \n"}, {"gzip, one line", "gzip", " "}, {"gzip, many lines", "gzip", " \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			var w io.WriteCloser = gzip.NewWriter(&b)
			if tt.packing == "zstd" {
				var err error
				if w, err = zstd.NewWriter(&b); err != nil {
					t.Fatal(err)
				}
			}
			block := []byte(strings.Repeat(tt.unit, 1<<20/len(tt.unit)))
			for range 300 {
				if _, err := w.Write(block); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := check(t, b.String(), Rules{})
			runtime.ReadMemStats(&after)
			if r.OK() || r.Issues[len(r.Issues)-1].Code != CodeFileTooLarge && r.Issues[0].Code != CodeFileTooLarge {
				t.Errorf("issues = %v", r.Issues)
			}
			if grown := after.Sys - before.Sys; int64(grown) > 150<<20 {
				t.Errorf("took %d MiB", grown>>20)
			}
		})
	}
}

// TestValidateCountsToTheLimit has one request more than OpenAI's limit: the last one is named, by its line.
func TestValidateCountsToTheLimit(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range MaxLines + 1 {
		text.WriteString(request(fmt.Sprint(i)) + "\n")
	}
	r := check(t, text.String(), Rules{})
	var e *schemas.Error
	if r.Lines != MaxLines || r.Wrong != 1 || r.Issues[0].Code != CodeTooMany || r.Issues[0].Line != 50_001 || !errors.As(r.Err(), &e) || e.Kind != schemas.KindTooLarge {
		t.Errorf("%d lines, issues %+v", r.Lines, r.Issues)
	}
	last := strings.LastIndex(strings.TrimSuffix(text.String(), "\n"), "\n") + 1
	if r := check(t, text.String()[:last], Rules{}); !r.OK() || r.Lines != MaxLines {
		t.Errorf("50,000 lines: %d, %v", r.Lines, r.Err())
	}
}

func TestValidateSkipsLongLines(t *testing.T) {
	t.Parallel()
	long := strings.Replace(request("long"), "hi", strings.Repeat("x", MaxLine), 1)
	r := check(t, file(request("a"), long, request("b")), Rules{})
	if r.Lines != 2 || len(r.Issues) != 1 || r.Issues[0].Code != CodeLineTooLong || r.Issues[0].Line != 2 {
		t.Errorf("report = %+v", r)
	}
}

func TestValidateListsAtMostMaxIssues(t *testing.T) {
	t.Parallel()
	r := check(t, strings.Repeat("{\n", 3*MaxIssues), Rules{})
	if r.Wrong != 3*MaxIssues || len(r.Issues) != MaxIssues {
		t.Errorf("counted %d, listed %d", r.Wrong, len(r.Issues))
	}
}

func TestValidateRecordsUnknownFields(t *testing.T) {
	t.Parallel()
	r := check(t, file(request("a"), strings.Replace(request("b"), `"max_tokens"`, `"guided_json":{},"max_tokens"`, 1)), Rules{})
	if !r.OK() || len(r.Unknown) != 1 || r.Unknown["guided_json"] != 1 {
		t.Errorf("unknown fields = %v, %v", r.Unknown, r.Err())
	}
}

func TestValidateMixed(t *testing.T) {
	t.Parallel()
	other := `{"custom_id":"b","method":"POST","url":"/v1/embeddings","body":{"model":"n","input":"x","odd":1}}`
	r := check(t, file(request("a"), other), Rules{Mixed: true})
	if !r.OK() || r.Models["m"] != 1 || r.Models["n"] != 1 || r.Unknown["odd"] != 1 {
		t.Errorf("report = %+v", r)
	}
}

func TestValidateStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Validate(ctx, strings.NewReader(file(request("a"))), Rules{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Validate = %v, want context.Canceled", err)
	}
	broken := errors.New("disk on fire")
	src := io.MultiReader(strings.NewReader(file(request("a"))), failing{broken})
	if _, err := Validate(t.Context(), src, Rules{}, nil); !errors.Is(err, broken) {
		t.Errorf("Validate = %v, want %v", err, broken)
	}
}

// failing is a source that breaks.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzLines checks that no input makes it panic or accept two lines with one id.
func FuzzLines(f *testing.F) {
	f.Add([]byte(file(request("a"), request("b"))))
	f.Add([]byte("\xef\xbb\xbf" + request("a") + "\r\n{}\n\n"))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := map[string]bool{}
		for line, err := range Lines(bytes.NewReader(data), Rules{Mixed: true, MaxFile: 1 << 20}) {
			if err != nil {
				continue
			}
			if seen[line.CustomID] || line.CustomID == "" || line.Call == nil {
				t.Fatalf("line %d: custom_id %q", line.Number, line.CustomID)
			}
			seen[line.CustomID] = true
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	line := strings.Replace(request("%07d"), "hi", strings.Repeat("What is the capital of France? ", 128), 1) + "\n"
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, line, i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		r, err := Validate(b.Context(), strings.NewReader(text.String()), Rules{}, nil)
		if err != nil || !r.OK() {
			b.Fatal(err, r)
		}
	}
}

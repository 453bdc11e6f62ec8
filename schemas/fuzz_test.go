package schemas_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// seeds reads the bodies (or texts) of the vectors of a format. A folder without vectors fails the test: silently empty
// seeds are worth nothing.
func seeds(f *testing.F, format string) [][]byte {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "vectors", format, "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no vectors of %s: %v", format, err)
	}
	var all [][]byte
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var v struct {
			Body []byte
			Text string
		}
		if err := json.Unmarshal(b, &v); err != nil {
			f.Fatal(err)
		}
		if v.Text != "" {
			v.Body = []byte(v.Text)
		}
		all = append(all, v.Body)
	}
	return all
}

// canonical fuzzes a parser: whatever parses encodes again to the same bytes, and whatever does not has a kind.
func canonical(f *testing.F, seeds [][]byte, parse func([]byte) ([]byte, error)) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := parse(b)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x encodes again as %x", b, again)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	canonical(f, seeds(f, "envelope"), func(b []byte) ([]byte, error) {
		e, err := schemas.ParseEnvelope(b)
		if err != nil {
			return nil, err
		}
		return e.Encode(), nil
	})
}

func FuzzSealedResult(f *testing.F) {
	canonical(f, seeds(f, "result"), func(b []byte) ([]byte, error) {
		r, err := schemas.ParseSealedResult(b)
		if err != nil {
			return nil, err
		}
		return r.Encode(), nil
	})
}

func FuzzSealedChunk(f *testing.F) {
	var frames [][]byte
	for _, stream := range seeds(f, "chunk") { // each frame has its length in front
		if n := int(stream[2])<<8 | int(stream[3]); len(stream) >= 4+n {
			frames = append(frames, stream[4:4+n])
		}
	}
	canonical(f, frames, func(b []byte) ([]byte, error) {
		c, err := schemas.ParseSealedChunk(b)
		if err != nil {
			return nil, err
		}
		return c.Encode(), nil
	})
}

func FuzzRequest(f *testing.F) {
	r := schemas.Request{Version: 1, Method: "POST", URL: "/v1/completions", ContentType: "application/json", Body: []byte("{}"), ReplyKey: make([]byte, schemas.PublicKeySize)}
	canonical(f, [][]byte{r.Encode()}, func(b []byte) ([]byte, error) {
		r, err := schemas.ParseRequest(b)
		if err != nil {
			return nil, err
		}
		return r.Encode(), nil
	})
}

func FuzzResult(f *testing.F) {
	ok := schemas.Result{Version: 1, Status: 200, Body: []byte("{}"), Usage: schemas.Usage{Prompt: 1}}
	failed := schemas.Failure(&schemas.Error{Kind: schemas.KindEngine, Message: "x"})
	canonical(f, [][]byte{ok.Encode(), failed.Encode()}, func(b []byte) ([]byte, error) {
		r, err := schemas.ParseResult(b)
		if err != nil {
			return nil, err
		}
		return r.Encode(), nil
	})
}

func FuzzChunk(f *testing.F) {
	c := schemas.Chunk{Events: [][]byte{[]byte("{}"), {}}}
	canonical(f, [][]byte{c.Encode()}, func(b []byte) ([]byte, error) {
		c, err := schemas.ParseChunk(b)
		if err != nil {
			return nil, err
		}
		return c.Encode(), nil
	})
}

func FuzzWrap(f *testing.F) {
	w := schemas.Wrap{Spend: schemas.Spend{Tenant: "taaaaaaaaaaaaaaaa", Ceiling: 1, Multiplier: 1}}
	canonical(f, [][]byte{w.Encode()}, func(b []byte) ([]byte, error) {
		w, err := schemas.ParseWrap(b)
		if err != nil {
			return nil, err
		}
		return w.Encode(), nil
	})
}

// FuzzCalls fuzzes every call to the broker and every reply: the first byte picks the form.
func FuzzCalls(f *testing.F) {
	forms := []func() any{
		func() any { return new(schemas.ChallengeRequest) }, func() any { return new(schemas.ChallengeReply) },
		func() any { return new(schemas.SessionRequest) }, func() any { return new(schemas.SessionReply) },
		func() any { return new(schemas.SealedCall) }, func() any { return new(schemas.SealedReply) },
		func() any { return new(schemas.GrantCall) }, func() any { return new(schemas.GrantReply) },
		func() any { return new(schemas.RenewCall) }, func() any { return new(schemas.ReleaseCall) },
		func() any { return new(schemas.ReleaseReply) }, func() any { return new(schemas.AttestRequest) },
		func() any { return new(schemas.AttestReply) }, func() any { return new(schemas.JoinRequest) },
		func() any { return new(schemas.JoinReply) },
	}
	for i, form := range forms {
		f.Add(uint8(i), schemas.EncodeCall(form()))
	}
	f.Fuzz(func(t *testing.T, form uint8, b []byte) {
		v := forms[int(form)%len(forms)]()
		if err := schemas.ParseCall(b, v); err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if again := schemas.EncodeCall(v); !bytes.Equal(again, b) {
			t.Errorf("%T: %x encodes again as %x", v, b, again)
		}
	})
}

func FuzzKeyBundle(f *testing.F) {
	canonical(f, seeds(f, "keybundle"), func(b []byte) ([]byte, error) {
		k, err := schemas.ParseKeyBundle(b)
		if err != nil {
			return nil, err
		}
		return schemas.EncodeJSON(k)
	})
}

func FuzzPublishedKey(f *testing.F) {
	b, err := schemas.NewPublishedKey("x", []byte{1}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	canonical(f, [][]byte{b}, func(b []byte) ([]byte, error) {
		p, _, err := schemas.ParsePublishedKey(b)
		if err != nil {
			return nil, err
		}
		return p.Encode()
	})
}

func FuzzWeightsKey(f *testing.F) {
	canonical(f, [][]byte{[]byte(`{"v":1}`)}, func(b []byte) ([]byte, error) {
		k, err := schemas.ParseWeightsKey(b)
		if err != nil {
			return nil, err
		}
		return schemas.EncodeJSON(k)
	})
}

func FuzzCredit(f *testing.F) {
	canonical(f, seeds(f, "credit"), func(b []byte) ([]byte, error) {
		c, err := schemas.ParseCredit(b)
		if err != nil {
			return nil, err
		}
		return c.Encode()
	})
}

func FuzzGrant(f *testing.F) {
	canonical(f, statements(f), func(b []byte) ([]byte, error) {
		g, err := schemas.ParseGrant(b)
		if err != nil {
			return nil, err
		}
		return schemas.EncodeJSON(g)
	})
}

func FuzzReceipt(f *testing.F) {
	canonical(f, statements(f), func(b []byte) ([]byte, error) {
		r, err := schemas.ParseReceipt(b)
		if err != nil {
			return nil, err
		}
		return schemas.EncodeJSON(r)
	})
}

// statements are the payloads of a grant and a receipt.
func statements(f *testing.F) [][]byte {
	f.Helper()
	g, r := sampleGrant(), sampleReceipt()
	grant, err := g.Encode()
	if err != nil {
		f.Fatal(err)
	}
	receipt, err := r.Encode()
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{grant, receipt}
}

// FuzzAttributes fuzzes one header value after another: what parses is spelled again as it was.
func FuzzAttributes(f *testing.F) {
	a := sample()
	for name, values := range a.Header() {
		f.Add(name, values[0])
	}
	f.Add("ce-source", "/tenants/%41")
	f.Fuzz(func(t *testing.T, name, value string) {
		h := a.Header()
		h[name] = []string{value}
		parsed, err := schemas.ParseAttributes(h)
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if again, ok := parsed.Header()[name]; ok && again[0] != value {
			t.Errorf("%s: %q is spelled again as %q", name, value, again[0])
		}
	})
}

// FuzzJSON fuzzes the strict reader: what it accepts, encoding/json accepts with the same meaning.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `[1,{"b":[]}]`, `{"a":{"a":1}}`, ` 1 `, `{} {}`, "\"\\ud800\"", "\xff", `{"a":[{"a":1},{"a":1}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := schemas.CheckJSON(b); err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q was accepted and is not JSON", b)
		}
	})
}

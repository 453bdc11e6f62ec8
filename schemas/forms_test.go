package schemas_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestCBORIsCanonical(t *testing.T) {
	t.Parallel()
	type pair struct {
		_ struct{} `cbor:",toarray"`
		A []byte
		B uint64
	}
	good := schemas.EncodeCBOR(&pair{A: []byte{1, 2}, B: 300})
	for name, b := range map[string][]byte{
		"trailing": append(bytes.Clone(good), 0), "null for empty": {0x82, 0xf6, 0x00}, "long length": {0x82, 0x58, 0x01, 0x01, 0x00},
		"long number": {0x82, 0x41, 0x01, 0x18, 0x05}, "float": {0x82, 0x40, 0xf9, 0x00, 0x00}, "text for bytes": {0x82, 0x61, 'a', 0x00},
		"too few": {0x81, 0x40}, "too many": {0x83, 0x40, 0x00, 0x00}, "indefinite": {0x9f, 0x40, 0x00, 0xff}, "tag": {0xc0, 0x82, 0x40, 0x00},
		"array for bytes": {0x82, 0x81, 0x01, 0x00}, "empty": {},
	} {
		if err := schemas.DecodeCBOR(b, new(pair), 100); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var got pair
	if err := schemas.DecodeCBOR(good, &got, len(good)); err != nil || got.B != 300 {
		t.Errorf("%+v, %v", got, err)
	}
	wantKind(t, schemas.DecodeCBOR(good, &got, len(good)-1), schemas.KindTooLarge)
}

// TestFieldsAreUnambiguous: moving a border between fields changes the bytes.
func TestFieldsAreUnambiguous(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, fields := range [][][]byte{{[]byte("ab")}, {[]byte("a"), []byte("b")}, {nil, []byte("ab")}, {[]byte("ab"), nil}, {}, {nil}} {
		b := schemas.AppendFields(nil, "label", fields...)
		if seen[string(b)] {
			t.Errorf("%q comes twice", fields)
		}
		seen[string(b)] = true
		if schemas.HashOf(b) != schemas.HashFields("label", fields...) {
			t.Error("HashFields is not the hash of AppendFields")
		}
	}
}

func TestRequestRefused(t *testing.T) {
	t.Parallel()
	good := schemas.Request{Version: 1, Method: "POST", URL: "/v1/completions", ContentType: "application/json", ReplyKey: make([]byte, schemas.PublicKeySize)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind   schemas.Kind
		change func(*schemas.Request)
	}{
		"version":      {schemas.KindUnsupported, func(r *schemas.Request) { r.Version = 0 }},
		"method":       {schemas.KindInvalid, func(r *schemas.Request) { r.Method = "DELETE" }},
		"url":          {schemas.KindInvalid, func(r *schemas.Request) { r.URL = "http://x/v1/" }},
		"query":        {schemas.KindInvalid, func(r *schemas.Request) { r.URL = "/v1/x?y" }},
		"long url":     {schemas.KindInvalid, func(r *schemas.Request) { r.URL = "/v1/" + strings.Repeat("x", schemas.MaxURL) }},
		"content type": {schemas.KindInvalid, func(r *schemas.Request) { r.ContentType = "a\r\nb" }},
		"body":         {schemas.KindTooLarge, func(r *schemas.Request) { r.Body = make([]byte, schemas.MaxRequestBody+1) }},
		"reply key":    {schemas.KindInvalid, func(r *schemas.Request) { r.ReplyKey = nil }},
	} {
		r := good
		c.change(&r)
		if err := r.Check(); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestResultRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind schemas.Kind
		r    schemas.Result
	}{
		"version":  {schemas.KindUnsupported, schemas.Result{Status: 200}},
		"status":   {schemas.KindInvalid, schemas.Result{Version: 1, Status: 1000}},
		"nothing":  {schemas.KindInvalid, schemas.Result{Version: 1}},
		"body":     {schemas.KindTooLarge, schemas.Result{Version: 1, Status: 200, Body: make([]byte, schemas.MaxResultBody+1)}},
		"message":  {schemas.KindTooLarge, schemas.Result{Version: 1, Kind: 1, Message: strings.Repeat("x", schemas.MaxMessage+1)}},
		"mimetype": {schemas.KindTooLarge, schemas.Result{Version: 1, Status: 200, ContentType: strings.Repeat("x", schemas.MaxContentType+1)}},
	} {
		if err := c.r.Check(); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	failure := schemas.Failure(&schemas.Error{Kind: schemas.KindInvalid, Field: "messages", Message: strings.Repeat("x", 3*schemas.MaxMessage)})
	if err := failure.Check(); err != nil {
		t.Error(err)
	}
	var e *schemas.Error
	if err := failure.Err(); !errors.As(err, &e) || e.Field != "messages" || e.Kind != schemas.KindInvalid {
		t.Errorf("%v", err)
	}
	plain := schemas.Failure(errors.New("something"))
	if plain.Kind != schemas.KindInternal {
		t.Errorf("an error without a kind became %s", plain.Kind)
	}
	if schemas.Milliseconds(-time.Second) != 0 || schemas.Milliseconds(1500*time.Microsecond) != 1 || schemas.Milliseconds(1<<62) != 1<<32-1 {
		t.Error("milliseconds")
	}
}

func TestOutcomeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, o := range []schemas.Outcome{
		{Status: schemas.Succeeded, Grant: "g", Receipt: "r", Body: []byte("b")},
		{Status: schemas.Failed, Kind: schemas.KindEngine, Grant: "g", Body: []byte("b")},
		{Status: schemas.Expired, Kind: schemas.KindExpired},
		{Status: schemas.Cancelled, Kind: schemas.KindCancelled, Grant: "g", Receipt: "r"},
		{Status: schemas.Cancelled, Kind: schemas.KindCancelled},
	} {
		o.Job, o.Tenant, o.Model = schemas.NewJobID(), schemas.NewTenantID(), model
		got, err := schemas.ParseOutcome(o.Header(), o.Body)
		if err != nil || got.Status != o.Status || got.Kind != o.Kind || got.Grant != o.Grant || got.Receipt != o.Receipt || got.Job != o.Job {
			t.Errorf("%+v, %v", got, err)
		}
	}
	o := schemas.Outcome{Job: schemas.NewJobID(), Tenant: schemas.NewTenantID(), Model: model, Status: schemas.Succeeded, Grant: "g", Receipt: strings.Repeat("x", schemas.MaxSignedHeader+1)}
	_, err := schemas.ParseOutcome(o.Header(), nil)
	wantKind(t, err, schemas.KindTooLarge)
}

// sampleCatalogue is a catalogue of one model that anybody may publish.
func sampleCatalogue(t testing.TB) *schemas.Catalogue {
	t.Helper()
	ref, err := schemas.ParseModelID(string(model))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return &schemas.Catalogue{
		V: 1, Version: 1, Issued: at, Expires: at.Add(time.Hour), Environment: schemas.Simulated,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 1, schemas.Standard: 1, schemas.Batch: 1},
		Models:  []schemas.Model{{ID: model, Slug: ref.Slug(), Format: "gguf", Context: 1, Endpoints: []string{"/v1/completions"}}},
	}
}

func TestCatalogueRefused(t *testing.T) {
	t.Parallel()
	good := func() *schemas.Catalogue { return sampleCatalogue(t) }
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*schemas.Catalogue){
		"v": func(c *schemas.Catalogue) { c.V = 2 }, "version": func(c *schemas.Catalogue) { c.Version = 0 },
		"environment": func(c *schemas.Catalogue) { c.Environment = "" }, "expires": func(c *schemas.Catalogue) { c.Expires = c.Issued },
		"fee": func(c *schemas.Catalogue) { c.FeeBP = schemas.MaxNetworkFee + 1 }, "class": func(c *schemas.Catalogue) { delete(c.Classes, schemas.Batch) },
		"multiplier": func(c *schemas.Catalogue) { c.Classes[schemas.Batch] = 0 }, "slug": func(c *schemas.Catalogue) { c.Models[0].Slug = "x" },
		"shard": func(c *schemas.Catalogue) { c.Models[0].Shard = -1 }, "format": func(c *schemas.Catalogue) { c.Models[0].Format = "onnx" },
		"context": func(c *schemas.Catalogue) { c.Models[0].Context = 0 }, "endpoints": func(c *schemas.Catalogue) { c.Models[0].Endpoints = nil },
		"price": func(c *schemas.Catalogue) { c.Models[0].Price.Prompt = -1 }, "order": func(c *schemas.Catalogue) { c.Models = append(c.Models, c.Models[0]) },
		"locations": func(c *schemas.Catalogue) { c.Models[0].Locations = make([]string, schemas.MaxModelLocations+1) },
	} {
		c := good()
		change(c)
		if err := c.Check(); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := good()
	for _, name := range []string{string(model), "tiny", "tiny@1"} {
		if m, err := c.Find(name); err != nil || m.ID != model {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.Find("none")
	wantKind(t, err, schemas.KindUnknownModel)
	if _, err := c.Cost(model, schemas.Usage{Prompt: 1}, schemas.One); err != nil {
		t.Error(err)
	}
	_, err = c.Cost("none", schemas.Usage{}, schemas.One)
	wantKind(t, err, schemas.KindUnknownModel)
}

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	type form struct {
		A int `json:"a"`
		B struct {
			C string `json:"c"`
		} `json:"b"`
	}
	for text, field := range map[string]string{
		`{"a":1,"a":2}`: `"a"`, `{"b":{"c":1}}`: "b.c", `{"x":1}`: "", `{"a":1}x`: "", `{"a":1`: "", "\xff": "", `{"a":1,}`: "",
		strings.Repeat("[", 200) + strings.Repeat("]", 200): "",
	} {
		var e *schemas.Error
		if err := schemas.DecodeJSON([]byte(text), new(form), 1000); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", text, err)
		}
	}
	wantKind(t, schemas.DecodeJSON([]byte(`{"a":1}`), new(form), 3), schemas.KindTooLarge)
	if err := schemas.DecodeJSON([]byte(` {"a":1,"b":{"c":"x"}} `), new(form), 1000); err != nil {
		t.Error(err)
	}
}

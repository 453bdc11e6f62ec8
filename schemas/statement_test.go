package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// sampleGrant and sampleReceipt pass their checks.
func sampleGrant() schemas.Grant {
	key := bytes.Repeat([]byte{7}, ed25519.PublicKeySize)
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return schemas.Grant{
		V: 1, Job: schemas.NewJobID(), Tenant: schemas.NewTenantID(), Model: sample().Model, Class: schemas.Batch,
		Envelope: schemas.HashOf([]byte("e")), Attempt: 10, Worker: schemas.WorkerIDOf(key), WorkerKey: key,
		Owner: "-1:00000000000000000000000000000000000000000000000000000000000000be", Catalogue: 1<<64 - 1,
		Multiplier: schemas.MaxMultiplier, Ceiling: 1<<63 - 1, Policy: 9, Environment: schemas.Production,
		Broker: schemas.KeyIDOf(key), Issued: issued, Lease: issued.Add(time.Minute),
	}
}

func sampleReceipt() schemas.Receipt {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return schemas.Receipt{
		V: 1, Job: schemas.NewJobID(), Grant: schemas.HashOf([]byte("g")), Worker: schemas.WorkerIDOf([]byte("w")), Model: sample().Model,
		Usage: schemas.Usage{Prompt: schemas.MaxUsage, Completion: 1}, Status: schemas.Succeeded, Result: schemas.HashOf([]byte("r")),
		Seq: 2, Prev: schemas.HashOf([]byte("p")), Started: at, Finished: at,
	}
}

// TestStatementsAreJSON: what the writer of statements spells is what encoding/json spells, and the reader takes it.
func TestStatementsAreJSON(t *testing.T) {
	t.Parallel()
	g, r := sampleGrant(), sampleReceipt()
	for name, c := range map[string]struct {
		value  any
		encode func() ([]byte, error)
		read   func([]byte) error
	}{
		"grant":   {g, g.Encode, func(b []byte) error { _, err := schemas.ParseGrant(b); return err }},
		"receipt": {r, r.Encode, func(b []byte) error { _, err := schemas.ParseReceipt(b); return err }},
	} {
		want, err := schemas.EncodeJSON(c.value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.encode()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, want)
		}
		if err := c.read(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.Owner = `a"b`
	if _, err := g.Encode(); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("a text that JSON must escape: %v", err)
	}
}

// TestStatementsHaveOneSpelling: everything that JSON readers would take for the same statement is refused.
func TestStatementsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	r := sampleReceipt()
	good, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"space":            {`{"v"`, `{ "v"`},
		"another order":    {`"v":1,"job":"` + string(r.Job) + `"`, `"job":"` + string(r.Job) + `","v":1`},
		"twice":            {`"v":1,`, `"v":1,"v":1,`},
		"unknown":          {`{"v"`, `{"a":1,"v"`},
		"missing":          {`"v":1,`, ``},
		"zero in front":    {`"seq":2`, `"seq":02`},
		"fraction":         {`"seq":2`, `"seq":2.0`},
		"exponent":         {`"seq":2`, `"seq":2e0`},
		"negative":         {`"seq":2`, `"seq":-2`},
		"too large":        {`"seq":2`, `"seq":18446744073709551616`},
		"no digits":        {`"seq":2`, `"seq":`},
		"escape":           {`"status":"s`, `"status":"\u0073`},
		"null":             {`"usage":{`, `"usage":null,"x":{`},
		"offset":           {`05Z","finished"`, `05+00:00","finished"`},
		"upper-case hash":  {`"result":"sha256-`, `"result":"SHA256-`},
		"upper-case field": {`"v":`, `"V":`},
		"data behind":      {`05Z"}`, `05Z"}{}`},
		"cut":              {`05Z"}`, `05Z"`},
	} {
		if bytes.Count(good, []byte(c.old)) != 1 {
			t.Fatalf("%s: %q is not in %s once", name, c.old, good)
		}
		if _, err := schemas.ParseReceipt(bytes.Replace(good, []byte(c.old), []byte(c.new), 1)); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		if _, err := schemas.ParseReceipt(good[:n]); err == nil {
			t.Fatalf("the first %d bytes are taken for a receipt", n)
		}
	}
}

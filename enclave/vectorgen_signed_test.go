package enclave_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// statements are grants and receipts.
func (g *generator) statements() {
	worker := g.net.Session(g.t)
	submission := enclave.NewSubmission(g.tenant, g.net.Key(g.t))
	o := g.net.Run(g.t, worker, g.net.Seal(g.t, submission, "x"))
	other, err := enclave.NewTenant()
	g.must(err)
	for _, s := range []struct {
		format, token string
		key           []byte
	}{{"grant", o.Grant, g.net.Broker.Public()}, {"receipt", o.Receipt, worker.Public()}} {
		keys := map[string][]byte{"key": s.key, "grant": []byte(o.Grant)}
		add := func(name, expect, token string, keys map[string][]byte, want map[string][]byte) {
			g.add(vector{Format: s.format, Name: name, Expect: expect, Stage: "open", Text: token, Keys: keys, Want: want})
		}
		add("signed", "ok", s.token, keys, map[string][]byte{"job": []byte(o.Job)})
		add("another key", "denied", s.token, map[string][]byte{"key": other.Public(), "grant": []byte(o.Grant)}, nil)
		parts := strings.Split(s.token, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		g.must(err)
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		g.must(err)
		encode := func(h, p []byte) string {
			return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p) + "." + parts[2]
		}
		replace := func(b []byte, from, to string) []byte {
			if !bytes.Contains(b, []byte(from)) {
				g.t.Fatalf("%s does not hold %s", b, from)
			}
			return bytes.Replace(b, []byte(from), []byte(to), 1)
		}
		add("payload changed", "denied", encode(header, replace(payload, string(o.Job), string(schemas.NewJobID()))), keys, nil)
		add("alg none", "invalid", encode(replace(header, "EdDSA", "none"), payload), keys, nil)
		add("alg HS256", "invalid", encode(replace(header, "EdDSA", "HS256"), payload), keys, nil)
		add("typ of another statement", "invalid", encode(replace(header, `cocoon-`, `c0coon-`), payload), keys, nil)
		add("key in the header", "invalid", encode(replace(header, `{"alg"`, `{"x5u":"x","alg"`), payload), keys, nil)
		add("headers in another order", "invalid", encode([]byte(`{"typ":"cocoon-`+s.format+`+jws","alg":"EdDSA","kid":"`+string(schemas.KeyIDOf(s.key))+`"}`), payload), keys, nil)
		add("space in the header", "invalid", encode(replace(header, `{"alg"`, `{ "alg"`), payload), keys, nil)
		add("signature cut", "invalid", s.token[:len(s.token)-44], keys, nil)
		add("two parts", "invalid", parts[0]+"."+parts[1], keys, nil)
		add("four parts", "invalid", s.token+".AAAA", keys, nil)
		add("padded base64", "invalid", parts[0]+"."+parts[1]+"."+parts[2]+"==", keys, nil)
	}
	g.badStatements()
}

// badStatements are well signed and wrong inside.
func (g *generator) badStatements() {
	public, sign, err := ed25519.GenerateKey(nil)
	g.must(err)
	worker := schemas.WorkerIDOf(public)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	grant := schemas.Grant{
		V: 1, Job: schemas.JobIDFrom([16]byte{1}), Tenant: "taaaaaaaaaaaaaaaa", Model: enclavetest.Model, Class: schemas.Batch,
		Envelope: schemas.HashOf([]byte("e")), Attempt: 1, Worker: worker, WorkerKey: public,
		Owner: "0:00000000000000000000000000000000000000000000000000000000000000cc", Catalogue: 1, Multiplier: schemas.One, Ceiling: 10, Policy: 1,
		Environment: schemas.Simulated, Broker: schemas.KeyIDOf(public), Issued: at, Lease: at.Add(30 * time.Second),
	}
	receipt := schemas.Receipt{
		V: 1, Job: grant.Job, Grant: schemas.HashOf([]byte("g")), Worker: worker, Model: enclavetest.Model, Usage: schemas.Usage{Prompt: 1},
		Status: schemas.Succeeded, Result: schemas.HashOf([]byte("r")), Seq: 1, Started: at, Finished: at,
	}
	keys := map[string][]byte{"key": public, "grant": []byte("g")}
	bad := func(format, name, expect string, statement any) {
		token, err := enclave.SignJWS(sign, "cocoon-"+format+"+jws", statement)
		g.must(err)
		g.add(vector{Format: format, Name: name, Expect: expect, Stage: "open", Text: token, Keys: keys})
	}
	editGrant := func(name, expect string, change func(*schemas.Grant)) {
		c := grant
		change(&c)
		bad("grant", name, expect, c)
	}
	editGrant("version 2", "unsupported", func(g *schemas.Grant) { g.V = 2 })
	editGrant("attempt 0", "invalid", func(g *schemas.Grant) { g.Attempt = 0 })
	editGrant("worker is not its key", "invalid", func(g *schemas.Grant) { g.Worker = "waaaaaaaaaaaaaaaa" })
	editGrant("ceiling zero", "invalid", func(g *schemas.Grant) { g.Ceiling = 0 })
	editGrant("multiplier above 100", "invalid", func(g *schemas.Grant) { g.Multiplier = 100*schemas.One + 1 })
	editGrant("lease before issue", "invalid", func(g *schemas.Grant) { g.Lease = g.Issued })
	editGrant("lease with a fraction", "invalid", func(g *schemas.Grant) { g.Lease = g.Lease.Add(time.Millisecond) })
	editGrant("environment unknown", "invalid", func(g *schemas.Grant) { g.Environment = "test" })
	editReceipt := func(name, expect string, change func(*schemas.Receipt)) {
		c := receipt
		change(&c)
		bad("receipt", name, expect, c)
	}
	editReceipt("version 2", "unsupported", func(r *schemas.Receipt) { r.V = 2 })
	editReceipt("failed job", "invalid", func(r *schemas.Receipt) { r.Status = schemas.Failed })
	editReceipt("usage above the limit", "invalid", func(r *schemas.Receipt) { r.Usage.Completion = schemas.MaxUsage + 1 })
	editReceipt("number 0", "invalid", func(r *schemas.Receipt) { r.Seq = 0 })
	editReceipt("first with a predecessor", "invalid", func(r *schemas.Receipt) { r.Prev = schemas.HashOf(nil) })
	editReceipt("second without a predecessor", "invalid", func(r *schemas.Receipt) { r.Seq = 2 })
	editReceipt("finished before started", "invalid", func(r *schemas.Receipt) { r.Finished = r.Started.Add(-time.Second) })
	bad("receipt", "unknown field", "invalid", struct {
		schemas.Receipt
		Tip int `json:"tip"`
	}{receipt, 1})
}

// bundles are the payloads of key bundles.
func (g *generator) bundles() {
	key, _ := g.net.KeyPair(g.t)
	k := key.Bundle()
	text := func(k schemas.KeyBundle) string {
		b, err := schemas.EncodeJSON(k)
		g.must(err)
		return string(b)
	}
	g.add(vector{Format: "keybundle", Name: "plain", Expect: "ok", Stage: "parse", Text: text(k), Want: map[string][]byte{"kid": []byte(k.Key)}})
	edit := func(name, expect string, change func(*schemas.KeyBundle)) {
		c := k
		change(&c)
		g.add(vector{Format: "keybundle", Name: name, Expect: expect, Stage: "parse", Text: text(c)})
	}
	edit("version 2", "unsupported", func(k *schemas.KeyBundle) { k.V = 2 })
	edit("another suite", "unsupported", func(k *schemas.KeyBundle) { k.Suite = "0020-0001-0002" })
	edit("kid of another key", "invalid", func(k *schemas.KeyBundle) { k.Key = "000102030405060708090a0b0c0d0e0f" })
	edit("short key", "invalid", func(k *schemas.KeyBundle) { k.PublicKey = k.PublicKey[1:] })
	edit("model without root", "invalid", func(k *schemas.KeyBundle) { k.Model = "tiny" })
	edit("active for 25 hours", "invalid", func(k *schemas.KeyBundle) {
		k.ActiveUntil = k.ActiveFrom.Add(25 * time.Hour)
		k.DecryptUntil = k.ActiveUntil
	})
	edit("opens before it ends", "invalid", func(k *schemas.KeyBundle) { k.DecryptUntil = k.ActiveFrom })
	edit("environment unknown", "invalid", func(k *schemas.KeyBundle) { k.Environment = "x" })
	for name, broken := range map[string]string{
		"space": " " + text(k), "trailing": text(k) + "{}", "duplicate key": strings.Replace(text(k), `{"v":1`, `{"v":1,"v":1`, 1),
		"unknown field": strings.Replace(text(k), `{"v":1`, `{"v":1,"w":1`, 1), "cut": text(k)[:100],
	} {
		g.add(vector{Format: "keybundle", Name: name, Expect: "invalid", Stage: "parse", Text: broken})
	}
}

// spends are authorisations of broker mode.
func (g *generator) spends() {
	a := sample()
	a.Tenant = g.tenant.ID()
	enc := bytes.Repeat([]byte{5}, schemas.EncSize)
	s := schemas.Spend{
		Tenant: a.Tenant, Job: a.ID, Ceiling: a.Budget, Multiplier: schemas.One,
		Signature: g.tenant.SignSpend(schemas.SpendSubmission(a.Tenant, a.Key, enc)),
	}
	add := func(name, expect string, s schemas.Spend, key, enc []byte) {
		g.add(vector{Format: "spend", Name: name, Expect: expect, Stage: "open", Header: a.Header(), Body: schemas.EncodeCBOR(&s), Keys: map[string][]byte{"key": key, "enc": enc}})
	}
	add("signed", "ok", s, g.tenant.Public(), enc)
	other, err := enclave.NewTenant()
	g.must(err)
	add("another account's key", "invalid", s, other.Public(), enc)
	changed := bytes.Clone(enc)
	changed[0] ^= 1
	add("another encapsulation", "invalid", s, g.tenant.Public(), changed)
	c := s
	c.Tenant = other.ID()
	add("another tenant", "invalid", c, g.tenant.Public(), enc)
	c = s
	c.Signature[0] ^= 1
	add("signature changed", "invalid", c, g.tenant.Public(), enc)
}

// tenants are identity files.
func (g *generator) tenants() {
	text := string(g.tenant.Marshal())
	job := g.tenant.JobID("line-1")
	secret := g.tenant.ReplySecret(job)
	g.add(vector{Format: "tenant", Name: "plain", Expect: "ok", Stage: "parse", Text: text, Want: map[string][]byte{
		"public": g.tenant.Public(), "job": []byte(job), "reply_key": g.tenant.ReplyKey(), "reply_secret": secret[:],
	}})
	other, err := enclave.NewTenant()
	g.must(err)
	for name, c := range map[string]struct{ expect, text string }{
		"key of another root": {"corrupt", strings.Replace(text, base64Of(g.tenant.Public()), base64Of(other.Public()), 1)},
		"another form":        {"invalid", strings.Replace(text, "tenant-identity/v1", "tenant-identity/v2", 1)},
		"bad id":              {"invalid", strings.Replace(text, string(g.tenant.ID()), "alice", 1)},
		"cut":                 {"invalid", text[:40]},
		"unknown field":       {"invalid", strings.Replace(text, "{", `{"x":1,`, 1)},
	} {
		g.add(vector{Format: "tenant", Name: name, Expect: c.expect, Stage: "parse", Text: c.text})
	}
}

// credits are accounts.
func (g *generator) credits() {
	c := schemas.Credit{V: 1, Available: 1_500_000_000, Key: g.tenant.Public(), Updated: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Through: 7}
	b, err := c.Encode()
	g.must(err)
	text := string(b)
	g.add(vector{Format: "credit", Name: "plain", Expect: "ok", Stage: "parse", Text: text, Want: map[string][]byte{"available": []byte("1.5")}})
	for name, text := range map[string]string{
		"negative":            strings.Replace(text, `"1500000000"`, `"-1"`, 1),
		"amount as a number":  strings.Replace(text, `"1500000000"`, `1500000000`, 1),
		"updated in a zone":   strings.Replace(text, "12:00:00Z", "12:00:00+01:00", 1),
		"space between parts": strings.Replace(text, `,"key"`, `, "key"`, 1),
	} {
		g.add(vector{Format: "credit", Name: name, Expect: "invalid", Stage: "parse", Text: text})
	}
}

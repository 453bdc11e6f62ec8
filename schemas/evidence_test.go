package schemas_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

const someModel schemas.ModelID = "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa"

// newClaims are well-formed claims of a worker.
func newClaims() schemas.Claims {
	return schemas.Claims{
		V: 1, Role: schemas.RoleWorker, HPKE: make([]byte, schemas.HPKEKeySize), Sign: make([]byte, 32), Owner: schemas.Owner("0:" + strings.Repeat("ab", 32)),
		Boot: schemas.BootID{1}, GPUs: []schemas.Hash{{1}}, Models: []schemas.ModelID{someModel}, Expires: issued,
	}
}

// newLog is a well-ordered boot log.
func newLog() schemas.EventLog {
	return schemas.EventLog{
		schemas.ConfigEvent(schemas.Hash{1}), schemas.PolicyRootEvent(schemas.Hash{2}), schemas.ModelEvent(someModel), schemas.GPUEvent(schemas.Hash{3}), schemas.BootDoneEvent(),
	}
}

// newEvidence is evidence of the right shape that proves nothing.
func newEvidence(t testing.TB) schemas.Evidence {
	t.Helper()
	claims, err := newClaims().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return schemas.Evidence{
		Claims: claims, Quote: []byte("quote"), Log: newLog(),
		GPUs: []schemas.GPUEvidence{{Report: []byte("report"), Chain: []byte("chain"), OCSP: [][]byte{[]byte("answer")}}, {Report: []byte("r"), Chain: []byte("c")}},
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	c := newClaims()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schemas.ParseClaims(b)
	if err != nil || parsed.Owner != c.Owner || parsed.Boot != c.Boot || len(parsed.Models) != 1 {
		t.Errorf("claims: %+v, %v", parsed, err)
	}
	for _, bad := range []string{" " + string(b), string(b) + "\n", strings.Replace(string(b), `"v":1`, `"V":1`, 1), strings.Replace(string(b), `{"v":1`, `{"v":1,"x":0`, 1), strings.Replace(string(b), `"gpus":[`, `"gpus":null,"y":[`, 1)} {
		if _, err := schemas.ParseClaims([]byte(bad)); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%.40s…: %v", bad, err)
		}
	}
	for _, x := range []struct {
		field  string
		kind   schemas.Kind
		change func(*schemas.Claims)
	}{
		{"v", schemas.KindInvalid, func(c *schemas.Claims) { c.V = 0 }},
		{"role", schemas.KindInvalid, func(c *schemas.Claims) { c.Role = "root" }},
		{"hpke", schemas.KindInvalid, func(c *schemas.Claims) { c.HPKE = c.HPKE[1:] }},
		{"sign", schemas.KindInvalid, func(c *schemas.Claims) { c.Sign = nil }},
		{"owner", schemas.KindInvalid, func(c *schemas.Claims) { c.Owner = "" }},
		{"owner", schemas.KindInvalid, func(c *schemas.Claims) { c.Role = schemas.RoleBroker }},
		{"boot", schemas.KindInvalid, func(c *schemas.Claims) { c.Boot = schemas.BootID{} }},
		{"gpus", schemas.KindTooLarge, func(c *schemas.Claims) { c.GPUs = make([]schemas.Hash, schemas.MaxGPUs+1) }},
		{"models[0]", schemas.KindInvalid, func(c *schemas.Claims) { c.Models[0] = "tiny" }},
		{"models[1]", schemas.KindInvalid, func(c *schemas.Claims) { c.Models = append(c.Models, c.Models[0]) }},
		{"models", schemas.KindTooLarge, func(c *schemas.Claims) { c.Models = make([]schemas.ModelID, schemas.MaxClaimedModels+1) }},
		{"expires", schemas.KindInvalid, func(c *schemas.Claims) { c.Expires = c.Expires.Add(time.Millisecond) }},
	} {
		c := newClaims()
		x.change(&c)
		_, err := c.Encode()
		fieldError(t, x.field, err, x.kind, x.field)
	}
	broker := newClaims()
	broker.Role, broker.Owner, broker.GPUs, broker.Models = schemas.RoleBroker, "", nil, nil
	b, err = broker.Encode()
	if err != nil || !bytes.Contains(b, []byte(`"gpus":[],"models":[]`)) || bytes.Contains(b, []byte("owner")) {
		t.Errorf("broker: %s, %v", b, err)
	}
}

func TestReportData(t *testing.T) {
	t.Parallel()
	nonce := [32]byte{7}
	data := schemas.ReportData([]byte("claims"), nonce)
	if got := hex.EncodeToString(data[:]); got != "a030a39c88264fedecf2afe56511211cba4fe190da46d057190fafcf9aecf2a7"+"07"+strings.Repeat("00", 31) {
		t.Errorf("report data %s", got)
	}
	if other := schemas.ReportData([]byte("claimt"), nonce); bytes.Equal(other[:32], data[:32]) {
		t.Error("other claims, same report data")
	}
	if schemas.GPUNonce(nonce, []byte("ab"), []byte("c")) == schemas.GPUNonce(nonce, []byte("a"), []byte("bc")) {
		t.Error("the border between the keys is not bound")
	}
	a, b := schemas.GPUEvidence{Report: []byte("ab"), Chain: []byte("c")}, schemas.GPUEvidence{Report: []byte("a"), Chain: []byte("bc")}
	if a.Digest() == b.Digest() {
		t.Error("the border between report and chain is not bound")
	}
	b = a
	b.OCSP = [][]byte{{1}}
	if a.Digest() != b.Digest() {
		t.Error("stapled answers change the digest")
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	facts, register, err := newLog().Replay()
	if err != nil {
		t.Fatal(err)
	}
	if facts.Config != (schemas.Hash{1}) || facts.PolicyRoot != (schemas.Hash{2}) || len(facts.Models) != 1 || facts.Models[0] != someModel || len(facts.GPUs) != 1 {
		t.Errorf("facts: %+v", facts)
	}
	// By hand: what the hardware does with the digests.
	var want [48]byte
	for _, e := range newLog() {
		d := e.Digest()
		want = sha512.Sum384(append(want[:], d[:]...))
	}
	if register != schemas.Measure(want) {
		t.Errorf("register %s, want %x", register, want)
	}
	if got, want := schemas.BootDoneEvent().Digest().String(), "f58f11669b2030f4"; !strings.HasPrefix(got, want) {
		t.Errorf("digest of boot-done %s, want %s…", got, want)
	}
	event := func(kind schemas.EventType, payload string) schemas.Event {
		return schemas.Event{Type: kind, Payload: []byte(payload)}
	}
	for name, c := range map[string]struct {
		field  string
		kind   schemas.Kind
		change func(schemas.EventLog) schemas.EventLog
	}{
		"empty":            {"log", schemas.KindInvalid, func(schemas.EventLog) schemas.EventLog { return nil }},
		"not closed":       {"log", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return l[:4] }},
		"no policy root":   {"log", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return append(l[:1:1], l[4]) }},
		"after the end":    {"log[5].type", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return append(l, l[2]) }},
		"closed twice":     {"log[5].type", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return append(l, l[4]) }},
		"unknown":          {"log[0].type", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return append(schemas.EventLog{event("x", "")}, l...) }},
		"configured twice": {"log[1].type", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { return append(schemas.EventLog{l[0]}, l...) }},
		"GPU before model": {"log[3].type", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { l[2], l[3] = l[3], l[2]; return l }},
		"short hash":       {"log[0].payload", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { l[0] = event(schemas.EventConfig, "short"); return l }},
		"no model id":      {"log[2].payload", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { l[2] = event(schemas.EventModel, "tiny"); return l }},
		"payload at end":   {"log[4].payload", schemas.KindInvalid, func(l schemas.EventLog) schemas.EventLog { l[4] = event(schemas.EventBootDone, "x"); return l }},
		"long payload": {"log[2].payload", schemas.KindTooLarge, func(l schemas.EventLog) schemas.EventLog {
			l[2] = event(schemas.EventModel, strings.Repeat("x", 300))
			return l
		}},
		"too many": {"log", schemas.KindTooLarge, func(l schemas.EventLog) schemas.EventLog { return make(schemas.EventLog, schemas.MaxEvents+1) }},
	} {
		_, _, err := c.change(newLog()).Replay()
		fieldError(t, name, err, c.kind, c.field)
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schemas.ParseEvidence(b)
	if err != nil || len(parsed.GPUs) != 2 || len(parsed.Log) != 5 || len(parsed.GPUs[1].OCSP) != 0 {
		t.Fatalf("evidence: %+v, %v", parsed, err)
	}
	if h, err := parsed.Hash(); err != nil || h != schemas.HashOf(b) {
		t.Errorf("hash %s, %v", h, err)
	}
	for field, change := range map[string]func(*schemas.Evidence){
		"claims": func(e *schemas.Evidence) { e.Claims = nil }, "quote": func(e *schemas.Evidence) { e.Quote = make([]byte, schemas.MaxQuote+1) },
		"log": func(e *schemas.Evidence) { e.Log = make(schemas.EventLog, schemas.MaxEvents+1) }, "gpus": func(e *schemas.Evidence) { e.GPUs = make([]schemas.GPUEvidence, schemas.MaxGPUs+1) },
		"gpus[1].report": func(e *schemas.Evidence) { e.GPUs[1].Report = nil }, "gpus[0].chain": func(e *schemas.Evidence) { e.GPUs[0].Chain = make([]byte, schemas.MaxGPUChain+1) },
		"gpus[0].ocsp": func(e *schemas.Evidence) { e.GPUs[0].OCSP = make([][]byte, schemas.MaxStaples+1) }, "gpus[0].ocsp[0]": func(e *schemas.Evidence) { e.GPUs[0].OCSP[0] = nil },
		"log[0].payload": func(e *schemas.Evidence) { e.Log[0].Payload = make([]byte, schemas.MaxEventPayload+1) },
	} {
		e := newEvidence(t)
		change(&e)
		_, err := e.Encode()
		if kind := schemas.KindOf(err); kind != schemas.KindInvalid && kind != schemas.KindTooLarge || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := schemas.ParseEvidence(make([]byte, schemas.MaxEvidence+1)); schemas.KindOf(err) != schemas.KindTooLarge {
		t.Errorf("too large: %v", err)
	}
}

// TestMutatedEvidence changes the wire form in thousands of ways: whatever parses encodes again to the same bytes.
func TestMutatedEvidence(t *testing.T) {
	t.Parallel()
	e := newEvidence(t)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	random, parsed := rand.New(rand.NewPCG(1, 2)), 0
	for range 20_000 {
		x := bytes.Clone(b)
		x[random.IntN(len(x))] ^= byte(1 + random.IntN(255))
		if random.IntN(4) == 0 {
			x = x[:random.IntN(len(x))]
		}
		if checkEvidence(t, x) {
			parsed++
		}
	}
	if parsed < 1000 {
		t.Errorf("only %d of 20,000 parsed: the test no longer reaches the re-encoding", parsed)
	}
}

// checkEvidence holds "parses => re-encodes identically" and reports whether it parsed.
func checkEvidence(t *testing.T, b []byte) bool {
	t.Helper()
	e, err := schemas.ParseEvidence(b)
	if err != nil {
		if kind := schemas.KindOf(err); kind != schemas.KindInvalid && kind != schemas.KindTooLarge {
			t.Fatalf("untyped error: %v", err)
		}
		return false
	}
	if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Fatalf("does not re-encode: %v", err)
	}
	return true
}

func FuzzEvidence(f *testing.F) {
	e := newEvidence(f)
	b, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { checkEvidence(t, b) })
}

func FuzzClaims(f *testing.F) {
	b, err := newClaims().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := schemas.ParseClaims(b)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("does not re-encode: %v", err)
		}
	})
}

func FuzzEventLog(f *testing.F) {
	f.Add("config", []byte("x"), "boot-done", []byte{})
	f.Fuzz(func(t *testing.T, kind1 string, payload1 []byte, kind2 string, payload2 []byte) {
		l := schemas.EventLog{{Type: schemas.EventType(kind1), Payload: payload1}, {Type: schemas.EventType(kind2), Payload: payload2}}
		if _, _, err := l.Replay(); err == nil {
			t.Fatal("a log of two events cannot be complete")
		}
		if kind1 != kind2 && l[0].Digest() == l[1].Digest() {
			t.Fatal("two events with one digest")
		}
	})
}

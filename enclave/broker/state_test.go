package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// testModel is a model that keys are derived for.
const testModel schemas.ModelID = "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa"

// begin is the first second of epoch 2,945,000 of ten minutes.
var begin = time.Unix(2_945_000*600, 0).UTC()

// testGroup is a group of epochs of ten minutes that open for twenty more, as it stands at a state.
func testGroup(t *testing.T, s state) *group {
	t.Helper()
	g, err := newGroup(&Config{CachedSubmissions: 4}, &s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// first is the state of a group founded at begin.
func first() state {
	return state{Version: 1, Identity: [32]byte{1}, Epoch: 2_945_000, Secret: [32]byte{2}, Length: 600, Window: 1200}
}

// activeID is the id of the key that is sealed to at a time.
func activeID(t *testing.T, g *group, at time.Time) schemas.KeyID {
	t.Helper()
	k, _, _, _, err := g.active(testModel, at)
	if err != nil {
		t.Fatal(err)
	}
	return k.id
}

// TestRatchet: keys of live epochs stay the same while earlier ones are forgotten, also over a restart; forgotten epochs
// cannot be derived from the later state.
func TestRatchet(t *testing.T) {
	t.Parallel()
	g := testGroup(t, first())
	fourth := begin.Add(30 * time.Minute)
	old, live := activeID(t, g, begin), activeID(t, g, fourth)
	if old == live {
		t.Fatal("two epochs have one key")
	}
	if !g.forget(fourth) || g.state.Epoch != 2_945_001 {
		t.Fatalf("the oldest epoch is %d", g.state.Epoch)
	}
	if got := activeID(t, g, fourth); got != live {
		t.Error("forgetting changed a live key")
	}
	if _, err := g.find(testModel, old, fourth); !errors.Is(err, schemas.KindKeyLost) {
		t.Errorf("a forgotten key was found: %v", err)
	}
	again, err := parseState(schemas.EncodeCBOR(g.state))
	if err != nil {
		t.Fatal(err)
	}
	restarted := testGroup(t, *again)
	if got := activeID(t, restarted, fourth); got != live {
		t.Error("a restart changed a live key")
	}
	for _, ago := range []time.Duration{0, 10, 20, 29} {
		if k, _, _, _, err := restarted.active(testModel, fourth.Add(-ago*time.Minute)); err == nil && k.id == old {
			t.Error("the later state derived the forgotten key")
		}
	}
	if _, _, _, _, err := restarted.active(testModel, begin); !errors.Is(err, schemas.KindKeyLost) {
		t.Errorf("the forgotten epoch has a key: %v", err)
	}
}

// TestFindLooksAtTheClock: a key whose window is over is not found, although nobody has forgotten it yet.
func TestFindLooksAtTheClock(t *testing.T) {
	t.Parallel()
	g := testGroup(t, first())
	id := activeID(t, g, begin)
	last := begin.Add(30*time.Minute - time.Second)
	if _, err := g.find(testModel, id, last); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	if _, err := g.find(testModel, id, last.Add(time.Second)); !errors.Is(err, schemas.KindKeyLost) {
		t.Errorf("after it: %v", err)
	}
	if _, err := g.find("other@1:sha256-00000000000000000000000000000000000000000000000000000000000000bb", id, begin); !errors.Is(err, schemas.KindKeyLost) {
		t.Errorf("for another model: %v", err)
	}
}

// TestClockFarAhead: a clock that jumps does not make the broker ratchet for ever, nor forget everything at once.
func TestClockFarAhead(t *testing.T) {
	t.Parallel()
	g := testGroup(t, first())
	if g.forget(begin.Add((maxCatchUp + 10) * 10 * time.Minute)) {
		t.Error("a clock a century ahead was believed")
	}
}

func TestStateRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*state){
		"version": func(s *state) { s.Version = 2 }, "length": func(s *state) { s.Length = 1 }, "window": func(s *state) { s.Window = 1 },
		"policies": func(s *state) { s.Policies = make([]schemas.Hash, maxPolicies+1) },
	} {
		s := first()
		change(&s)
		if _, err := parseState(schemas.EncodeCBOR(&s)); !errors.Is(err, schemas.KindCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseState([]byte("no")); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("no state: %v", err)
	}
}

// TestTables: full tables refuse instead of growing, and what has expired makes room.
func TestTables(t *testing.T) {
	t.Parallel()
	l := newLeases(2)
	take := func(key byte, now time.Time) error {
		_, _, err := l.acquire(jobKey{key}, "w", 3, now, now.Add(time.Second), now.Add(time.Hour))
		return err
	}
	for key := range byte(2) {
		if err := take(key, begin); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(2, begin.Add(time.Second)); !errors.Is(err, schemas.KindBusy) {
		t.Errorf("a full table: %v", err)
	}
	if err := take(2, begin.Add(time.Hour)); err != nil {
		t.Errorf("after expiry: %v", err)
	}
	s := newSeen(2, time.Minute)
	for key := range byte(10) {
		if !s.first([32]byte{key}, begin) {
			t.Errorf("%d was seen", key)
		}
	}
	if len(s.young)+len(s.old) > 4 {
		t.Errorf("%d entries with a limit of 2 in each generation", len(s.young)+len(s.old))
	}
	s = newSeen(100, time.Minute)
	s.first([32]byte{1}, begin)
	if s.first([32]byte{1}, begin.Add(61*time.Second)) || !s.first([32]byte{1}, begin.Add(4*time.Minute)) {
		t.Error("what was seen is remembered for one to two windows")
	}
	b := newBook()
	account := schemas.Credit{Available: 10, Updated: begin}
	for key := range byte(2) {
		if err := b.reserve("t", jobKey{key}, 5, account, begin, begin); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.reserve("t", jobKey{3}, 1, account, begin, begin); !errors.Is(err, schemas.KindBusy) {
		t.Errorf("an account that is reserved: %v", err)
	}
	if err := b.reserve("t", jobKey{3}, 11, account, begin, begin); !errors.Is(err, schemas.KindCredit) {
		t.Errorf("an account that does not suffice: %v", err)
	}
	account.Updated = begin.Add(time.Hour)
	b.sweep(func(schemas.TenantID) (schemas.Credit, bool) { return account, true }, begin.Add(time.Hour))
	if len(b.tenants) != 0 {
		t.Error("settled reservations take memory")
	}
}

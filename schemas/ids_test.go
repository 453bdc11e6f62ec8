package schemas_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	if _, err := schemas.ParseJobID(string(schemas.NewJobID())); err != nil {
		t.Error(err)
	}
	if _, err := schemas.ParseTenantID(string(schemas.NewTenantID())); err != nil {
		t.Error(err)
	}
	if _, err := schemas.ParseWorkerID(string(schemas.WorkerIDOf([]byte("key")))); err != nil {
		t.Error(err)
	}
	key := schemas.KeyIDOf([]byte("key"))
	if _, err := schemas.ParseKeyID(string(key)); err != nil {
		t.Error(err)
	}
	if b := key.KeyBytes(); schemas.KeyIDOf([]byte("key")) != key || b == [16]byte{} {
		t.Errorf("%x", b)
	}
	if b := schemas.KeyID("no").KeyBytes(); b != [16]byte{} {
		t.Errorf("%x", b)
	}
	for _, bad := range []string{"", "a", strings.Repeat("a", 25) + "A", strings.Repeat("a", 25) + "1", strings.Repeat("b", 26), strings.Repeat("a", 27)} {
		if _, err := schemas.ParseJobID(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("job %q: %v", bad, err)
		}
		if _, err := schemas.ParseTenantID(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("tenant %q: %v", bad, err)
		}
		if _, err := schemas.ParseWorkerID(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("worker %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "0:" + strings.Repeat("A", 64), "1:" + strings.Repeat("a", 64), "0:" + strings.Repeat("a", 63), strings.Repeat("a", 64)} {
		if _, err := schemas.ParseOwner(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("owner %q: %v", bad, err)
		}
	}
	h := schemas.HashOf([]byte("x"))
	if got, err := schemas.ParseHash(h.String()); err != nil || got != h {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", h.String()[7:], strings.ToUpper(h.String()), h.String() + "0"} {
		if _, err := schemas.ParseHash(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("hash %q: %v", bad, err)
		}
	}
}

func TestModelIDs(t *testing.T) {
	t.Parallel()
	root := schemas.HashOf([]byte("weights"))
	ref := schemas.ModelRef{Name: "Qwen/Qwen3-0.6B", Revision: "v1.0", Root: root}
	got, err := schemas.ParseModelID(string(ref.ID()))
	if err != nil || got != ref {
		t.Errorf("%+v, %v", got, err)
	}
	other := ref
	other.Root[0] ^= 1
	if !schemas.ValidToken(ref.Slug()) || ref.Slug() == other.Slug() {
		t.Errorf("slugs %q and %q", ref.Slug(), other.Slug())
	}
	long := schemas.ModelRef{Name: strings.Repeat("a", schemas.MaxModelName), Revision: strings.Repeat("b", schemas.MaxModelRevision), Root: root}
	if !schemas.ValidToken(long.Slug()) {
		t.Errorf("slug %q", long.Slug())
	}
	for _, bad := range []string{
		"", "tiny", "tiny@1", "@1:" + root.String(), "tiny@:" + root.String(), "ti ny@1:" + root.String(), "tiny@1/2:" + root.String(),
		"tiny@1:" + root.String()[1:], strings.Repeat("a", schemas.MaxModelName+1) + "@1:" + root.String(),
	} {
		if _, err := schemas.ParseModelID(bad); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "a.b", "a b", "A", "a*", "a>", strings.Repeat("a", schemas.MaxToken+1)} {
		if schemas.ValidToken(bad) {
			t.Errorf("token %q", bad)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for k := schemas.KindUnknown; k <= schemas.KindCorrupt; k++ {
		back, err := schemas.ParseKind(k.String())
		if err != nil || back != k || names[k.String()] {
			t.Errorf("kind %d is called %s: %v", k, k, err)
		}
		names[k.String()] = true
	}
	if _, err := schemas.ParseKind("kind_24"); err == nil {
		t.Error("a kind that does not exist was read")
	}
	wrapped := schemas.Errorf(schemas.KindEngine, "run: %w", schemas.FieldError("x", "y"))
	if schemas.KindOf(wrapped) != schemas.KindEngine || !errors.Is(wrapped, schemas.KindInvalid) || !schemas.Retriable(wrapped) {
		t.Errorf("%v", wrapped)
	}
	if schemas.KindOf(errors.New("x")) != schemas.KindUnknown || schemas.Retriable(nil) {
		t.Error("an error without a kind has one")
	}
	full := &schemas.Error{Kind: schemas.KindInvalid, Line: 3, Field: "f", Message: "m"}
	if full.Error() != "invalid: line 3: f: m" {
		t.Error(full.Error())
	}
}

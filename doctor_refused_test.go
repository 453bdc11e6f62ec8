//go:build !worker

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestDoctorExplainsEveryRefusal puts what a broker found for every case that a verifier must refuse, one after the other: doctor
// names the reason and says what to do.
func TestDoctorExplainsEveryRefusal(t *testing.T) {
	t.Parallel()
	bus := streamstest.New(t)
	if f := checkRefused(t.Context(), bus); f.Verdict != verdictOK {
		t.Errorf("nobody was refused: %+v", f)
	}
	for _, r := range attesttest.Refusals() {
		w := attesttest.New(t)
		e, nonce := r.Make(t, w)
		found := w.Verifier.Examine(t.Context(), e, nonce).Finding()
		found.Time, found.Worker = time.Now().UTC(), schemas.WorkerIDOf([]byte("host"))
		value, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bus.Bucket(streams.BucketEvidence).Put(t.Context(), streams.KeyFinding(&found), value); err != nil {
			t.Fatal(err)
		}
		f := checkRefused(t.Context(), bus)
		if f.Verdict != verdictWarn || !strings.Contains(f.Detail, r.Field) || !strings.Contains(f.Detail, found.Message) || f.Fix == "" {
			t.Errorf("%s: %+v", r.Name, f)
		}
	}
	admitted := schemas.Finding{Time: time.Now().UTC(), Worker: schemas.WorkerIDOf([]byte("host"))}
	value, err := json.Marshal(admitted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Bucket(streams.BucketEvidence).Put(t.Context(), streams.KeyFinding(&admitted), value); err != nil {
		t.Fatal(err)
	}
	if f := checkRefused(t.Context(), bus); f.Verdict != verdictOK {
		t.Errorf("the host was admitted since: %+v", f)
	}
}

// TestDoctorOnPolicies: none, one in force, one that ends soon, one that has expired.
func TestDoctorOnPolicies(t *testing.T) {
	t.Parallel()
	bus, w := streamstest.New(t), attesttest.New(t)
	if f := checkPolicy(t.Context(), bus); f.Verdict != verdictFail || f.Fix == "" {
		t.Errorf("no policy: %+v", f)
	}
	for _, c := range []struct {
		name string
		left time.Duration
		want verdict
		says string
	}{{"in force", 30 * 24 * time.Hour, verdictOK, "admits"}, {"ends soon", time.Hour, verdictWarn, "expires"}, {"expired", -time.Hour, verdictFail, "policy expired"}} {
		policy := w.Policy()
		policy.Expires = time.Now().UTC().Add(c.left).Truncate(time.Second)
		policy.Issued = policy.Expires.Add(-40 * 24 * time.Hour)
		if _, err := bus.Bucket(streams.BucketPolicy).Put(t.Context(), "current", w.Sign(t, policy)); err != nil {
			t.Fatal(err)
		}
		if f := checkPolicy(t.Context(), bus); f.Verdict != c.want || !strings.Contains(f.Detail, c.says) || c.want != verdictOK && f.Fix == "" {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
	if attest.Advice(&schemas.Error{Field: "policy"}) == "" {
		t.Error("nothing is advised about policies")
	}
}

package attesttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
)

// Conform tests an attester of a worker that New's policy admits, in front of the production verifier.
func Conform(t *testing.T, boot func(t *testing.T, w *World) attest.Attester) {
	t.Run("admitted", func(t *testing.T) { t.Parallel(); conformAdmitted(t, boot) })
	t.Run("unchallenged", func(t *testing.T) { t.Parallel(); conformUnchallenged(t, boot) })
	t.Run("wire", func(t *testing.T) { t.Parallel(); conformWire(t, boot) })
	t.Run("concurrent", func(t *testing.T) { t.Parallel(); conformConcurrent(t, boot) })
	t.Run("bad claims", func(t *testing.T) { t.Parallel(); conformBadClaims(t, boot) })
}

// conformAdmitted: the verifier admits what was claimed, and nothing else.
func conformAdmitted(t *testing.T, boot func(*testing.T, *World) attest.Attester) {
	w, nonce := New(t), [32]byte{1}
	claims := w.Claims(t, schemas.RoleWorker)
	a, err := w.Verifier.Verify(context.Background(), w.Attest(t, boot(t, w), claims, nonce), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Claims.HPKE, claims.HPKE) || !bytes.Equal(a.Claims.Sign, claims.Sign) || a.Claims.Owner != claims.Owner || a.Claims.Boot != claims.Boot {
		t.Errorf("other claims were admitted: %+v", a.Claims)
	}
	if a.Role != schemas.RoleWorker || a.Measurement != WorkerImage || a.Environment != schemas.Simulated || !a.Challenged || a.PolicyVersion != 1 {
		t.Errorf("admission: %+v", a)
	}
	if len(a.GPUs) != len(a.Claims.GPUs) || len(a.GPUs) == 0 || !slices.Contains(a.Models, Model) {
		t.Errorf("GPUs %v, models %v", a.GPUs, a.Models)
	}
	if !a.NotAfter.Equal(claims.Expires) {
		t.Errorf("admitted until %s, claims expire at %s", a.NotAfter, claims.Expires)
	}
}

// conformUnchallenged: a zero nonce introduces, and the admission says so.
func conformUnchallenged(t *testing.T, boot func(*testing.T, *World) attest.Attester) {
	w := New(t)
	a, err := w.Verifier.Verify(context.Background(), w.Attest(t, boot(t, w), w.Claims(t, schemas.RoleWorker), [32]byte{}), [32]byte{})
	if err != nil || a.Challenged {
		t.Errorf("unchallenged evidence: %+v, %v", a, err)
	}
}

// conformWire: evidence survives its wire form unchanged.
func conformWire(t *testing.T, boot func(*testing.T, *World) attest.Attester) {
	w, nonce := New(t), [32]byte{2}
	e := w.Attest(t, boot(t, w), w.Claims(t, schemas.RoleWorker), nonce)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := schemas.ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Verifier.Verify(context.Background(), parsed, nonce); err != nil {
		t.Error(err)
	}
}

// conformConcurrent: an attester serves several challenges at once.
func conformConcurrent(t *testing.T, boot func(*testing.T, *World) attest.Attester) {
	w := New(t)
	attester := boot(t, w)
	var wg sync.WaitGroup
	for i := range 4 {
		claims := w.Claims(t, schemas.RoleWorker)
		wg.Go(func() {
			nonce := [32]byte{byte(i + 1)}
			e, err := attester.Attest(context.Background(), claims, nonce)
			if err == nil {
				_, err = w.Verifier.Verify(context.Background(), e, nonce)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// conformBadClaims: claims that nobody would admit are not quoted.
func conformBadClaims(t *testing.T, boot func(*testing.T, *World) attest.Attester) {
	w := New(t)
	attester, claims := boot(t, w), w.Claims(t, schemas.RoleWorker)
	claims.HPKE = claims.HPKE[:10]
	if _, err := attester.Attest(context.Background(), claims, [32]byte{1}); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("short key: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := attester.Attest(ctx, w.Claims(t, schemas.RoleWorker), [32]byte{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Verify is a path to a verifier: it returns the refusal that its caller gets to see.
type Verify func(ctx context.Context, w *World, e schemas.Evidence, nonce [32]byte) error

// RunRefusals runs the whole list of refusals through a path.
func RunRefusals(t *testing.T, verify Verify) {
	for _, r := range Refusals() {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			w := New(t)
			e, nonce := r.Make(t, w)
			err := verify(context.Background(), w, e, nonce)
			var got *schemas.Error
			if !errors.As(err, &got) {
				t.Fatalf("%v, want %s: %s", err, r.Kind, r.Field)
			}
			if got.Kind != r.Kind || got.Field != r.Field {
				t.Errorf("%v, want %s: %s", err, r.Kind, r.Field)
			}
			if len(got.Message) < 10 {
				t.Errorf("the reason %q tells a person nothing", got.Message)
			}
		})
	}
}

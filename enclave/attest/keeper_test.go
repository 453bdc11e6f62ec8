package attest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// offer signs a changed policy of the world and offers it.
func offer(t *testing.T, w *attesttest.World, k *attest.Keeper, change func(*schemas.Policy)) (*attest.InForce, error) {
	t.Helper()
	policy := w.Policy()
	change(policy)
	return k.Offer(w.Sign(t, policy))
}

func newKeeper(t *testing.T, w *attesttest.World, floor uint64) *attest.Keeper {
	t.Helper()
	k, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{Floor: floor, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func version(n uint64) func(*schemas.Policy) { return func(p *schemas.Policy) { p.Version = n } }

func TestKeeperOnlyGoesForward(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	k := newKeeper(t, w, 3)
	if _, err := k.Current(); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("before any policy: %v", err)
	}
	if _, err := offer(t, w, k, version(2)); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("below the floor: %v", err)
	}
	changed := k.Changed()
	five, err := offer(t, w, k, version(5))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("watchers were not told")
	}
	changed = k.Changed()
	if again, err := offer(t, w, k, version(5)); err != nil || again != five {
		t.Errorf("the same again: %v, %v", again, err)
	}
	select {
	case <-changed:
		t.Error("watchers were told of nothing new")
	default:
	}
	if _, err := offer(t, w, k, version(4)); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("older: %v", err)
	}
	if _, err := offer(t, w, k, func(p *schemas.Policy) { p.Version, p.Models = 5, []schemas.ModelID{} }); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("another one with the same version: %v", err)
	}
	if current, err := k.Current(); err != nil || current.Version != 5 || current.Roots != w.Trust.Roots.Hash() {
		t.Errorf("current: %+v, %v", current, err)
	}
	if n, ok := k.Find(five.Hash); !ok || n != 5 {
		t.Errorf("find: %d, %t", n, ok)
	}
	if _, ok := k.Find(schemas.Hash{1}); ok {
		t.Error("found a policy that never was")
	}
	w.Sleep(31 * 24 * time.Hour)
	if _, err := k.Current(); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("after expiry: %v", err)
	}
}

func TestKeeperRemembersBounded(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	k := newKeeper(t, w, 0)
	first, err := offer(t, w, k, version(1))
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(2); n <= 66; n++ {
		if _, err := offer(t, w, k, version(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := k.Find(first.Hash); ok {
		t.Error("the oldest of 66 versions is still remembered")
	}
}

// TestEnvironmentsNeverMix is the wall between real and simulated hardware.
func TestEnvironmentsNeverMix(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	production := attesttest.New(t)
	production.Trust.Environment = schemas.Production
	for name, c := range map[string]struct {
		w      *attesttest.World
		change func(*schemas.Policy)
	}{
		"production process, simulated policy": {production, func(*schemas.Policy) {}},
		"simulated process, production policy": {w, func(p *schemas.Policy) { p.Environment, p.Simulated = schemas.Production, nil }},
		"simulated policy with Intel's root":   {w, func(p *schemas.Policy) { p.Simulated.TDX = append(p.Simulated.TDX, tdx.IntelRoot) }},
		"simulated policy with NVIDIA's root":  {w, func(p *schemas.Policy) { p.Simulated.GPU = append(p.Simulated.GPU, nvidia.Root) }},
	} {
		if _, err := offer(t, w, newKeeper(t, c.w, 0), c.change); schemas.KindOf(err) != schemas.KindPolicy {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A production policy with development roots cannot even be signed.
	policy := w.Policy()
	policy.Environment = schemas.Production
	if _, err := schemas.SignDocument(policy, w.Keys...); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("production policy with development roots: %v", err)
	}
}

func TestKeeperNeedsTrust(t *testing.T) {
	t.Parallel()
	if _, err := attest.NewKeeper(schemas.Trust{}, attest.KeeperOptions{}); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("no trust: %v", err)
	}
}

// feed is a feed over a channel.
type feed chan []byte

func (f feed) Watch(context.Context) (<-chan []byte, error) {
	if f == nil {
		return nil, errors.New("no such bucket")
	}
	return f, nil
}

func TestKeeperFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := attesttest.New(t)
		k := newKeeper(t, w, 0)
		ctx, cancel := context.WithCancel(context.Background())
		published, done := make(feed), make(chan error)
		go func() { done <- k.Follow(ctx, published, nil) }()
		one, two := w.Policy(), w.Policy()
		two.Version = 2
		published <- w.Sign(t, one)
		published <- []byte("garbage")
		published <- w.Sign(t, two)
		published <- w.Sign(t, one) // rolled back: skipped
		synctest.Wait()
		if current, err := k.Current(); err != nil || current.Version != 2 {
			t.Errorf("current %+v, %v", current, err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	w := attesttest.New(t)
	lost := make(feed)
	close(lost)
	if err := newKeeper(t, w, 0).Follow(context.Background(), lost, nil); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("feed lost: %v", err)
	}
	if err := newKeeper(t, w, 0).Follow(context.Background(), feed(nil), nil); err == nil {
		t.Error("no feed: followed")
	}
}

// A process verifies evidence under the policy that its root keys have signed.
func Example() {
	w := attesttest.New(exampleT{})
	nonce := [32]byte{1}
	evidence, err := w.Boot(exampleT{}, w.Spec()).Attest(context.Background(), w.Claims(exampleT{}, schemas.RoleWorker), nonce)
	if err != nil {
		fmt.Println(err)
		return
	}
	admission, err := w.Verifier.Verify(context.Background(), evidence, nonce)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(admission.Measurement, "on", admission.Environment, "hardware,", "TCB", admission.Platform.TCB, "with", len(admission.GPUs), admission.GPUs[0].Architecture)

	_, err = w.Verifier.Verify(context.Background(), evidence, [32]byte{2})
	fmt.Println(err)
	// Output:
	// cocoon-worker on simulated hardware, TCB UpToDate with 1 GH100
	// attestation_failed: nonce: the quote answers another challenge
}

// exampleT lets an example use a world.
type exampleT struct{ testing.TB }

func (exampleT) Helper()           {}
func (exampleT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// TestFloorOutlivesTheProcess: what was accepted once is the least that is accepted later, by file, by trust or by word.
func TestFloorOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	path := filepath.Join(t.TempDir(), "policy-floor")
	open := func() *attest.Keeper {
		t.Helper()
		floor, remember, err := attest.OpenFloor(path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{Floor: floor, Remember: remember, Now: w.Now})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := open()
	for _, n := range []uint64{3, 7} {
		if _, err := offer(t, w, first, version(n)); err != nil {
			t.Fatal(err)
		}
	}
	second := open()
	if _, err := offer(t, w, second, version(6)); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("replayed after a restart: %v", err)
	}
	if _, err := offer(t, w, second, version(7)); err != nil {
		t.Errorf("the same after a restart: %v", err)
	}
	// A process beside it that is behind does not lower the file.
	if _, err := offer(t, w, open(), version(9)); err != nil {
		t.Fatal(err)
	}
	if _, err := offer(t, w, second, version(8)); err != nil {
		t.Fatal(err)
	}
	if floor, _, err := attest.OpenFloor(path); err != nil || floor != 9 {
		t.Errorf("the file has %d, %v", floor, err)
	}
	// What cannot be remembered does not come into force.
	broken, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{Now: w.Now, Remember: func(uint64) error { return errors.New("disk full") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := offer(t, w, broken, version(1)); err == nil {
		t.Error("in force, and forgotten with the next restart")
	}
	if _, err := broken.Current(); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("current: %v", err)
	}
	if err := os.WriteFile(path, []byte("seven\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := attest.OpenFloor(path); schemas.KindOf(err) != schemas.KindCorrupt {
		t.Errorf("a damaged file: %v", err)
	}
	w.Trust.PolicyFloor = 4
	if _, err := offer(t, w, newKeeper(t, w, 0), version(3)); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("below the floor of the trust: %v", err)
	}
}

// TestRaise puts a policy out of force of which something newer is known.
func TestRaise(t *testing.T) {
	t.Parallel()
	w := attesttest.New(t)
	k := newKeeper(t, w, 0)
	if _, err := offer(t, w, k, version(3)); err != nil {
		t.Fatal(err)
	}
	changed := k.Changed()
	k.Raise(3)
	if _, err := k.Current(); err != nil {
		t.Errorf("raised to its own version: %v", err)
	}
	k.Raise(4)
	if _, err := k.Current(); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("raised above it: %v", err)
	}
	select {
	case <-changed:
	default:
		t.Error("watchers were not told")
	}
	k.Raise(1)
	if _, err := offer(t, w, k, version(3)); schemas.KindOf(err) != schemas.KindPolicy {
		t.Errorf("the floor was lowered: %v", err)
	}
}

package broker_test

import (
	"context"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// untilPublished runs a broker until it has published its keys.
type untilPublished struct{ stop context.CancelFunc }

// PublishKey implements broker.Publisher.
func (p untilPublished) PublishKey(_ context.Context, name string, _ []byte) error {
	if name == broker.WeightsKeyName {
		p.stop()
	}
	return nil
}

// TestReplayedPolicy: a policy that was replaced is shown to a broker that starts again, and to one that is new. Both learn
// from the group's state that there was a newer one, and obey nothing until they see it.
func TestReplayedPolicy(t *testing.T) {
	t.Parallel()
	store, seal := &keptStore{}, sealer(t)
	stored := func(c *broker.Config) { c.Store, c.Sealer = store, seal }
	n := enclavetest.New(t)
	old, replaced := n.World.Sign(t, n.World.Policy()), n.World.Policy()
	replaced.Version = 5
	newer := n.World.Sign(t, replaced)
	if _, err := n.World.Keeper.Offer(newer); err != nil {
		t.Fatal(err)
	}
	first := n.NewBroker(t, stored, func(c *broker.Config) { c.Found = true })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noError(t, first.Run(ctx, untilPublished{cancel}))
	for name, adjust := range map[string]func(*broker.Config){
		"starts again": stored, "joins": func(c *broker.Config) { c.Join = first.Handle },
	} {
		keeper, err := attest.NewKeeper(n.World.Trust, attest.KeeperOptions{Now: n.World.Now})
		noError(t, err)
		_, err = keeper.Offer(old)
		noError(t, err)
		b := n.NewBroker(t, adjust, func(c *broker.Config) { c.Policies = keeper })
		if !b.Public().Equal(first.Public()) {
			t.Fatalf("%s: is another group", name)
		}
		if _, err := b.Key(t.Context(), enclavetest.Model); schemas.KindOf(err) != schemas.KindUnavailable {
			t.Errorf("%s: gave a key under the replayed policy: %v", name, err)
		}
		if _, err := keeper.Offer(old); schemas.KindOf(err) != schemas.KindPolicy {
			t.Errorf("%s: the replayed policy again: %v", name, err)
		}
		_, err = keeper.Offer(newer)
		noError(t, err)
		if _, err := b.Key(t.Context(), enclavetest.Model); err != nil {
			t.Errorf("%s: under the newer policy: %v", name, err)
		}
	}
}

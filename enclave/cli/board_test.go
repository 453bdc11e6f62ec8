//go:build !worker

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/attesttest"
	"github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestPublishReachesFollowers publishes two policies with the verb and watches a keeper take them up from the network.
func TestPublishReachesFollowers(t *testing.T) {
	t.Parallel()
	w, dir := attesttest.New(t), t.TempDir()
	bus, server := streamstest.NewWith(t, streamstest.Options{})
	policy := w.Policy()
	policy.Issued = time.Now().UTC().Truncate(time.Second)
	policy.Expires = policy.Issued.Add(time.Hour)
	trust, err := schemas.EncodeJSON(w.Trust)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trust.json"), trust, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) error {
		// Every run has a connection of its own, as every process has.
		cmd := cli.PolicyCommand(cli.OverBus(func(*cobra.Command) (*streams.Bus, error) {
			return streamstest.Connect(t, server, streams.Config{}), nil
		}))
		cmd.SetArgs(args)
		cmd.SetOut(new(bytes.Buffer))
		cmd.SetErr(new(bytes.Buffer))
		return cmd.ExecuteContext(t.Context())
	}
	publish := func(version uint64) error {
		policy.Version = version
		path := filepath.Join(dir, "p.signed.json")
		if err := os.WriteFile(path, w.Sign(t, policy), 0o600); err != nil {
			t.Fatal(err)
		}
		return run("publish", path, "--trust", filepath.Join(dir, "trust.json"))
	}
	if err := run("show"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("show before any policy: %v", err)
	}

	keeper, err := attest.NewKeeper(w.Trust, attest.KeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	followed := make(chan error, 1)
	go func() { followed <- keeper.Follow(ctx, cli.PolicyFeed(bus), nil) }()
	for version := uint64(1); version <= 2; version++ {
		changed := keeper.Changed()
		if err := publish(version); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("version %d did not arrive", version)
		}
		if current, err := keeper.Current(); err != nil || current.Version != version {
			t.Errorf("current: %+v, %v", current, err)
		}
	}
	if err := publish(1); !errors.Is(err, schemas.KindPolicy) {
		t.Errorf("rolled back: %v", err)
	}
	if kept, err := bus.Bucket(streams.BucketPolicy).Get(ctx, "v1"); err != nil || len(kept.Value) == 0 {
		t.Errorf("the first version is not kept: %v", err)
	}
	if err := run("show"); err != nil {
		t.Errorf("show: %v", err)
	}
	cancel()
	<-followed
}

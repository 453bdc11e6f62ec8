//go:build !worker

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	shared "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// developer is somebody with a model, a login to a network, and no other part in it.
type developer struct {
	t   *testing.T
	dir string
	url string
}

// newDeveloper gives a developer what everybody may have: trust, the hardware's development root, a draft and weights.
func newDeveloper(t *testing.T, n *network, url string) *developer {
	t.Helper()
	d := &developer{t: t, dir: t.TempDir(), url: url}
	trust, err := schemas.EncodeJSON(n.net.World.Trust)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := schemas.EncodeJSON(enclavetest.NewCatalogue())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"trust.json": trust, "draft.json": draft, "sim/simulated-root.seed": append([]byte{1}, make([]byte, 31)...),
		"mine/model.gguf": bytes.Repeat([]byte("my weights "), 1000), "mine/tokenizer.json": []byte("{}"),
	} {
		if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// path is a file of the developer.
func (d *developer) path(name string) string { return filepath.Join(d.dir, name) }

// models runs `models` with arguments; @name is a file of the developer.
func (d *developer) models(args ...string) error {
	root := &cobra.Command{Use: "models", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.ModelsSeal(), cli.ModelsPublish())
	root.SetOut(&bytes.Buffer{})
	for i, arg := range args {
		if name, ok := strings.CutPrefix(arg, "@"); ok {
			args[i] = d.path(name)
		}
	}
	root.SetArgs(args)
	return root.ExecuteContext(d.t.Context())
}

// believing are the flags of a network.
func (d *developer) believing(args ...string) []string {
	return append(args, "--nats", d.url, "--trust", d.path("trust.json"), "--simulated", d.path("sim"))
}

// listed is the entry of the developer's model in the draft, nil when there is none.
func (d *developer) listed() *schemas.Model {
	d.t.Helper()
	b, err := os.ReadFile(d.path("draft.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := schemas.ParseCatalogue(b)
	if err != nil {
		d.t.Fatal(err)
	}
	i := slices.IndexFunc(c.Models, func(m schemas.Model) bool { return strings.HasPrefix(string(m.ID), "mine@") })
	if i < 0 {
		return nil
	}
	return &c.Models[i]
}

// priced are the flags that every model needs.
func priced(args ...string) []string {
	return append(args, "--context", "2048", "--price-prompt", "0.5", "--price-completion", "2")
}

// TestBringAModel: a developer seals weights, publishes them in the network's object store and on a web server, and a worker
// that the policy admits loads them from either; nobody in between holds a byte of them.
func TestBringAModel(t *testing.T) {
	t.Parallel()
	n := &network{net: enclavetest.New(t)}
	bus, server := streamstest.NewWith(t, streamstest.Options{TCP: true})
	n.bus = bus
	n.documents(t)
	_, stop := n.serve(t, cli.BrokerOptions{Found: true})
	defer stop()
	d := newDeveloper(t, n, server.URL())
	d.sealed()
	web := httptest.NewServer(http.FileServer(http.Dir(d.dir)))
	defer web.Close()

	place := web.URL + "/mine.cocoon"
	if err := d.models(priced(d.believing("publish", "@mine.cocoon", "@draft.json", "--put", "--location", place)...)...); err != nil {
		t.Fatal(err)
	}
	m := d.listed()
	if m == nil || !m.Sealed || m.Price.Prompt != schemas.TON/2 || m.Price.Completion != 2*schemas.TON || m.Context != 2048 {
		t.Fatalf("the draft has %+v", m)
	}
	if want := []string{"object:" + m.Slug, place}; !slices.Equal(m.Locations, want) {
		t.Fatalf("locations %q, want %q", m.Locations, want)
	}
	_, root, err := weights.Root(t.Context(), os.DirFS(d.path("mine")))
	if err != nil || !strings.HasSuffix(string(m.ID), ":"+root.String()) {
		t.Errorf("the id %s has not the root %s (%v)", m.ID, root, err)
	}
	worker := n.admitted(t, m.ID)
	for _, location := range m.Locations {
		r, err := cli.Sources(n.bus.Store(streams.StoreWeights)).Open(t.Context(), []string{location})
		if err != nil {
			t.Fatal(err)
		}
		n.load(t, worker, r, d.path("mine"))
	}
}

// sealed seals the developer's weights into a file.
func (d *developer) sealed() {
	d.t.Helper()
	if err := d.models(d.believing("seal", "@mine", "-f", d.path("mine.cocoon"))...); err != nil {
		d.t.Fatal(err)
	}
	b, err := os.ReadFile(d.path("mine.cocoon"))
	if err != nil || bytes.Contains(b, []byte("my weights")) {
		d.t.Fatalf("the package has the weights in the clear (%v)", err)
	}
}

// admitted makes the policy admit a model and attests a worker that serves it.
func (n *network) admitted(t *testing.T, model schemas.ModelID) *enclave.Session {
	t.Helper()
	policy := n.net.World.Policy()
	policy.Version = 9
	policy.Models = append(policy.Models, model)
	slices.Sort(policy.Models)
	signed := n.net.World.Sign(t, policy)
	if _, err := n.net.World.Keeper.Offer(signed); err != nil {
		t.Fatal(err)
	}
	n.put(t, streams.BucketPolicy, "current", signed)
	worker := n.net.NewSession(t, func(c *enclave.SessionConfig) { c.Models = []schemas.ModelID{model} })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := worker.Attest(ctx, cli.BrokerCall(n.bus))
		if err == nil {
			return worker
		}
		if !errors.Is(err, schemas.KindPolicy) { // the broker has not heard of the new policy yet
			t.Fatal(err)
		}
	}
}

// load extracts a package as a worker does and compares it with the developer's folder.
func (n *network) load(t *testing.T, worker *enclave.Session, r io.ReadCloser, original string) {
	t.Helper()
	defer r.Close()
	p, err := weights.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	enc, wrapped := p.Wrapped()
	key, err := worker.WeightKey(t.Context(), cli.BrokerCall(n.bus), p.Model(), enc, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := p.Extract(t.Context(), key, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.gguf", "tokenizer.json"} {
		want, err1 := os.ReadFile(filepath.Join(original, name))
		got, err2 := os.ReadFile(filepath.Join(dir, name))
		if err1 != nil || err2 != nil || !bytes.Equal(want, got) {
			t.Errorf("%s came back as %d bytes (%v, %v)", name, len(got), err1, err2)
		}
	}
}

// TestPublishRefused: nothing gets into a draft that workers could not load.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	n := &network{net: enclavetest.New(t)}
	bus, server := streamstest.NewWith(t, streamstest.Options{TCP: true})
	n.bus = bus
	n.documents(t)
	_, stop := n.serve(t, cli.BrokerOptions{Found: true})
	d := newDeveloper(t, n, server.URL())
	d.sealed()
	whole, err := os.ReadFile(d.path("mine.cocoon"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.models(d.believing("seal", "@mine", "-f", d.path("again.cocoon"))...); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cut.cocoon": whole[:len(whole)-1], "long.cocoon": append(bytes.Clone(whole), 0), "plain.cocoon": []byte("no package at all")} {
		if err := os.WriteFile(d.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := "file://" + d.path("mine.cocoon")
	for _, c := range []struct {
		kind schemas.Kind
		args []string
	}{
		{schemas.KindCorrupt, []string{"publish", "@cut.cocoon", "@draft.json", "--location", there}},
		{schemas.KindCorrupt, []string{"publish", "@long.cocoon", "@draft.json", "--location", there}},
		{schemas.KindCorrupt, []string{"publish", "@plain.cocoon", "@draft.json", "--location", there}},
		{schemas.KindNotFound, []string{"publish", "@none.cocoon", "@draft.json", "--location", there}},
		{schemas.KindNotFound, []string{"publish", "@mine.cocoon", "@draft.json", "--location", there + ".none"}},
		{schemas.KindConflict, []string{"publish", "@mine.cocoon", "@draft.json", "--location", "file://" + d.path("again.cocoon")}},
		{schemas.KindUnsupported, []string{"publish", "@mine.cocoon", "@draft.json", "--location", "object:mine"}}, // no network was named
	} {
		if err := d.models(priced(c.args...)...); !errors.Is(err, c.kind) {
			t.Errorf("%q: %v, want %s", c.args, err, c.kind)
		}
	}
	for _, args := range [][]string{{"publish", "@mine.cocoon", "@draft.json"}, priced("publish", "@mine.cocoon", "@draft.json")} {
		if err := d.models(args...); shared.ExitCode(err) != shared.ExitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	// Another group of brokers has another key: what was sealed to the first is worth nothing there.
	stop()
	_, stop = n.serve(t, cli.BrokerOptions{Found: true})
	defer stop()
	if err := d.models(priced(d.believing("publish", "@mine.cocoon", "@draft.json", "--put")...)...); !errors.Is(err, schemas.KindKeyLost) {
		t.Errorf("sealed to another group: %v", err)
	}
	if m := d.listed(); m != nil {
		t.Errorf("the draft has %+v", m)
	}
	if err := d.models(priced("publish", "@mine.cocoon", "@draft.json", "--location", there)...); err != nil {
		t.Errorf("a file: %v", err)
	}
	if m := d.listed(); m == nil || !slices.Equal(m.Locations, []string{there}) {
		t.Errorf("the draft has %+v", m)
	}
}

//go:build !worker

package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// memoryBoard is a board in memory.
type memoryBoard struct {
	current []byte
	mark    uint64
	kept    map[uint64][]byte
	down    bool
}

func (b *memoryBoard) Current(context.Context) ([]byte, uint64, error) {
	switch {
	case b.down:
		return nil, 0, schemas.Errorf(schemas.KindUnavailable, "no route")
	case b.current == nil:
		return nil, 0, schemas.Errorf(schemas.KindNotFound, "nothing hangs here")
	}
	return b.current, b.mark, nil
}

func (b *memoryBoard) Post(_ context.Context, version uint64, signed []byte, mark uint64) error {
	if mark != b.mark {
		return schemas.Errorf(schemas.KindConflict, "somebody was faster")
	}
	if b.kept == nil {
		b.kept = map[uint64][]byte{}
	}
	b.kept[version], b.current, b.mark = signed, signed, mark+1
	return nil
}

// desk is a folder with two root keys, a trust file and boards.
type desk struct {
	t      *testing.T
	dir    string
	boards map[string]*memoryBoard
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), boards: map[string]*memoryBoard{schemas.PolicyMediaType: {}, schemas.CatalogueMediaType: {}}}
	var public []ed25519.PublicKey
	for i, name := range []string{"a.key", "b.key", "c.key"} {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i+1)))
		public = append(public, key.Public().(ed25519.PublicKey))
		d.file(name, []byte(strings.Repeat("00", 31)+"0"+string('1'+rune(i))+"\n"))
	}
	roots, err := schemas.NewRootKeys(2, public...)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := schemas.EncodeJSON(schemas.Trust{Roots: roots, Environment: schemas.Simulated})
	if err != nil {
		t.Fatal(err)
	}
	d.file("trust.json", trust)
	return d
}

// path is a file of the desk.
func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

// file writes a file of the desk and returns its path.
func (d *desk) file(name string, b []byte) string {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), b, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d.path(name)
}

// run executes one command line; @name is the path of a file of the desk.
func (d *desk) run(args ...string) (string, error) {
	d.t.Helper()
	open := func(_ *cobra.Command, mediaType string) (Board, func(), error) {
		return d.boards[mediaType], func() {}, nil
	}
	root := &cobra.Command{Use: "cocoon", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(PolicyCommand(open), CatalogueCommand(open), AttestCommand())
	for i, arg := range args {
		if name, ok := strings.CutPrefix(arg, "@"); ok {
			args[i] = d.path(name)
		}
	}
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

// must is run for what must work.
func (d *desk) must(args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil {
		d.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// exits checks the exit code of a command line and that its message names something.
func (d *desk) exits(code int, names string, args ...string) {
	d.t.Helper()
	line := strings.Join(args, " ")
	out, err := d.run(args...)
	if got := cli.ExitCode(err); got != code || err == nil || !strings.Contains(err.Error(), names) {
		d.t.Errorf("%s: exit %d, %v, want %d and %q\n%s", line, got, err, code, names, out)
	}
}

const testModel = "tiny@1:sha256-00000000000000000000000000000000000000000000000000000000000000aa"

// TestPolicyWay takes a policy from init to publication and the next version after it.
func TestPolicyWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	out := d.must("policy", "init", "@p.json", "--simulated", "@sim")
	if !strings.Contains(out, "SIMULATED") || !strings.Contains(out, "admits nothing: no image is listed") {
		t.Errorf("init says nothing about what the draft admits:\n%s", out)
	}
	d.must("policy", "add", "model", "@p.json", testModel)
	d.must("policy", "sign", "@p.json", "--key", "@a.key")
	d.exits(cli.ExitRefused, "signatures", "policy", "verify", "@p.signed.json", "--trust", "@trust.json")
	out = d.must("policy", "sign", "@p.signed.json", "--key", "@b.key")
	out += d.must("policy", "verify", "@p.signed.json", "--trust", "@trust.json")
	if strings.Count(out, "signed by") != 4 {
		t.Errorf("signers:\n%s", out)
	}
	d.must("policy", "publish", "@p.signed.json", "--trust", "@trust.json")
	d.must("policy", "publish", "@p.signed.json", "--trust", "@trust.json") // the same again
	board := d.boards[schemas.PolicyMediaType]
	if board.mark != 1 || len(board.kept) != 1 {
		t.Errorf("board: mark %d, %d versions", board.mark, len(board.kept))
	}
	// The next version: what is in force, edited and renewed.
	d.file("next.json", []byte(d.must("policy", "show", "-o", "json")))
	d.must("policy", "add", "model", "@next.json", strings.Replace(testModel, "tiny", "large", 1))
	diff := d.must("policy", "diff", "@p.json", "@next.json", "-o", "json")
	var changes []change
	if err := json.Unmarshal([]byte(diff), &changes); err != nil || len(changes) != 1 || !strings.Contains(changes[0].Path, "models.[large@1") || changes[0].New == "" {
		t.Errorf("diff: %s, %v", diff, err)
	}
	d.must("policy", "sign", "@next.json", "--key", "@a.key", "--key", "@c.key", "--renew", "30d")
	d.must("policy", "publish", "@next.signed.json", "--trust", "@trust.json")
	if board.mark != 2 || board.kept[2] == nil {
		t.Errorf("board: mark %d, %d versions", board.mark, len(board.kept))
	}
	d.exits(cli.ExitRefused, "rolled back", "policy", "publish", "@p.signed.json", "--trust", "@trust.json")
	if out := d.must("policy", "diff", "@p.json", "-o", "json"); !strings.Contains(out, `"version"`) {
		t.Errorf("diff with the one in force: %s", out)
	}
}

// TestPublishRaces checks the comparison with what hangs.
func TestPublishRaces(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.must("policy", "init", "@p.json", "--simulated", "@sim")
	d.must("policy", "sign", "@p.json", "--key", "@a.key", "--key", "@b.key")
	board := d.boards[schemas.PolicyMediaType]
	board.down = true
	if _, err := d.run("policy", "publish", "@p.signed.json", "--trust", "@trust.json"); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("board away: %v", err)
	}
	board.down = false
	d.must("policy", "publish", "@p.signed.json", "--trust", "@trust.json")
	d.must("policy", "add", "model", "@p.json", testModel)
	d.must("policy", "sign", "@p.json", "--key", "@a.key", "--key", "@b.key")
	d.exits(cli.ExitRefused, "in force already, with other content", "policy", "publish", "@p.signed.json", "--trust", "@trust.json")
}

func TestPolicyAdd(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.must("policy", "init", "@p.json", "--simulated", "@sim")
	m := schemas.Measurement{Name: "worker", Role: schemas.RoleWorker, MRTD: schemas.Measure{1}, Configs: []schemas.Hash{{1}}, MinGPUs: 1, MaxGPUs: 8}
	b, err := schemas.EncodeJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	d.file("m.json", b)
	d.file("golden.json", []byte(`{"driver":"600.1","vbios":"97.00","values":{"3":["`+schemas.Measure{2}.String()+`"]}}`))
	seam, ppid, config := schemas.Measure{3}.String(), "00112233445566778899aabbccddeeff", schemas.Hash{4}.String()
	for range 2 { // adding twice changes nothing
		d.must("policy", "add", "image", "@p.json", "@m.json")
		d.must("policy", "add", "config", "@p.json", "worker", config)
		d.must("policy", "add", "module", "@p.json", seam)
		d.must("policy", "add", "machine", "@p.json", ppid, "--blocked")
		d.must("policy", "add", "gpu", "@p.json", "GB100", "@golden.json")
		d.must("policy", "add", "model", "@p.json", testModel)
	}
	text, err := os.ReadFile(d.path("p.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := schemas.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	// The image is taken over once; its entry is replaced, so the configuration added before the second time is gone.
	if len(p.Measurements) != 1 || len(p.Measurements[0].Configs) != 2 || len(p.TDX.Modules) != 2 || len(p.TDX.Platforms.Blocked) != 1 || len(p.GPU.Golden) != 2 || len(p.GPU.Architectures) != 2 || len(p.Models) != 1 {
		t.Errorf("policy: %s", text)
	}
	for _, args := range [][]string{
		{"policy", "add", "module", "@p.json", "xyz"},
		{"policy", "add", "model", "@p.json", "tiny"},
		{"policy", "add", "machine", "@p.json", "1"},
		{"policy", "add", "config", "@p.json", "worker", "1"},
	} {
		if _, err := d.run(args...); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%v: %v", args, err)
		}
	}
	d.exits(cli.ExitNotFound, "nobody", "policy", "add", "config", "@p.json", "nobody", config)
	d.exits(cli.ExitUsage, "--any", "policy", "add", "machine", "@p.json")
	if after, err := os.ReadFile(d.path("p.json")); err != nil || !bytes.Equal(after, text) {
		t.Error("a refused edit changed the draft")
	}
}

func TestPolicyMistakes(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.must("policy", "init", "@p.json", "--simulated", "@sim")
	d.must("policy", "sign", "@p.json", "--key", "@a.key", "--key", "@b.key")
	d.exits(cli.ExitUsage, "--force", "policy", "init", "@p.json", "--simulated", "@sim")
	d.exits(cli.ExitUsage, "--simulated", "policy", "init", "@q.json", "--environment", "simulated")
	d.exits(cli.ExitUsage, "90x", "policy", "init", "@q.json", "--term", "90x")
	d.exits(cli.ExitUsage, "--key", "policy", "sign", "@p.json")
	d.exits(cli.ExitUsage, "--renew", "policy", "sign", "@p.signed.json", "--key", "@a.key", "--renew", "1d")
	d.exits(cli.ExitUsage, "--trust", "policy", "verify", "@p.signed.json")
	d.exits(cli.ExitUsage, "is signed", "policy", "add", "model", "@p.signed.json", testModel)
	d.exits(cli.ExitNotFound, "does not exist", "policy", "show", "@nowhere.json")
	d.exits(cli.ExitError, "catalogue", "policy", "show", d.catalogue(t))
	d.exits(cli.ExitRefused, "expires", "policy", "verify", "@p.signed.json", "--trust", "@trust.json", "--at", "2099-01-01T00:00:00Z")
	d.exits(cli.ExitRefused, "rolled back", "policy", "verify", "@p.signed.json", "--trust", "@trust.json", "--previous", "9")
	d.exits(cli.ExitUsage, "is no time", "policy", "verify", "@p.signed.json", "--trust", "@trust.json", "--at", "tomorrow")
	d.file("bad.key", []byte("no key"))
	if _, err := d.run("policy", "sign", "@p.json", "--key", "@bad.key"); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("bad key: %v", err)
	}
}

// catalogue makes a signed catalogue and returns its path.
func (d *desk) catalogue(t *testing.T) string {
	t.Helper()
	d.must("catalogue", "init", "@c.json", "--environment", "simulated")
	d.must("catalogue", "add", "model", "@c.json", testModel, "--context", "512", "--price-prompt", "0.5", "--price-completion", "1.25")
	d.must("catalogue", "sign", "@c.json", "--key", "@a.key", "--key", "@b.key")
	return d.path("c.signed.json")
}

func TestCatalogueWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.must("catalogue", "publish", d.catalogue(t), "--trust", "@trust.json")
	out := d.must("catalogue", "show")
	for _, want := range []string{"SIMULATED", "5.00 %", "2x", "0.5x", "prompt 0.5 TON, completion 1.25 TON"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q:\n%s", want, out)
		}
	}
	// A shard is kept when the entry is replaced, unless it is named.
	price := []string{"--context", "512", "--price-prompt", "1", "--price-completion", "1"}
	d.must(append([]string{"catalogue", "add", "model", "@c.json", testModel, "--shard", "7"}, price...)...)
	d.must(append([]string{"catalogue", "add", "model", "@c.json", testModel}, price...)...)
	text, err := os.ReadFile(d.path("c.json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := schemas.ParseCatalogue(text)
	if err != nil || len(c.Models) != 1 || c.Models[0].Shard != 7 || c.Models[0].Price.Cached != schemas.TON {
		t.Errorf("catalogue: %s, %v", text, err)
	}
	d.exits(cli.ExitUsage, "--price-prompt", "catalogue", "add", "model", "@c.json", testModel)
	d.exits(cli.ExitError, "fee_bp", "catalogue", "init", "@d.json", "--fee-bp", "9999")
	if _, err := os.Stat(d.path("d.json")); err == nil {
		t.Error("a refused draft was written")
	}
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := d.file("k.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if got, err := ReadSigningKey(path); err != nil || !got.Equal(key) {
		t.Errorf("PEM: %v", err)
	}
	path = d.file("p.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der[:20]}))
	if _, err := ReadSigningKey(path); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("broken PEM: %v", err)
	}
	if _, err := ReadSigningKey(d.path("none")); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("no file: %v", err)
	}
}

func TestTerms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour, "0d": 0, "-1h": 0, "d": 0, "": 0, "4001d": 0} {
		if got, err := parseTerm(text); got != want || (want == 0) != (err != nil) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// platform is the simulated hardware of the desk, as policy init --simulated left it.
func (d *desk) platform() *sim.Platform {
	d.t.Helper()
	p, err := sim.Open(d.path("sim"), sim.Options{})
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

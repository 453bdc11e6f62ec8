//go:build !worker

package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// execute runs one verb and returns what it printed.
func execute(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tenant, root := filepath.Join(dir, "tenant.json"), filepath.Join(dir, "root.key")
	for verb, path := range map[string]string{"tenant": tenant, "root": root} {
		if _, err := execute(t, cli.Keys(), verb, path); err != nil {
			t.Fatal(err)
		}
		if _, err := execute(t, cli.Keys(), verb, path); !errors.Is(err, schemas.KindConflict) {
			t.Errorf("%s was written twice: %v", path, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	out, err := execute(t, cli.Keys(), "show", "-o", "json", tenant, root)
	if err != nil {
		t.Fatal(err)
	}
	var shown []struct {
		Kind   string `json:"kind"`
		Tenant string `json:"tenant"`
		Public string `json:"public_key"`
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || len(shown) != 2 {
		t.Fatalf("%s: %v", out, err)
	}
	secret, err := os.ReadFile(root)
	if err != nil || strings.Contains(out, strings.TrimSpace(string(secret))) {
		t.Error("a secret was shown")
	}
	text, err := os.ReadFile(tenant)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := enclave.ParseTenant(text)
	if err != nil || string(parsed.ID()) != shown[0].Tenant || base64.StdEncoding.EncodeToString(parsed.Public()) != shown[0].Public {
		t.Errorf("%+v, %v", shown[0], err)
	}
	out, err = execute(t, cli.Keys(), "trust", "--environment", "simulated", root)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := schemas.ParseTrust([]byte(out))
	if err != nil || trust.Environment != schemas.Simulated || len(trust.Roots.Keys) != 1 {
		t.Errorf("%s: %v", out, err)
	}
	if _, err := execute(t, cli.Keys(), "trust", "--k", "2", root); err == nil {
		t.Error("two of one keys were accepted")
	}
}

func TestReceiptVerify(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	worker := n.Session(t)
	sealed := n.Seal(t, enclave.NewSubmission(n.Tenant(t), n.Key(t)), "x")
	outcome := n.Run(t, worker, sealed)
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	line := write("line.jsonl", []byte(`{"custom_id":"a","grant":"`+outcome.Grant+`","receipt":"`+outcome.Receipt+`"}`))
	body, other := write("result", outcome.Body), write("other", []byte("x"))
	broker := base64.StdEncoding.EncodeToString(n.Broker.Public())

	proven := func(args ...string) map[string]bool {
		t.Helper()
		out, err := execute(t, cli.Receipt(), append([]string{"verify", "-o", "json"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		var all []struct {
			Checks []struct {
				Name   string
				Proven bool
			}
		}
		if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
			t.Fatalf("%s: %v", out, err)
		}
		got := map[string]bool{}
		for _, c := range all[0].Checks {
			got[c.Name] = c.Proven
		}
		return got
	}
	if got := proven(line); !got["receipt"] || got["grant"] || got["broker"] || got["result"] || got["gpu"] {
		t.Errorf("alone: %v", got)
	}
	if got := proven(line, "--broker", broker, "--result", body); !got["receipt"] || !got["grant"] || got["broker"] || !got["result"] || got["hardware"] {
		t.Errorf("with the brokers' key: %v", got)
	}
	if _, err := execute(t, cli.Receipt(), "verify", line, "--result", other); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("another result: %v", err)
	}
	if _, err := execute(t, cli.Receipt(), "verify", line, "--broker", base64.StdEncoding.EncodeToString(worker.Public())); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("another broker: %v", err)
	}
	if _, err := execute(t, cli.Receipt(), "verify", write("alone", []byte(outcome.Receipt))); !errors.Is(err, schemas.KindDenied) {
		t.Errorf("without its grant: %v", err)
	}
	forged := strings.Replace(outcome.Receipt, ".", ".A", 1)
	if _, err := execute(t, cli.Receipt(), "verify", write("forged", []byte(outcome.Grant+"\n"+forged))); err == nil {
		t.Error("a forged receipt was accepted")
	}
	if _, err := execute(t, cli.Receipt(), "verify", write("empty", nil)); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("an empty file: %v", err)
	}
}

// TestKeysNATS makes the folder of a network's keys, adds a tenant to it, and prints no secret.
func TestKeysNATS(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	tenant := string(schemas.NewTenantID())
	make := []string{"nats", dir, "--url", "tls://nats.example:4222", "--server-name", "nats.example"}
	for _, args := range [][]string{make, append(make, "--tenant", tenant)} {
		out, err := execute(t, cli.Keys(), append(args, "-o", "json")...)
		if err != nil {
			t.Fatal(err)
		}
		var all []struct {
			User    string `json:"user"`
			Context string `json:"context"`
		}
		if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) < 8 {
			t.Fatalf("%d users, %v", len(all), err)
		}
		for _, u := range all {
			if _, err := os.Stat(u.Context); err != nil {
				t.Errorf("%s: %v", u.User, err)
			}
			seed, err := os.ReadFile(filepath.Join(dir, u.User, "user.nk"))
			if err != nil || strings.Contains(out, strings.TrimSpace(string(seed))) {
				t.Errorf("the seed of %s is printed (%v)", u.User, err)
			}
		}
	}
	for _, args := range [][]string{make[:2], append(make, "--tenant", "nobody")} {
		if _, err := execute(t, cli.Keys(), args...); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

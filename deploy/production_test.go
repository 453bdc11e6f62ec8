package deploy

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cocoon-network/cocoon/streams/access"
)

// TestProductionNetwork runs the same services on a server with the production layout, made with nothing but the program's
// own verbs: TLS on both sides, an account for the services, the workers and each tenant. Roles log in with their keys,
// the worker by attestation and the tenant with its pass; then the client verbs of every role do their work.
func TestProductionNetwork(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server and eight processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), composeTime)
	defer cancel()
	c := newComposition(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
	for _, name := range []string{"nats-1", "nats-2", "nats-3"} {
		delete(c.services, name)
	}
	keys := filepath.Join(c.dir, "keys")
	address := freePort(t)
	made := []string{"keys", "nats", keys, "--url", "tls://" + address, "--server-name", "127.0.0.1"}
	offline(t, c.exe, made...)
	conf := func() string {
		return offline(t, c.exe, "topology", "conf", "--layout", "production", "--keys", keys, "--listen", address, "--store", filepath.Join(c.dir, "nats"))
	}
	reload := serveNATS(t, c.dir, conf())
	user := func(name string) string { return filepath.Join(keys, name, access.FileContext) }
	c.contexts = map[string]string{
		"trust": user("operator"), "model": user("operator"), "tenant": user("operator"), "control": user("control"), "broker": user("broker"),
		"broker-2": user("broker"), "worker": user("host"), "settle": user("settler"), "dashboard": user("dashboard"),
	}
	door := []string{
		"--callout-nkey", filepath.Join(keys, access.FolderCallout, access.FileUser), "--callout-issuer", filepath.Join(keys, access.FolderCallout, access.FileIssuer),
		"--callout-xkey", filepath.Join(keys, access.FolderCallout, access.FileXKey),
	}
	c.more = map[string][]string{"broker": door, "broker-2": door, "worker": {"--attested-login"}}
	at(c.services["trust"], "environment").(object)["REPLICAS"] = "1"

	gateway := c.services["gateway"]
	delete(c.services, "gateway") // until its tenant has an account
	c.up(ctx)
	defer c.down()
	identity := filepath.Join(c.dir, "shared", "local.tenant.json")
	c.step(ctx, "tenant")
	var tenants []struct{ Tenant string }
	if err := json.Unmarshal([]byte(offline(t, c.exe, "keys", "show", identity, "-o", "json")), &tenants); err != nil || len(tenants) != 1 {
		t.Fatalf("%v %v", tenants, err)
	}
	tenant := tenants[0].Tenant
	offline(t, c.exe, append(made, "--tenant", tenant)...)
	c.until(ctx, "the worker is admitted", func() (string, bool) {
		out := c.tool(ctx, "trust", "workers", "ls")
		return out, strings.Contains(out, "cocoon-tiny")
	})
	reload(conf())
	reload(conf()) // a server begins the imports of an account that is new at the reload after that
	c.services["gateway"], c.contexts["gateway"] = gateway, user(tenant)
	c.start(ctx, "gateway")
	c.until(ctx, "an answer from the gateway", func() (string, bool) {
		got := c.get(ctx, "http://"+c.port("gateway", "8080")+"/v1/chat/completions", `{"model": "cocoon-tiny", "messages": [{"role": "user", "content": "Translate to French: the red cat sleeps"}]}`)
		return got, strings.Contains(got, "le chat rouge dort")
	})
	c.until(ctx, "the answer is booked", func() (string, bool) { n := c.booked(ctx); return "", n >= 1 })

	shared := func(name string) string { return filepath.Join(c.dir, "shared", name) }
	for _, line := range []struct {
		service string
		args    []string
		want    string
	}{
		{"trust", []string{"topology", "diff"}, ""},
		{"trust", []string{"policy", "show"}, "SIMULATED"},
		{"trust", []string{"catalogue", "show"}, "cocoon-tiny"},
		{"trust", []string{"consumers", "ls"}, "standard"},
		{"trust", []string{"dlq", "ls"}, ""},
		{"trust", []string{"workers", "ls"}, "cocoon-tiny"},
		{"dashboard", []string{"workers", "ls"}, "cocoon-tiny"},
		{"gateway", []string{"models", "ls", "--trust", shared("trust.json"), "--tenant", identity, "--state", filepath.Join(c.dir, "state")}, "cocoon-tiny"},
		{"gateway", []string{"job", "submit", "--trust", shared("trust.json"), "--tenant", identity, "--state", filepath.Join(c.dir, "state"), "--model", "cocoon-tiny", "Translate to French: the red cat sleeps"}, "le chat rouge dort"},
	} {
		if out := c.tool(ctx, line.service, line.args...); !strings.Contains(out, line.want) {
			t.Errorf("cocoon %v: %s", line.args, out)
		}
	}
	if out, err := c.process(ctx, "gateway", "topology", "apply", "--yes").CombinedOutput(); err == nil {
		t.Errorf("a tenant changes the topology: %s", out)
	}
}

// offline runs a verb of the program that speaks to nobody.
func offline(t *testing.T, exe string, args ...string) string {
	t.Helper()
	out, err := exec.Command(exe, args...).Output()
	if err != nil {
		t.Fatalf("cocoon %v: %v", args, err)
	}
	return string(out)
}

// serveNATS runs a server on a configuration, and returns what has it read another one.
func serveNATS(t *testing.T, dir, conf string) (reload func(conf string)) {
	t.Helper()
	o, err := server.ProcessConfigFile(write(t, dir, "nats.conf", conf))
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return func(conf string) {
		write(t, dir, "nats.conf", conf)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestREADMECommandsRun runs the commands of README.md's section on log-ins as they stand there, in an empty folder, and has
// the server read what they make.
func TestREADMECommandsRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, section, _ := strings.Cut(string(read(t, "README.md")), "## Log-ins and TLS")
	section, _, _ = strings.Cut(section, "\n## ")
	ran := 0
	for line := range strings.SplitSeq(section, "\n") {
		command, shown := strings.CutPrefix(line, "    cocoon ")
		if !shown {
			continue
		}
		ran++
		cmd := exec.Command("/bin/sh", "-c", program(t)+" "+command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cocoon %s: %v\n%s", command, err, out)
		}
	}
	if ran != 2 {
		t.Fatalf("ran %d commands", ran)
	}
	conf := strings.ReplaceAll(string(read(t, filepath.Join(dir, "nats.conf"))), `"keys/`, `"`+filepath.Join(dir, "keys")+"/")
	o, err := server.ProcessConfigFile(write(t, dir, "nats.conf", conf))
	if err != nil {
		t.Fatal(err)
	}
	if o.TLSConfig == nil || o.AuthCallout == nil || len(o.Nkeys) < 7 {
		t.Errorf("TLS %v, callout %v, %d users", o.TLSConfig != nil, o.AuthCallout != nil, len(o.Nkeys))
	}
}

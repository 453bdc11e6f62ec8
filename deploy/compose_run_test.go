package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// composeTime bounds the whole life of the composition, on a slow machine.
const composeTime = 4 * time.Minute

// TestComposeRuns brings docker-compose.yml up without Docker: every service is a process of its own with exactly the
// command line, environment, order and restarts of the file, on three real NATS servers with the file's configuration
// and a real PostgreSQL; only paths and addresses are mapped. A question to the gateway is answered by the worker and
// settled in PostgreSQL, also while one NATS server and one broker are away; traces of it reach a collector; and every
// step of the bootstrap changes nothing when it is run again.
func TestComposeRuns(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three servers and eight processes")
	}
	collector := newCollector(t)
	c := newComposition(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
	ctx, cancel := context.WithTimeout(t.Context(), composeTime)
	defer cancel()
	c.up(ctx)
	defer c.down()

	const question = `{"model": "cocoon-tiny", "messages": [{"role": "user", "content": "Translate to French: the red cat sleeps"}]}`
	const answer = "le chat rouge dort"
	c.until(ctx, "an answer from the gateway", func() (string, bool) {
		got := c.get(ctx, "http://"+c.port("gateway", "8080")+"/v1/chat/completions", question)
		return got, strings.Contains(got, answer)
	})
	c.nats["nats-2"].Close()
	c.stop("broker")
	c.until(ctx, "an answer while a NATS server and a broker are away", func() (string, bool) {
		got := c.get(ctx, "http://"+c.port("gateway", "8080")+"/v1/chat/completions", question)
		return got, strings.Contains(got, answer)
	})
	var accounts string
	c.until(ctx, "both answers are booked in PostgreSQL", func() (string, bool) {
		accounts = c.tool(ctx, "tenant", "account", "ls", "-o", "json")
		var all []struct{ Name, Charged string }
		err := json.Unmarshal([]byte(accounts), &all)
		return accounts, err == nil && len(all) == 1 && all[0].Name == "local" && all[0].Charged != "0" && c.booked(ctx) >= 2
	})
	for name, service := range c.services {
		if at := c.port(name, "9464"); at != "" && name != "broker" {
			if got := c.get(ctx, "http://"+at+"/readyz", ""); !strings.HasPrefix(got, "204") {
				t.Errorf("%s is not ready: %s", name, got)
			}
			if got := c.get(ctx, "http://"+at+"/metrics", ""); !strings.Contains(got, "\ncocoon_") {
				t.Errorf("%s has no metrics of its own: %.300s", name, got)
			}
		} else if slices.Contains(words(at2(service)), "--metrics") && name != "broker" {
			t.Errorf("%s has no metrics port", name)
		}
	}
	if got := c.get(ctx, "http://"+c.port("dashboard", "8090")+"/status", ""); !strings.HasPrefix(got, "200") {
		t.Errorf("the status page: %.300s", got)
	}
	for step, show := range map[string][]string{"trust": {"policy", "show", "-o", "json"}, "model": {"catalogue", "show", "-o", "json"}, "tenant": {"account", "show", "local", "-o", "json"}} {
		before := c.tool(ctx, step, show...)
		c.step(ctx, step)
		if after := c.tool(ctx, step, show...); after != before {
			t.Errorf("step %s changed something when it was run again:\n%s\n%s", step, before, after)
		}
	}
	c.down()
	collector.check(t, question, answer, accounts)
}

// at2 is a service's command.
func at2(service any) any { return at(service, "command") }

// composition is the compose file, mapped to this machine.
type composition struct {
	t        *testing.T
	services object
	exe, dir string
	dsn      string
	env      map[string]string // what ${…} in the file stands for
	nats     map[string]*embedded.Server
	ports    map[string]string // by "service:port"
	// contexts, if set, says as which user of a folder of keys each service logs in, and more what it is told besides.
	contexts map[string]string
	more     map[string][]string

	mu      sync.Mutex
	running map[string]func()
	logs    map[string]*strings.Builder
}

// newComposition reads the file and maps what it names.
func newComposition(t *testing.T, env map[string]string) *composition {
	t.Helper()
	c := &composition{
		t: t, exe: program(t), dir: t.TempDir(), env: env, nats: map[string]*embedded.Server{},
		ports: map[string]string{}, running: map[string]func(){}, logs: map[string]*strings.Builder{},
	}
	c.dsn = ledgertest.Postgres(t).Database(t)
	c.services, _ = compose(t)["services"].(object)
	for name, service := range c.services {
		if at(service, "profiles") != nil {
			delete(c.services, name)
			continue
		}
		for _, word := range words(at(service, "command")) {
			if port, ok := strings.CutPrefix(word, "0.0.0.0:"); ok {
				c.ports[name+":"+port] = freePort(t)
			}
		}
		if strings.HasPrefix(name, "nats-") {
			for _, port := range []string{"4222", "6222", "8222"} {
				c.ports[name+":"+port] = freePort(t)
			}
		}
	}
	for _, dir := range []string{"shared", "broker", "gateway", "weights", "tmp"} {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, c.dir, "cocoon-tiny.gguf", string(read(t, "../consumers/ggml/tiny/cocoon-tiny.gguf")))
	if err := os.Mkdir(filepath.Join(c.dir, "cocoon-tiny"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(c.dir, "cocoon-tiny.gguf"), filepath.Join(c.dir, "cocoon-tiny", "cocoon-tiny.gguf")); err != nil {
		t.Fatal(err)
	}
	return c
}

// freePort is an address on this machine that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// port is where a service's port of the file is on this machine, "" if it has none.
func (c *composition) port(service, port string) string { return c.ports[service+":"+port] }

// local maps a word of the file to this machine.
func (c *composition) local(service, word string) string {
	pairs := []string{
		"/var/lib/cocoon/shared", filepath.Join(c.dir, "shared"), "/var/lib/cocoon/broker", filepath.Join(c.dir, "broker"),
		"/var/lib/cocoon/gateway", filepath.Join(c.dir, "gateway"), "/weights", filepath.Join(c.dir, "weights"),
		"postgres://cocoon:cocoon@postgres:5432/cocoon", c.dsn,
	}
	for name, value := range c.env {
		pairs = append(pairs, "${"+name+":-}", value)
	}
	for _, name := range slices.Sorted(maps.Keys(c.ports)) {
		_, port, _ := strings.Cut(name, ":")
		if strings.HasPrefix(name, service+":") {
			pairs = append(pairs, "0.0.0.0:"+port, c.ports[name])
		}
		pairs = append(pairs, name, c.ports[name])
	}
	return strings.NewReplacer(pairs...).Replace(word)
}

// process is the process of a service, or with args another one in its place.
func (c *composition) process(ctx context.Context, service string, args ...string) *exec.Cmd {
	s := c.services[service]
	argv := []string{c.exe}
	if len(args) == 0 {
		if built(s) == "tools" {
			argv = []string{"/bin/sh", "docker/bootstrap.sh"}
		}
		for _, word := range words(at(s, "command")) {
			args = append(args, c.local(service, word))
		}
		args = append(args, c.more[service]...)
	}
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	// Nothing of this machine's environment but what an image has.
	cmd.Env = []string{
		"PATH=" + filepath.Dir(c.exe) + ":/usr/bin:/bin", "XDG_DATA_HOME=" + c.dir, "TMPDIR=" + filepath.Join(c.dir, "tmp"),
		"SHARED=" + filepath.Join(c.dir, "shared"), "POLICIES=policy", "MODEL=" + filepath.Join(c.dir, "cocoon-tiny"),
	}
	env, _ := at(s, "environment").(object)
	if context := c.contexts[service]; context != "" {
		cmd.Env = append(cmd.Env, "NATS_CONTEXT="+context)
		env = maps.Clone(env)
		delete(env, "NATS_URL")
	}
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+c.local(service, text(value)))
	}
	return cmd
}

// up starts every service when what it depends on is as far as the file says.
func (c *composition) up(ctx context.Context) {
	started := map[string]bool{}
	var start func(name string)
	start = func(name string) {
		if started[name] {
			return
		}
		started[name] = true
		needs, _ := at(c.services[name], "depends_on").(object)
		for _, other := range slices.Sorted(maps.Keys(needs)) {
			if c.services[other] == nil {
				continue
			}
			start(other)
			if text(at(needs[other], "condition")) == "service_completed_successfully" {
				c.step(ctx, other)
			}
		}
		switch {
		case strings.HasPrefix(name, "nats-"):
			c.startNATS(name)
		case built(c.services[name]) == "cocoon":
			c.start(ctx, name)
		}
	}
	// The servers wait for each other, as those of the file do, before anybody's health is asked for.
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		if strings.HasPrefix(name, "nats-") {
			start(name)
		}
	}
	for name := range c.nats {
		c.until(ctx, name+" is healthy", func() (string, bool) {
			got := c.get(ctx, "http://"+c.port(name, "8222")+"/healthz?js-enabled-only=true", "")
			return got, strings.HasPrefix(got, "200")
		})
	}
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		start(name)
	}
}

// startNATS runs a server with the file's configuration.
func (c *composition) startNATS(name string) {
	c.t.Helper()
	conf := string(read(c.t, "docker/nats.conf"))
	for _, port := range []string{"4222", "6222", "8222"} {
		for _, key := range []string{"port", "http_port"} {
			_, free, _ := strings.Cut(c.port(name, port), ":")
			conf = strings.ReplaceAll(conf, key+": "+port+"\n", key+": "+free+"\n")
		}
	}
	conf = strings.NewReplacer("$NATS_NAME", name, "/data", filepath.Join(c.dir, name)).Replace(c.local(name, conf))
	path := filepath.Join(c.dir, name+".conf")
	write(c.t, c.dir, name+".conf", conf)
	s, err := embedded.Start(embedded.Options{ConfigFile: path})
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, conf)
	}
	c.nats[name] = s
	c.t.Cleanup(s.Close)
}

// maxRestarts is how often Docker starts a service of the file again ("on-failure:10"), waiting longer each time.
const maxRestarts = 10

// step runs a service that ends, again while it fails.
func (c *composition) step(ctx context.Context, name string) {
	c.t.Helper()
	var out []byte
	err := fmt.Errorf("not run")
	wait := 100 * time.Millisecond
	for try := 0; err != nil && try <= maxRestarts && ctx.Err() == nil; try++ {
		if out, err = c.process(ctx, name).CombinedOutput(); err != nil {
			sleep(ctx, wait)
			wait *= 2
		}
	}
	if err != nil {
		c.t.Fatalf("service %s: %v\n%s", name, err, out)
	}
}

// start runs a service that serves, again whenever it ends by itself.
func (c *composition) start(ctx context.Context, name string) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var log strings.Builder // read only when the service has ended
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			cmd := c.process(ctx, name)
			cmd.Stdout, cmd.Stderr = &log, &log
			err := cmd.Run()
			if ctx.Err() == nil {
				fmt.Fprintf(&log, "restarted after: %v\n", err)
				sleep(ctx, 300*time.Millisecond)
			}
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs[name] = &log
	c.running[name] = func() { cancel(); <-ended }
}

// stop stops a service as `docker compose stop` does.
func (c *composition) stop(name string) {
	c.mu.Lock()
	stop := c.running[name]
	delete(c.running, name)
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	if c.t.Failed() {
		c.t.Logf("service %s:\n%s", name, c.logs[name])
	}
}

// down stops everything that runs.
func (c *composition) down() {
	for name := range maps.Clone(c.running) {
		c.stop(name)
	}
}

// tool runs a verb of the program in the place of a service.
func (c *composition) tool(ctx context.Context, service string, args ...string) string {
	c.t.Helper()
	out, err := c.process(ctx, service, args...).Output()
	if err != nil {
		c.t.Fatalf("cocoon %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// booked is how many receipts settlement has booked, as its own metrics say.
func (c *composition) booked(ctx context.Context) int {
	for line := range strings.SplitSeq(c.get(ctx, "http://"+c.port("settle", "9464")+"/metrics", ""), "\n") {
		var n int
		if _, err := fmt.Sscanf(line, `cocoon_settlement_outcomes_total{result="booked"} %d`, &n); err == nil {
			return n
		}
	}
	return 0
}

// until waits until something holds.
func (c *composition) until(ctx context.Context, what string, holds func() (last string, ok bool)) {
	c.t.Helper()
	for {
		last, ok := holds()
		if ok {
			return
		}
		if sleep(ctx, 300*time.Millisecond); ctx.Err() != nil {
			c.t.Errorf("not in time: %s; last: %s", what, last)
			c.down()
			c.t.FailNow()
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// get asks for a page, or posts a body, and returns status and page, or why there is none.
func (c *composition) get(ctx context.Context, url, body string) string {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	page, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err.Error()
	}
	return response.Status + "\n" + string(page)
}

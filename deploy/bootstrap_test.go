package deploy

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/streams/embedded"
)

// bootstrapTime bounds the whole bootstrap of a network.
const bootstrapTime = 2 * time.Minute

// TestBootstrap brings a network up with docker/bootstrap.sh as the compose file does, without Docker: a real server, the
// real program, broker and settlement as processes of their own. Every step is run twice: the
// second time changes nothing. In the end a question to the gateway is answered by the worker.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server and a broker")
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootstrapTime)
	defer cancel()
	nats, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Host: "127.0.0.1", Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer nats.Close()
	n := &bootstrapped{shared: t.TempDir(), exe: program(t)}
	model := filepath.Join(t.TempDir(), "cocoon-tiny")
	if err := os.Mkdir(model, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, model, "cocoon-tiny.gguf", string(read(t, "../consumers/ggml/tiny/cocoon-tiny.gguf")))
	n.env = append(os.Environ(), "NATS_URL="+nats.URL(), "SHARED="+n.shared, "POLICIES=policy", "MODEL="+model, "REPLICAS=1",
		"COCOON_SETTLE__LEDGER="+filepath.Join(n.shared, "ledger.db"), "PATH="+filepath.Dir(n.exe)+":"+os.Getenv("PATH"))

	first := n.step(ctx, t, "trust", "policy show -o json")
	if again := n.step(ctx, t, "trust", "policy show -o json"); again != first {
		t.Errorf("a second run changed the policy:\n%s\n%s", first, again)
	}
	defer n.start(ctx, t, "broker", "--found")()
	n.until(ctx, "model") // the broker needs a moment to publish its keys
	catalogue := n.step(ctx, t, "model", "catalogue show -o json")
	if !strings.Contains(catalogue, `"cocoon-tiny@1:sha256-`) || !strings.Contains(catalogue, `"sealed": true`) {
		t.Errorf("the catalogue does not sell the sealed model:\n%s", catalogue)
	}
	if policy := n.step(ctx, t, "model", "policy show -o json"); !strings.Contains(policy, `"cocoon-tiny@1:sha256-`) || policy == first {
		t.Errorf("the policy does not admit the model:\n%s", policy)
	}
	defer n.start(ctx, t, "settle")()
	n.until(ctx, "tenant") // settlement makes the ledger
	accounts := n.step(ctx, t, "tenant", "account ls -o json")
	if again := n.step(ctx, t, "tenant", "account ls -o json"); again != accounts || !strings.Contains(accounts, `"local"`) {
		t.Errorf("accounts:\n%s\n%s", accounts, again)
	}
	n.answers(ctx, t)
}

// answers runs the roles that are left and asks the gateway until a worker has answered.
func (n *bootstrapped) answers(ctx context.Context, t *testing.T) {
	t.Helper()
	port, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := port.Addr().String()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	defer n.start(ctx, t, "control")()
	defer n.start(ctx, t, "worker", "--engine", "embedded", "--slots", "2", "--owner", "0:"+strings.Repeat("83", 32))()
	gateway := exec.CommandContext(ctx, n.exe, "gateway", "--listen", address, "--trust", n.file("trust.json"), "--tenant", n.file("local.tenant.json"), "--state", n.file("gateway"))
	defer n.launch(t, gateway)()
	const question = `{"model": "cocoon-tiny", "messages": [{"role": "user", "content": "Translate to French: the red cat sleeps"}]}`
	var last string
	for ctx.Err() == nil {
		last = n.ask(ctx, "http://"+address+"/v1/chat/completions", question)
		if strings.Contains(last, "le chat rouge dort") {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	t.Errorf("the network does not answer; last: %s", last)
}

// ask posts a question and returns the answer, or why there is none.
func (n *bootstrapped) ask(ctx context.Context, url, question string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(question))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err.Error()
	}
	return response.Status + " " + string(body)
}

// bootstrapped is a network that bootstrap.sh makes.
type bootstrapped struct {
	exe, shared string
	env         []string
}

// file is a path in the shared folder.
func (n *bootstrapped) file(name string) string { return filepath.Join(n.shared, name) }

// run runs a command in the network's environment.
func (n *bootstrapped) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = n.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start starts a role on the network's simulated hardware; what it returns ends it.
func (n *bootstrapped) start(ctx context.Context, t *testing.T, role string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(ctx, n.exe, append([]string{role, "--trust", n.file("trust.json"), "--simulated", n.file("hardware")}, args...)...)
	return n.launch(t, cmd)
}

// launch starts a process of the network.
func (n *bootstrapped) launch(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var log strings.Builder // read only after Wait
	cmd.Env, cmd.Stderr = n.env, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("%v ended by itself: %v", cmd.Args[1], err)
		}
		_ = cmd.Wait() // it was interrupted
		if t.Failed() {
			t.Logf("%v:\n%s", cmd.Args[1], log.String())
		}
	}
}

// until runs a step until it succeeds, as the compose file's restarts do.
func (n *bootstrapped) until(ctx context.Context, step string) {
	for {
		if _, err := n.run(ctx, "sh", "docker/bootstrap.sh", step); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// step runs a step of the script and then shows something.
func (n *bootstrapped) step(ctx context.Context, t *testing.T, step, show string) string {
	t.Helper()
	if out, err := n.run(ctx, "sh", "docker/bootstrap.sh", step); err != nil {
		t.Fatalf("bootstrap %s: %v\n%s", step, err, out)
	}
	out, err := n.run(ctx, n.exe, strings.Fields(show)...)
	if err != nil {
		t.Fatalf("cocoon %s: %v\n%s", show, err, out)
	}
	return out
}

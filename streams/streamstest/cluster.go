package streamstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/cocoon-network/cocoon/streams"
)

// nodeEnv turns a test binary into one server of a cluster, see Main.
const nodeEnv = "COCOON_STREAMSTEST_NODE"

// Main runs the tests of a package that uses [NewCluster] or [NewProcess]; call it from TestMain. It is the same program that serves as a
// node: a process of its own, to be killed without mercy.
func Main(m *testing.M) int {
	if spec := os.Getenv(nodeEnv); spec != "" {
		return serveNode(spec)
	}
	return m.Run()
}

// Node is one server in a process of its own, alone or in a cluster.
type Node struct {
	// Name is the server's name.
	Name string
	// Port is where clients connect.
	Port int
	// Route is where the other nodes connect, and Routes are the URLs of all; both are empty for a server alone.
	Route  int    `json:",omitempty"`
	Routes string `json:",omitempty"`
	// Dir keeps the state over kills.
	Dir string

	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// Cluster is three servers in processes of their own.
type Cluster []*Node

// serveNode runs a server until standard input ends, which it does when the test dies, however that dies.
func serveNode(spec string) int {
	var n Node
	if err := json.Unmarshal([]byte(spec), &n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	options := &server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, JetStream: true, StoreDir: n.Dir, NoSigs: true, NoLog: true,
	}
	if n.Routes != "" {
		options.Cluster = server.ClusterOpts{Name: "streamstest", Host: "127.0.0.1", Port: n.Route}
		options.Routes = server.RoutesFromStr(n.Routes)
	}
	s, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go s.Start()
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return 0
}

// Start runs the node's process; its state is where it was.
func (n *Node) Start() {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	spec, err := json.Marshal(n)
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd = exec.Command(self)
	n.cmd.Env = append(os.Environ(), nodeEnv+"="+string(spec))
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// URL is where clients connect.
func (n *Node) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.Port) }

// Kill is kill -9.
func (n *Node) Kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	_ = n.stdin.Close()
}

// NewProcess starts one server in a process of its own with the topology applied. It fails when the package has no TestMain
// that calls Main.
func NewProcess(t testing.TB, topology streams.Topology) *Node {
	t.Helper()
	n := &Node{Name: "alone", Port: freePort(t), Dir: t.TempDir(), t: t}
	n.Start()
	t.Cleanup(n.Kill)
	Cluster{n}.apply(t, topology)
	return n
}

// apply applies a topology as soon as the servers take it.
func (c Cluster) apply(t testing.TB, topology streams.Topology) {
	t.Helper()
	bus := c.Connect(t, streams.Config{})
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		_, err := bus.Apply(t.Context(), topology)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the servers do not take the topology: %v", err)
		}
	}
}

// NewCluster starts three servers with the topology applied at three replicas. It skips under -short, and fails when the
// package has no TestMain that calls Main.
func NewCluster(t testing.TB, topology streams.Topology) Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts three server processes")
	}
	var c Cluster
	var routes []string
	for i := range 3 {
		n := &Node{Name: fmt.Sprintf("n%d", i), Port: freePort(t), Route: freePort(t), Dir: t.TempDir(), t: t}
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", n.Route))
		c = append(c, n)
	}
	for _, n := range c {
		n.Routes = strings.Join(routes, ",")
		n.Start()
		t.Cleanup(n.Kill)
	}
	topology.Replicas = 3
	c.apply(t, topology)
	return c
}

// Connect opens a bus that follows the cluster through the loss of a node; it ends with the test.
func (c Cluster) Connect(t testing.TB, conf streams.Config) *streams.Bus {
	t.Helper()
	var urls []string
	for _, n := range c {
		urls = append(urls, n.URL())
	}
	conf.URL = strings.Join(urls, ",")
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = 30 * time.Second
	}
	return Connect(t, nil, conf)
}

// Leader is the node that leads a stream, nil while none does.
func (c Cluster) Leader(t testing.TB, bus *streams.Bus, stream string) *Node {
	t.Helper()
	h, err := bus.StreamHealth(t.Context(), stream)
	if err != nil {
		return nil
	}
	for _, n := range c {
		if n.Name == h.Leader {
			return n
		}
	}
	return nil
}

// AwaitWhole waits until a stream has a leader and two replicas that are up to date.
func (c Cluster) AwaitWhole(t testing.TB, bus *streams.Bus, stream string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if h, err := bus.StreamHealth(t.Context(), stream); err == nil && h.Leader != "" && h.Current == 3 {
			return
		}
	}
	t.Fatalf("stream %s is not whole after %v", stream, patience)
}

// freePort is a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

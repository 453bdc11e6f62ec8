package access_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/callout"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// world is a server in one of the two layouts and a bus per role on it.
type world struct {
	ctx     context.Context
	conf    string
	tenants [2]schemas.TenantID
	worker  access.WorkerUser
	// bus opens a connection as a role, a tenant or the worker.
	bus func(user string) *streams.Bus
}

// lanes is the topology's default.
const lanes = 16

func newWorld(t *testing.T) *world {
	w := &world{ctx: streamstest.Context(t), tenants: [2]schemas.TenantID{schemas.NewTenantID(), schemas.NewTenantID()}}
	w.worker = access.WorkerUser{Worker: schemas.WorkerIDOf([]byte(t.Name())), Models: []streams.Route{streamstest.Route}, Lanes: lanes}
	return w
}

// serve runs a server on a configuration and returns its url.
func serve(t *testing.T, conf string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return streamstest.Server(t, embedded.Options{ConfigFile: file, Dir: t.TempDir()}).URL()
}

// listen is an address on a free port.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// development is the layout with one account.
func development(t *testing.T) *world {
	w := newWorld(t)
	w.conf = access.Development(access.Server{Listen: listen(t)}, w.tenants[:], []access.WorkerUser{w.worker})
	url := serve(t, w.conf)
	w.bus = func(user string) *streams.Bus {
		return streamstest.Connect(t, nil, streams.Config{URL: url, User: user, Password: user, Inbox: access.Inbox(user)})
	}
	return w
}

// user is a key pair in a file.
func user(t *testing.T) (public, seedFile string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile = filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	public, err = key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public, seedFile
}

// production is the layout with many accounts. The worker has a key here; package callout tests how it logs in for real.
func production(t *testing.T) *world {
	w := newWorld(t)
	w.worker.API = access.APIImported
	seeds := map[string]string{}
	n := access.Network{Server: access.Server{Listen: listen(t)}, Services: map[access.Role]string{}, Tenants: w.tenants[:]}
	for _, role := range append(access.Services(), access.RoleHost) {
		n.Services[role], seeds[string(role)] = user(t)
	}
	n.System, _ = user(t)
	n.Callout, seeds[access.FolderCallout] = user(t)
	issuer, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	if n.Issuer, err = issuer.PublicKey(); err != nil {
		t.Fatal(err)
	}
	passes := map[string]string{}
	for _, tenant := range w.tenants {
		var public string
		public, seeds[string(tenant)] = user(t)
		if passes[string(tenant)], err = access.Pass(issuer, tenant, public); err != nil {
			t.Fatal(err)
		}
	}
	if w.conf, err = access.Production(n); err != nil {
		t.Fatal(err)
	}
	// The worker takes the place of the host's user, with its own rights.
	key, seed := user(t)
	seeds[string(w.worker.Worker)] = seed
	w.conf = strings.ReplaceAll(w.conf, n.Services[access.RoleHost], key)
	w.conf = strings.Replace(w.conf, permissionsOf(access.Host(string(access.RoleHost), access.APIImported)), permissionsOf(access.Worker(w.worker)), 1)
	url := serve(t, w.conf)
	w.bus = func(user string) *streams.Bus {
		c := streams.Config{URL: url, NKeySeedFile: seeds[user], Token: passes[user], Inbox: access.Inbox(user)}
		if user == string(w.worker.Worker) {
			c.APIPrefix = access.APIImported
		}
		return streamstest.Connect(t, nil, c)
	}
	admitPasses(t, w.bus(access.FolderCallout), issuer, nil)
	return w
}

// admitPasses runs the callout service; it admits nobody but holders of passes.
func admitPasses(t *testing.T, bus *streams.Bus, issuer, xkey nkeys.KeyPair) {
	t.Helper()
	service, err := callout.New(bus.Conn(), callout.Options{
		Issuer: issuer, XKey: xkey, Plain: xkey == nil,
		Decide: func(context.Context, callout.Request) (callout.Grant, error) {
			return callout.Grant{}, schemas.Errorf(schemas.KindDenied, "no pass")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- service.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() { stop(); <-ended })
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
}

// permissionsOf spells a table as in the file, without indentation in the first line.
func permissionsOf(p access.Permissions) string { return access.SpellPermissions(p, 4) }

// TestEveryRoleDoesItsWork sends a job, small and large, through all roles under their permissions, in both layouts.
func TestEveryRoleDoesItsWork(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]func(*testing.T) *world{"development": development, "production": production} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := layout(t)
			operator := w.bus(string(access.RoleOperator))
			if _, err := operator.Apply(w.ctx, streams.Topology{Lanes: lanes}); err != nil {
				t.Fatalf("operator applies the topology: %v", err)
			}
			serving, stop := context.WithCancel(w.ctx)
			ended := make(chan error, 1)
			go func() {
				ended <- control.New(w.bus(string(access.RoleControl)), control.Options{Poll: 100 * time.Millisecond, Hot: 8}).Run(serving)
			}()
			t.Cleanup(func() { stop(); <-ended })

			tenant := w.tenants[0]
			producer, worker := w.bus(string(tenant)), w.bus(string(w.worker.Worker))
			outcomes, err := producer.Outcomes(w.ctx, tenant)
			if err != nil {
				t.Fatalf("producer hears outcomes: %v", err)
			}
			puller, err := worker.NewPuller(w.ctx, streams.PullerOptions{Route: streamstest.Route})
			if err != nil {
				t.Fatalf("worker opens the queues: %v", err)
			}
			defer puller.Close()
			for _, size := range []int{10, 600 << 10} {
				oneJob(t, w, producer, worker, puller, outcomes, size)
			}
			lanesAndPause(t, w, producer, worker, puller)
			documents(t, w, operator, producer, worker)
			records(t, w)
		})
	}
}

// oneJob sends a job from producer to worker and back.
func oneJob(t *testing.T, w *world, producer, worker *streams.Bus, puller *streams.Puller, outcomes *streams.Feed[schemas.Outcome], size int) {
	t.Helper()
	job := streamstest.Job(w.tenants[0], make([]byte, size), nil)
	job.Envelope[0] = byte(size)
	chunks, err := producer.Chunks(w.ctx, job.Attributes.Tenant, job.Attributes.ID)
	if err != nil {
		t.Fatalf("producer hears chunks: %v", err)
	}
	defer chunks.Close()
	if _, err := producer.PublishJob(w.ctx, job); err != nil {
		t.Fatalf("producer publishes: %v", err)
	}
	ds, err := puller.Next(w.ctx, 1)
	if err != nil || len(ds[0].Envelope) != size {
		t.Fatalf("worker pulls: %v", err)
	}
	if err := ds[0].Extend(w.ctx); err != nil {
		t.Errorf("worker extends: %v", err)
	}
	if err := worker.PublishChunk(job.Attributes.Tenant, job.Attributes.ID, []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := chunks.Next(w.ctx); err != nil {
		t.Errorf("producer hears a chunk: %v", err)
	}
	if _, err := worker.Outcome(w.ctx, job.Attributes.Tenant, job.Attributes.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("worker looks for an outcome: %v", err)
	}
	if first, err := worker.PublishOutcome(w.ctx, streamstest.Outcome(job.Attributes, make([]byte, size))); err != nil || !first {
		t.Errorf("worker publishes: %v %v", first, err)
	}
	if err := ds[0].Done(w.ctx); err != nil {
		t.Errorf("worker is done: %v", err)
	}
	if o, err := outcomes.Next(w.ctx); err != nil || len(o.Body) != size {
		t.Errorf("producer hears the outcome: %v", err)
	}
	if o, err := producer.Outcome(w.ctx, job.Attributes.Tenant, job.Attributes.ID); err != nil || len(o.Body) != size {
		t.Errorf("producer fetches the outcome: %v", err)
	}
	dead := streamstest.Job(w.tenants[0], []byte("dead"), func(a *schemas.Attributes) { a.ID = schemas.NewJobID() })
	dead.Envelope = []byte("dead " + dead.Attributes.ID)
	if _, err := producer.PublishJob(w.ctx, dead); err != nil {
		t.Fatal(err)
	}
	if ds, err = puller.Next(w.ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := ds[0].DeadLetter(w.ctx, schemas.Errorf(schemas.KindPoison, "test")); err != nil {
		t.Errorf("worker gives up a job: %v", err)
	}
	if _, err := outcomes.Next(w.ctx); err != nil {
		t.Errorf("producer hears of it: %v", err)
	}
}

// lanesAndPause lets control split a queue and the worker follow, and the producer cancel.
func lanesAndPause(t *testing.T, w *world, producer, worker *streams.Bus, puller *streams.Puller) {
	t.Helper()
	var acks []streams.Ack
	var jobs []streams.Job
	for range 12 {
		job := streamstest.Job(w.tenants[0], []byte(schemas.NewJobID()), nil)
		ack, err := producer.PublishJob(w.ctx, job)
		if err != nil {
			t.Fatal(err)
		}
		acks, jobs = append(acks, ack), append(jobs, job)
	}
	if state, err := producer.Cancel(w.ctx, w.tenants[0], jobs[11].Attributes.ID, acks[11]); err != nil || state != streams.CancelDone {
		t.Errorf("producer cancels: %s %v", state, err)
	}
	waitFor(t, "the queue is split", func() bool {
		list, err := worker.Backlogs(w.ctx)
		for _, l := range list {
			if l.Class == schemas.Standard && l.Lanes == lanes {
				return true
			}
		}
		return err != nil && t.Failed()
	})
	for left := 11; left > 0; {
		ds, err := puller.Next(w.ctx, left)
		if err != nil {
			t.Fatalf("worker pulls from lanes: %v", err)
		}
		for _, d := range ds {
			if err := d.Done(w.ctx); err != nil {
				t.Error(err)
			}
			left--
		}
	}
	operator := w.bus(string(access.RoleOperator))
	if err := operator.PauseQueue(w.ctx, streams.Queue{Route: streamstest.Route, Class: schemas.Standard}, time.Now().Add(time.Hour)); err != nil {
		t.Errorf("operator pauses: %v", err)
	}
	if err := operator.PauseQueue(w.ctx, streams.Queue{Route: streamstest.Route, Class: schemas.Standard}, time.Time{}); err != nil {
		t.Errorf("operator resumes: %v", err)
	}
	n := 0
	for _, err := range operator.DeadLetters(w.ctx, streams.DeadSelector{}) {
		if err != nil {
			t.Errorf("operator lists dead letters: %v", err)
			break
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d dead letters, want 2", n)
	}
	for d := range operator.DeadLetters(w.ctx, streams.DeadSelector{Limit: 1}) {
		if _, err := operator.Replay(w.ctx, d.Seq); err != nil {
			t.Errorf("operator replays: %v", err)
		}
	}
	if ds, err := puller.Next(w.ctx, 1); err != nil {
		t.Errorf("worker gets it again: %v", err)
	} else if err := ds[0].Done(w.ctx); err != nil {
		t.Error(err)
	}
}

// documents publishes a policy and keys and lets everybody read and watch them.
func documents(t *testing.T, w *world, operator, producer, worker *streams.Bus) {
	t.Helper()
	if _, err := operator.Bucket(streams.BucketPolicy).Put(w.ctx, "current", []byte("policy")); err != nil {
		t.Errorf("operator publishes a policy: %v", err)
	}
	broker := w.bus(string(access.RoleBroker))
	if _, err := broker.Bucket(streams.BucketKeys).Put(w.ctx, streamstest.Route.Slug, []byte("key")); err != nil {
		t.Errorf("broker publishes a key: %v", err)
	}
	if err := broker.PublishAudit(w.ctx, streams.AuditRecord{Broker: schemas.KeyIDOf(nil), Verb: streams.VerbGrant}); err != nil {
		t.Errorf("broker writes down a decision: %v", err)
	}
	if _, err := worker.Bucket(streams.BucketWorkers).Put(w.ctx, streams.PrefixWorker+string(w.worker.Worker), []byte("{}")); err != nil {
		t.Errorf("worker says that it lives: %v", err)
	}
	dashboard := w.bus(string(access.RoleDashboard))
	for who, bus := range map[string]*streams.Bus{"producer": producer, "worker": worker, "broker": broker, "dashboard": dashboard} {
		if _, err := bus.Bucket(streams.BucketPolicy).Get(w.ctx, "current"); err != nil {
			t.Errorf("%s reads the policy: %v", who, err)
		}
		watching, stop := context.WithCancel(w.ctx)
		var seen []string
		err := bus.Bucket(streams.BucketKeys).Watch(watching, "", func(e streams.Entry) error {
			seen = append(seen, string(e.Value))
			switch len(seen) {
			case 2: // the current entry and the end mark
				_, err := broker.Bucket(streams.BucketKeys).Put(w.ctx, streamstest.Route.Slug, []byte("next key of "+who))
				return err
			case 3:
				stop()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || len(seen) != 3 || seen[2] != "next key of "+who {
			t.Errorf("%s watches keys: %q %v", who, seen, err)
		}
	}
	serving, stop := context.WithCancel(w.ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- broker.Serve(serving, streams.ServeOptions{Subject: streams.SubjectBroker(streams.VerbGrant), Queue: streams.BrokerGroup, Ready: func() { close(ready) }},
			func(context.Context, streams.Request) ([]byte, error) { return []byte("granted"), nil })
	}()
	<-ready
	if answer, err := worker.Call(w.ctx, streams.SubjectBroker(streams.VerbGrant), nil); err != nil || string(answer) != "granted" {
		t.Errorf("worker asks for a grant: %q %v", answer, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// records lets settlement read receipts and publish credit.
func records(t *testing.T, w *world) {
	t.Helper()
	settler := w.bus(string(access.RoleSettler))
	feed := settler.Receipts()
	defer feed.Close()
	list, err := feed.Read(w.ctx, 0, 100)
	if err != nil || len(list) < 3 {
		t.Errorf("settler reads receipts: %d %v", len(list), err)
	}
	if _, err := settler.Bucket(streams.BucketCredit).Put(w.ctx, string(w.tenants[0]), []byte("credit")); err != nil {
		t.Errorf("settler publishes credit: %v", err)
	}
	if _, err := w.bus(string(w.tenants[0])).Bucket(streams.BucketCredit).Get(w.ctx, string(w.tenants[0])); err != nil {
		t.Errorf("producer reads its credit: %v", err)
	}
}

// waitFor polls until ok holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestDenials tries what each role must not do, in both layouts. A denial is either the server's own or silence: across
// accounts a foreign subject simply leads nowhere.
func TestDenials(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]func(*testing.T) *world{"development": development, "production": production} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := layout(t)
			operator := w.bus(string(access.RoleOperator))
			if _, err := operator.Apply(w.ctx, streams.Topology{Lanes: lanes}); err != nil {
				t.Fatal(err)
			}
			if err := operator.CreateConsumer(w.ctx, streamstest.Route, schemas.Standard); err != nil {
				t.Fatal(err)
			}
			mine, other := string(w.tenants[0]), string(w.tenants[1])
			worker, slug := string(w.worker.Worker), streamstest.Route.Slug
			api := "$JS.API"
			if w.worker.API != "" {
				api = w.worker.API
			}
			for _, d := range []struct{ user, what, subject, body string }{
				{mine, "publishes a job of another tenant", "jobs.0." + slug + ".standard." + other, "x"},
				{mine, "stores a body of another tenant", "body." + other + ".x.0", "x"},
				{mine, "cancels a job of another tenant", "ctl.cancel." + other + ".x", "{}"},
				{mine, "reads outcomes of another tenant", "$JS.API.DIRECT.GET.OUT.out." + other + ".x", ""},
				{mine, "reads outcomes by position", "$JS.API.DIRECT.GET.OUT", `{"seq":1}`},
				{mine, "reads bodies of another tenant", "$JS.API.DIRECT.GET.BODIES.body." + other + ".x.0", ""},
				{mine, "lists the subjects of outcomes", "$JS.API.STREAM.INFO.OUT", `{"subjects_filter":">"}`},
				{mine, "creates a consumer", "$JS.API.CONSUMER.CREATE.OUT.x", "{}"},
				{mine, "pulls jobs", "$JS.API.CONSUMER.MSG.NEXT.JOBS_0." + streams.QueueName(slug, schemas.Standard, 0), "1"},
				{mine, "publishes an outcome", "out." + mine + ".x", "x"},
				{mine, "publishes a policy", "$KV.POLICY.current", "x"},
				{mine, "sets its credit", "$KV.CREDIT." + mine, "x"},
				{mine, "reads the credit of another", "$JS.API.DIRECT.GET.KV_CREDIT.$KV.CREDIT." + other, ""},
				{mine, "asks for a grant", "broker.grant", "x"},
				{mine, "purges the jobs", "$JS.API.STREAM.PURGE.JOBS_0", ""},
				{worker, "publishes a job", "jobs.0." + slug + ".standard." + mine, "x"},
				{worker, "pulls another model's jobs", api + ".CONSUMER.MSG.NEXT.JOBS_0.other_standard", "1"},
				{worker, "acknowledges another model's jobs", "$JS.ACK.JOBS_0.other_standard.1.1.1.1.1", "+ACK"},
				{worker, "creates a consumer", api + ".CONSUMER.CREATE.JOBS_0.x", "{}"},
				{worker, "changes its consumer", api + ".CONSUMER.CREATE.JOBS_0." + streams.QueueName(slug, schemas.Standard, 0) + ".q.0." + slug + ".standard.*.*", "{}"},
				{worker, "pauses its queue", api + ".CONSUMER.PAUSE.JOBS_0." + streams.QueueName(slug, schemas.Standard, 0), "{}"},
				{worker, "speaks as another worker", "$KV.WORKERS.worker.wother", "x"},
				{worker, "judges itself", "$KV.WORKERS.reputation." + worker, "x"},
				{worker, "publishes a key", "$KV.KEYS." + slug, "x"},
				{worker, "writes an audit record", "audit.x", "x"},
				{worker, "deletes a job", api + ".STREAM.MSG.DELETE.JOBS_0", `{"seq":1}`},
				{worker, "stores weights", "weight.x.0", "x"},
				{worker, "gossips as a broker", "broker.gossip", "x"},
				{"settler", "publishes an outcome", "out." + mine + ".x", "x"},
				{"settler", "publishes a policy", "$KV.POLICY.current", "x"},
				{"settler", "reads jobs", "$JS.API.DIRECT.GET.JOBS_0", `{"seq":1}`},
				{"broker", "sets a credit", "$KV.CREDIT." + mine, "x"},
				{"broker", "publishes a policy", "$KV.POLICY.current", "x"},
				{"broker", "reads jobs", "$JS.API.DIRECT.GET.JOBS_0", `{"seq":1}`},
				{"control", "publishes a job", "jobs.0." + slug + ".standard." + mine, "x"},
				{"control", "changes a stream", "$JS.API.STREAM.UPDATE.OUT", "{}"},
				{"control", "deletes a stream", "$JS.API.STREAM.DELETE.OUT", ""},
				{"control", "publishes a key", "$KV.KEYS." + slug, "x"},
				{"operator", "deletes a stream", "$JS.API.STREAM.DELETE.OUT", ""},
				{"operator", "purges outcomes", "$JS.API.STREAM.PURGE.OUT", ""},
				{"operator", "sets a credit", "$KV.CREDIT." + mine, "x"},
				{"operator", "publishes an outcome", "out." + mine + ".x", "x"},
				{"dashboard", "pauses a queue", "$JS.API.CONSUMER.PAUSE.JOBS_0." + streams.QueueName(slug, schemas.Standard, 0), "{}"},
				{"dashboard", "changes the fleet", "$KV.FLEET.model." + slug, "x"},
				{"dashboard", "deletes a dead letter", "$JS.API.STREAM.MSG.DELETE.DLQ", `{"seq":1}`},
			} {
				bus := w.bus(d.user)
				if _, err := bus.Call(w.ctx, d.subject, []byte(d.body)); !errors.Is(err, schemas.KindDenied) {
					t.Errorf("%s %s: %v", d.user, d.what, err)
				}
			}
			for _, d := range []struct{ user, what, subject string }{
				{mine, "hears outcomes of another tenant", "res." + other + ".*"},
				{mine, "hears chunks of another tenant", "chunk." + other + ".*"},
				{mine, "hears jobs arrive", "wake.>"},
				{mine, "hears a worker's answers", access.Inbox(worker) + ".>"},
				{mine, "hears everything", ">"},
				{worker, "hears outcomes", "res.>"},
				{worker, "hears chunks", "chunk.>"},
				{worker, "hears another model's jobs arrive", "wake.0.other.*.*"},
				{worker, "hears grants", "broker.grant"},
				{worker, "hears another's answers", access.Inbox(mine) + ".>"},
				{"settler", "hears chunks", "chunk.>"},
				{"broker", "hears outcomes", "res.>"},
				{"control", "hears chunks", "chunk.>"},
				{"dashboard", "hears chunks", "chunk.>"},
			} {
				bus := w.bus(d.user)
				sub, err := bus.Conn().SubscribeSync(d.subject)
				if err != nil {
					t.Fatal(err)
				}
				if err := bus.Flush(w.ctx); err != nil {
					t.Fatal(err)
				}
				short, cancel := context.WithTimeout(w.ctx, 2*time.Second)
				if _, err := sub.NextMsgWithContext(short); !errors.Is(err, nats.ErrPermissionViolation) {
					t.Errorf("%s %s: %v", d.user, d.what, err)
				}
				cancel()
			}
		})
	}
}

// TestReplyInjection names a foreign subject as the reply of calls that are allowed. In one account the server answers there on its own
// authority; with an account per tenant and one for workers nothing arrives.
func TestReplyInjection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layout func(*testing.T) *world
		hits   bool
	}{"development": {development, true}, "production": {production, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := c.layout(t)
			operator := w.bus(string(access.RoleOperator))
			if _, err := operator.Apply(w.ctx, streams.Topology{Lanes: lanes}); err != nil {
				t.Fatal(err)
			}
			mine, other := w.tenants[0], w.tenants[1]
			worker := w.bus(string(w.worker.Worker))
			job := streamstest.Job(mine, []byte("sealed"), nil)
			if _, err := worker.PublishOutcome(w.ctx, streamstest.Outcome(job.Attributes, []byte("result"))); err != nil {
				t.Fatal(err)
			}
			target := streams.SubjectJob(streamstest.Route, schemas.Standard, other)
			producer := w.bus(string(mine))
			get := "$JS.API.DIRECT.GET.OUT." + streams.SubjectOutcome(mine, job.Attributes.ID)
			if err := producer.Conn().PublishRequest(get, target, nil); err != nil {
				t.Fatal(err)
			}
			if err := producer.Flush(w.ctx); err != nil {
				t.Fatal(err)
			}
			stored := func() int {
				n := 0
				if err := operator.Stored(w.ctx, streams.StreamJobs(0), func(streams.StoredMessage) error { n++; return nil }); err != nil {
					t.Fatal(err)
				}
				return n
			}
			if c.hits {
				waitFor(t, "the injected message arrives: if it does not any more, accounts may not be needed", func() bool { return stored() == 1 })
				return
			}
			// The same calls with an honest reply prove that the server has dealt with the others.
			if _, err := producer.Outcome(w.ctx, mine, job.Attributes.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // nothing may happen
			if n := stored(); n != 0 {
				t.Errorf("%d messages injected into another tenant's queue", n)
			}
		})
	}
}

// TestNetworkCheck refuses keys of the wrong kind.
func TestNetworkCheck(t *testing.T) {
	t.Parallel()
	if _, err := access.Production(access.Network{}); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("no keys: %v", err)
	}
	for _, role := range access.Services() {
		if _, err := access.Of(role); err != nil {
			t.Errorf("%s has no table: %v", role, err)
		}
	}
	if _, err := access.Of("nobody"); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("an unknown role: %v", err)
	}
}

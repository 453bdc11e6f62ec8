package streams_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// A job goes from a producer to a worker and its outcome back, over a server in this process.
func Example() {
	dir, err := os.MkdirTemp("", "streams")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Options{Dir: dir, InProcessOnly: true})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	bus, err := streams.Connect(ctx, streams.Config{InProcess: server.InProcess()})
	if err != nil {
		panic(err)
	}
	defer bus.Close(ctx)
	if _, err := bus.Apply(ctx, streams.Topology{}); err != nil {
		panic(err)
	}

	// The producer: what is in the envelope, only the tenant and an attested worker know.
	model := schemas.ModelRef{Name: "example", Revision: "1", Root: schemas.HashOf([]byte("weights"))}
	now := time.Now().UTC().Truncate(time.Second)
	job := streams.Job{Shard: 0, Envelope: []byte("sealed"), Attributes: schemas.Attributes{
		ID: schemas.NewJobID(), Tenant: schemas.NewTenantID(), Time: now, Model: model.ID(), Class: schemas.Standard,
		Key: schemas.KeyIDOf([]byte("key")), Expiry: now.Add(time.Hour), Policy: schemas.HashOf([]byte("policy")), Budget: 1000, Attempts: 3,
	}}
	ack, err := bus.PublishJob(ctx, job)
	fmt.Println("stored:", ack.Stream, ack.Seq, err)

	// The worker: as many jobs as it has free slots, the outcome first, the acknowledgement last.
	puller, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streams.Route{Shard: 0, Slug: model.Slug()}})
	if err != nil {
		panic(err)
	}
	defer puller.Close()
	deliveries, err := puller.Next(ctx, 4)
	fmt.Println("taken:", len(deliveries), err)
	outcome := schemas.Outcome{
		Job: job.Attributes.ID, Tenant: job.Attributes.Tenant, Model: model.ID(), Status: schemas.Succeeded,
		Grant: "grant", Receipt: "receipt", Body: []byte("sealed result"),
	}
	first, err := bus.PublishOutcome(ctx, outcome)
	fmt.Println("first outcome:", first, err)
	fmt.Println("done:", deliveries[0].Done(ctx))

	// The producer again, now or days later.
	got, err := bus.AwaitOutcome(ctx, job.Attributes.Tenant, job.Attributes.ID)
	fmt.Printf("outcome: %s %q %v\n", got.Status, got.Body, err)

	// Output:
	// stored: JOBS_0 1 <nil>
	// taken: 1 <nil>
	// first outcome: true <nil>
	// done: <nil>
	// outcome: succeeded "sealed result" <nil>
}

// A topology is printed with its defaults, edited, and read again.
func ExampleParseTopology() {
	t, err := streams.ParseTopology([]byte(`{"shards": 4, "replicas": 3, "streams": {"OUT": {"max_age": 1209600000000000}}}`))
	fmt.Println(t.Shards, t.Replicas, t.Lanes, err)
	_, err = streams.ParseTopology([]byte(`{"streams": {"OUT": {"persist_mode": "async"}}}`))
	fmt.Println(err)
	// Output:
	// 4 3 16 <nil>
	// invalid: streams.OUT.persist_mode: may not be set otherwise: it carries a guarantee
}

package producers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// A program asks a question and waits for the answer. What it trusts is verified before the question is sealed; what it
// paid stands in the answer.
func ExampleClient_Do() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		tenant := n.Net.Tenant(t) // a real program reads its identity from a file with enclave.ParseTenant

		// A real program dials: producers.Dial(ctx, streams.Config{URL: "nats://…"}, options).
		client, err := producers.New(n.Connect(t), producers.Options{Tenant: tenant, Trust: n.Trust()})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer client.Close(ctx)

		answer, err := client.Do(ctx, producers.Job{
			Body: []byte(`{"model":"tiny","messages":[{"role":"user","content":"good morning"}],"max_tokens":16}`),
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Text())
		fmt.Println(answer.Usage.Total(), "tokens cost", answer.Charge.Total, "in a", answer.Environment, "environment")
	})
	// Output:
	// you said: good morning
	// 15 tokens cost 0.000000029 TON in a simulated environment
}

// A service hands a job over and comes back for the answer later: by the handle, or by the job's id.
func ExampleClient_Submit() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		client := n.Client(t)
		handle, err := client.Submit(ctx, producers.Job{Body: producerstest.Ask("take your time", "")})
		if err != nil {
			fmt.Println(err)
			return
		}
		status, err := client.Get(ctx, handle.ID)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(status.State)

		n.Work(t, producerstest.Echo) // a worker turns up
		answer, err := handle.Wait(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Text())
	})
	// Output:
	// published
	// you said: take your time
}

// A chat shows the answer while it grows. If live chunks are lost the rest comes from the outcome, and a stream that
// cannot be completed ends with an error.
func ExampleClient_Stream() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		client := n.Client(t)
		for event, err := range client.Stream(ctx, producers.Job{Body: producerstest.Ask("hello there", `,"stream":true`)}) {
			switch {
			case err != nil:
				fmt.Println(err)
			case event.Answer != nil:
				fmt.Println("whole:", event.Answer.Text())
			}
		}
	})
	// Output:
	// whole: you said: hello there
}

// The same key is the same job, however often it is submitted and from however many machines. Another request under the
// key is refused.
func ExampleJob_idempotencyKey() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		worker, _ := n.Work(t, producerstest.Echo)
		client := n.Client(t)
		job := producers.Job{Body: producerstest.Ask("invoice 7", ""), IdempotencyKey: "invoice-7"}
		for range 3 {
			if _, err := client.Do(ctx, job); err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println("ran", worker.Runs(), "time")

		job.Body = producerstest.Ask("invoice 8", "")
		_, err := client.Do(ctx, job)
		fmt.Println(errors.Is(err, schemas.KindConflict))
	})
	// Output:
	// ran 1 time
	// true
}

// A process that died finds its jobs in the record and takes them up: the same bytes are sent again, and nothing is paid
// twice.
func ExampleClient_Resume() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		tenant, path := n.Net.Tenant(t), t.TempDir()+"/jobs"

		record, err := producers.OpenFileRecord(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		client := n.Client(t, producerstest.As(tenant), producerstest.With(record))
		for _, question := range []string{"one", "two"} {
			if _, err := client.Submit(ctx, producers.Job{Body: producerstest.Ask(question, "")}); err != nil {
				fmt.Println(err)
			}
		}
		client.Close(ctx) // the process ends here
		record.Close()

		worker, _ := n.Work(t, producerstest.Echo)
		record, err = producers.OpenFileRecord(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer record.Close()
		client = n.Client(t, producerstest.As(tenant), producerstest.With(record))
		answered := 0
		for settled, err := range client.Resume(ctx) {
			if err == nil && settled.Err == nil {
				answered++
			}
		}
		fmt.Println(answered, "answered,", worker.Runs(), "runs")
		client.Close(ctx)
	})
	// Output: 2 answered, 2 runs
}

// Failures have kinds: what to do follows from the kind, not from the text.
func ExampleClient_Do_failure() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		client := n.Client(t)
		_, err := client.Do(ctx, producers.Job{Body: []byte(`{"model":"tiny","messages":[],"max_tokens":"many"}`)})
		var e *schemas.Error
		if errors.As(err, &e) {
			fmt.Println(e.Kind, "at", e.Field, "- retry:", e.Retriable())
		}
		_, err = client.Do(ctx, producers.Job{Body: []byte(`{"model":"nobody","messages":[]}`)})
		fmt.Println(errors.Is(err, schemas.KindUnknownModel))
	})
	// Output:
	// invalid at max_tokens - retry: false
	// true
}

// What a job may cost is known before it is submitted; MaxCost puts a lid on it.
func ExampleClient_Price() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		client := n.Client(t)
		job := producers.Job{Body: producerstest.Ask("how much?", ""), Class: schemas.Batch, Timeout: time.Hour}
		cost, err := client.Price(ctx, job)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("expected", cost.Expected, "at worst", cost.Worst)
	})
	// Output: expected 0.000000026 TON at worst 0.00000033 TON
}

// Bulk goes in three steps, so that a program can write down what it seals before it is sent.
func ExampleClient_Seal() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		client := n.Client(t)
		jobs := make([]producers.Job, 100)
		for i := range jobs {
			jobs[i].Body = producerstest.Ask(fmt.Sprint("question ", i), "")
		}
		sealed, err := client.Seal(ctx, jobs)
		if err != nil {
			fmt.Println(err)
			return
		}
		collector := client.Collect()
		defer collector.Close()
		if err := collector.Add(ctx, sealed, false); err != nil {
			fmt.Println(err)
			return
		}
		for _, r := range client.Publish(ctx, sealed) {
			if r.Err != nil {
				fmt.Println(r.Err)
			}
		}
		answered := 0
		for range sealed {
			settled, err := collector.Next(ctx)
			if err != nil || settled.Err != nil {
				fmt.Println(err, settled.Err)
				return
			}
			answered++
		}
		fmt.Println(answered, "answers")
	})
	// Output: 100 answers
}

// A job is cancelled by its id; one that nobody has started costs nothing.
func ExampleClient_Cancel() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Control(t)
		client := n.Client(t)
		handle, err := client.Submit(ctx, producers.Job{Body: producerstest.Ask("never mind", "")})
		if err != nil {
			fmt.Println(err)
			return
		}
		state, err := client.Cancel(ctx, handle.ID)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = handle.Wait(ctx)
		fmt.Println(state, errors.Is(err, schemas.KindCancelled))
	})
	// Output: cancelled true
}

// Watch waits for a job that another process submitted.
func ExampleClient_Watch() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		tenant := n.Net.Tenant(t)
		handle, err := n.Client(t, producerstest.As(tenant)).Submit(ctx, producers.Job{Body: producerstest.Ask("from here", "")})
		if err != nil {
			fmt.Println(err)
			return
		}
		elsewhere := n.Client(t, producerstest.As(tenant))
		n.Work(t, producerstest.Echo)
		answer, err := elsewhere.Watch(ctx, handle.ID)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Text())
	})
	// Output: you said: from here
}

// Get asks what became of a job without waiting, also from another machine of the tenant and days later.
func ExampleClient_Get() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		tenant := n.Net.Tenant(t)
		here, elsewhere := n.Client(t, producerstest.As(tenant)), n.Client(t, producerstest.As(tenant))
		handle, err := here.Submit(ctx, producers.Job{Body: producerstest.Ask("later", "")})
		if err != nil {
			fmt.Println(err)
			return
		}
		status, err := here.Get(ctx, handle.ID)
		fmt.Println(status.State, err)
		n.Work(t, producerstest.Echo)
		if _, err := handle.Wait(ctx); err != nil {
			fmt.Println(err)
			return
		}
		status, err = elsewhere.Get(ctx, handle.ID)
		fmt.Println(status.State, status.Answer.Text(), err)
		_, err = elsewhere.Get(ctx, schemas.NewJobID())
		fmt.Println(errors.Is(err, schemas.KindNotFound))
	})
	// Output:
	// published <nil>
	// done you said: later <nil>
	// true
}

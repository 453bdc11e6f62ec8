//go:build !worker

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/enginebench"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// throughPlan is how much is asked. Levels are numbers of requests that are under way at a time.
type throughPlan struct {
	rounds, perLevel, tokens, singles int
	levels                            []int
	shape                             gguf.Shape
}

// throughBench compares an engine that is fed directly with its twin behind the network: sealed, queued, granted, run by a
// worker, streamed, opened. Both get the same prompts from as many askers; they take turns, so neither disturbs the other.
type throughBench struct {
	plan   throughPlan
	direct *ggml.Engine
	behind *ggml.Engine
	client *producers.Client
}

// asker asks one question and returns the time to the first piece of the answer.
type asker func(ctx context.Context, body []byte) (first time.Duration, err error)

// benchThrough measures both ways at all levels.
func benchThrough(ctx context.Context, plan throughPlan) (figures []cli.Figure, err error) {
	n, err := newBenchNet(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	b := &throughBench{plan: plan}
	if err := b.open(ctx, n); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.direct.Close(), b.behind.Close()) }()
	end, err := n.serveOn(ctx, b.behind)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if b.client, err = producers.New(n.bus, producers.Options{
		Tenant: n.tenant, Trust: n.trust, Collateral: n.platform.Collateral(), Linkable: true,
	}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.client.Close(context.WithoutCancel(ctx))) }()
	return b.measure(ctx)
}

// open opens the twins.
func (b *throughBench) open(ctx context.Context, n *benchNet) (err error) {
	var model bytes.Buffer
	shape := b.plan.shape
	if shape == (gguf.Shape{}) {
		shape = enginebench.Plan{}.WithDefaults().Shape
	}
	if err := gguf.Random(&model, shape); err != nil {
		return err
	}
	o := ggml.Options{Name: string(n.model.ID), Slots: 16, Context: 256, Threads: 1, Queue: 64, Digest: "bench"}
	if b.direct, err = ggml.OpenBytes(ctx, model.Bytes(), o); err != nil {
		return err
	}
	if b.behind, err = ggml.OpenBytes(ctx, model.Bytes(), o); err != nil {
		return errors.Join(err, b.direct.Close())
	}
	return nil
}

// measure takes turns between the two ways.
func (b *throughBench) measure(ctx context.Context) (figures []cli.Figure, err error) {
	ways := []asker{b.askDirect, b.askThrough}
	for _, ask := range ways { // warms up: trust, connections, memory
		if _, err := b.level(ctx, ask, 4, 8); err != nil {
			return nil, err
		}
	}
	for _, level := range b.plan.levels {
		var took [2]time.Duration
		for range b.plan.rounds {
			for i, ask := range ways {
				d, err := b.level(ctx, ask, level, max(b.plan.perLevel, 2*level))
				if err != nil {
					return nil, err
				}
				took[i] += d
			}
		}
		ratio := took[0].Seconds() / took[1].Seconds()
		name := fmt.Sprintf("through_network_%d", level)
		if level == b.plan.levels[len(b.plan.levels)-1] { // more than slots: saturation
			figures = append(figures, cli.AtLeast(name, "ratio", ratio, 0.97))
		} else {
			figures = append(figures, cli.Reported(name, "ratio", ratio))
		}
	}
	var firsts [2][]time.Duration
	for i := range b.plan.singles {
		for way, ask := range ways {
			first, err := ask(ctx, b.body(i))
			if err != nil {
				return nil, err
			}
			firsts[way] = append(firsts[way], first)
		}
	}
	direct, through := quantile(firsts[0], 0.5), quantile(firsts[1], 0.5)
	return append(figures,
		cli.Reported("ttft_direct", "ms", milliseconds(direct)), cli.Reported("ttft_through_network", "ms", milliseconds(through)),
		cli.AtMost("ttft_added", "ms", milliseconds(through-direct), 3),
	), nil
}

// body is question i.
func (b *throughBench) body(i int) []byte {
	return fmt.Appendf(nil, `{"model":"bench","stream":true,"temperature":0,"ignore_eos":true,"max_completion_tokens":%d,`+
		`"messages":[{"role":"user","content":"question %d of the benchmark"}]}`, b.plan.tokens, i)
}

// level asks n questions, as many at a time as the level says, and returns the whole time.
func (b *throughBench) level(ctx context.Context, ask asker, level, n int) (time.Duration, error) {
	var next atomic.Int64
	errs := make([]error, level)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range level {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n && errs[w] == nil; i = int(next.Add(1)) {
				_, errs[w] = ask(ctx, b.body(i))
			}
		})
	}
	wg.Wait()
	return time.Since(start), errors.Join(errs...)
}

// askDirect gives the engine a request.
func (b *throughBench) askDirect(ctx context.Context, body []byte) (first time.Duration, err error) {
	start := time.Now()
	s, err := b.direct.Submit(ctx, &consumers.Request{URL: consumers.PathChat, Tenant: "bench", Body: body})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err != nil {
			return 0, err
		}
		if first == 0 {
			first = time.Since(start)
		}
		if ev.Done != nil {
			return first, b.whole(ev.Done.Usage)
		}
	}
}

// askThrough gives the network a request.
func (b *throughBench) askThrough(ctx context.Context, body []byte) (first time.Duration, err error) {
	start := time.Now()
	for ev, err := range b.client.Stream(ctx, producers.Job{Body: body}) {
		if err != nil {
			return 0, err
		}
		if first == 0 {
			first = time.Since(start)
		}
		if ev.Answer != nil {
			return first, b.whole(ev.Answer.Usage)
		}
	}
	return 0, &schemas.Error{Kind: schemas.KindInternal, Message: "a stream ended without an answer"}
}

// whole refuses an answer that is not of full length.
func (b *throughBench) whole(u schemas.Usage) error {
	if u.Completion != uint64(b.plan.tokens) {
		return &schemas.Error{Kind: schemas.KindEngine, Message: fmt.Sprintf("%d tokens instead of %d", u.Completion, b.plan.tokens)}
	}
	return nil
}

package main

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/cocoon-network/cocoon/consumers"
	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/openai"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// engineBuild says how the kernels of the embedded engine were compiled.
func engineBuild() string { return ggml.Build() }

// engineOpener is how a worker gets the engine of a model: the embedded one in a child process or in this one, or any
// OpenAI-compatible server.
func engineOpener(conf workerConfig, output io.Writer, log *slog.Logger) (consumerscli.OpenEngine, error) {
	switch {
	case conf.Engine == "child":
		return consumerscli.OpenChild(consumerscli.ChildOptions{Slots: conf.Slots, Threads: conf.Threads, GPU: conf.GPU, Output: output, Log: log}), nil
	case conf.Engine == "embedded":
		return openEmbedded(ggml.Options{Slots: conf.Slots, Threads: conf.Threads, GPU: conf.GPU, Log: log}), nil
	case strings.HasPrefix(conf.Engine, "http://"), strings.HasPrefix(conf.Engine, "https://"), strings.HasPrefix(conf.Engine, "unix:"):
		return func(_ context.Context, _ string, m schemas.Model) (consumers.Engine, error) {
			ref, err := schemas.ParseModelID(string(m.ID))
			if err != nil {
				return nil, err
			}
			return openai.New(openai.Options{URL: conf.Engine, Model: ref.Name, Log: log})
		}, nil
	}
	return nil, cli.Usagef(`--engine must be child, embedded, or the URL of an OpenAI-compatible server, not %q`, conf.Engine)
}

// openEmbedded opens the embedded engine on a folder of weights, inside this process. The catalogue says name and context.
func openEmbedded(o ggml.Options) consumerscli.OpenEngine {
	return func(ctx context.Context, dir string, m schemas.Model) (consumers.Engine, error) {
		o := o
		o.Name, o.Context = string(m.ID), m.Context
		e, err := ggml.OpenFolder(ctx, dir, o)
		if err != nil {
			return nil, err // not e: a nil *Engine is no nil interface
		}
		return e, nil
	}
}

package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/engineserver"
	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// EngineConfig is the section "engine" of the configuration. Numbers that are 0 mean the engine's default.
type EngineConfig struct {
	// Listen is unix:/path or host:port.
	Listen string `koanf:"listen"`
	// Models are NAME=FILE, NAME of a model in the local store, or a path.
	Models []string `koanf:"model"`
	// Store is the folder of local models.
	Store string `koanf:"store"`
	// Slots, Context, Cells, StepTokens, Threads and Queue as in ggml.Options.
	Slots      int `koanf:"slots"`
	Context    int `koanf:"context"`
	Cells      int `koanf:"cells"`
	StepTokens int `koanf:"step_tokens"`
	Threads    int `koanf:"threads"`
	Queue      int `koanf:"queue"`
	// GPU puts all layers on the first GPU.
	GPU bool `koanf:"gpu"`
	// KeyFile holds the bearer token that clients must have.
	KeyFile string `koanf:"key_file"`
	// Trusted lets clients name the tenant; for a socket that only the worker can reach.
	Trusted bool `koanf:"trusted"`
	// Admin serves /models/load and /models/unload.
	Admin bool `koanf:"admin"`
}

// Engine is `cocoon engine`: the embedded engine as an OpenAI-compatible server. builtin is a folder with one GGUF file
// that is served when no model is named; nil if there is none.
func Engine(builtin fs.FS) *cobra.Command {
	c := EngineConfig{Listen: "127.0.0.1:8000", Store: DefaultStore()}
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Serve GGUF models over OpenAI's HTTP interface",
		Long: `The embedded engine as a server: chat, completions, streaming, /health, /metrics. A worker runs it as its child on a
unix socket; alone it is a small model server. Without --model it serves the demonstration model.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&c.Listen, "listen", c.Listen, "unix:/path or host:port")
	f.StringArrayVar(&c.Models, "model", nil, "NAME=FILE, a file, or the name of a local model; may be repeated")
	f.StringVar(&c.Store, "store", c.Store, "folder of local models")
	f.IntVar(&c.Slots, "slots", 0, "requests that run together (default 16)")
	f.IntVar(&c.Context, "context", 0, "most tokens of a request (default what the model was made for, at most 8192)")
	f.IntVar(&c.Cells, "cells", 0, "key-value memory in tokens (default slots times context, within 1 GiB)")
	f.IntVar(&c.StepTokens, "step-tokens", 0, "most tokens of a forward pass (default 256)")
	f.IntVar(&c.Threads, "threads", 0, "CPU threads (default one less than there are)")
	f.IntVar(&c.Queue, "queue", 0, "requests that may wait (default 4 per slot)")
	f.BoolVar(&c.GPU, "gpu", false, "put all layers on the first GPU")
	f.StringVar(&c.KeyFile, "key-file", "", "file with the bearer token that clients must have")
	f.BoolVar(&c.Trusted, "trusted", false, "believe clients who the tenant is; for the worker's socket only")
	f.BoolVar(&c.Admin, "admin", false, "serve /models/load and /models/unload")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.Load(cmd, "engine", &c); err != nil {
			return err
		}
		return serveEngine(cmd.Context(), cmd.ErrOrStderr(), c, builtin)
	}
	return cmd
}

// serveEngine runs until ctx ends.
func serveEngine(ctx context.Context, stderr io.Writer, c EngineConfig, builtin fs.FS) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	slog.SetDefault(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))) // ollama's packages log here
	if c.Trusted && !strings.HasPrefix(c.Listen, "unix:") {
		return cli.Usagef("--trusted needs a unix socket")
	}
	o := engineserver.Options{Trusted: c.Trusted, Log: log}
	if c.KeyFile != "" {
		b, err := os.ReadFile(c.KeyFile)
		if o.Key = strings.TrimSpace(string(b)); err != nil || o.Key == "" {
			return cli.Usagef("--key-file %s has no key", c.KeyFile)
		}
	}
	if c.Admin {
		o.Load = func(ctx context.Context, name string) (consumers.Engine, error) {
			return c.open(ctx, name, filepath.Join(c.Store, name+".gguf"), log) // names only: no paths from clients
		}
	}
	s := engineserver.New(o)
	if err := c.load(ctx, s, builtin, log); err != nil {
		return err
	}
	l, err := engineserver.Listen(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", c.Listen, err)
	}
	log.Info("the engine serves", "listen", c.Listen, "build", ggml.Build())
	return s.Run(ctx, l)
}

// load opens the models that were named, or the built-in one.
func (c *EngineConfig) load(ctx context.Context, s *engineserver.Server, builtin fs.FS, log *slog.Logger) error {
	for _, m := range c.Models {
		name, path := c.find(m)
		e, err := c.open(ctx, name, path, log)
		if err != nil {
			return fmt.Errorf("--model %s: %w", m, err)
		}
		if err := s.Add(name, e); err != nil {
			e.Close()
			return fmt.Errorf("--model %s: %w", m, err)
		}
	}
	if len(c.Models) > 0 || builtin == nil {
		return nil
	}
	files, err := fs.Glob(builtin, "*.gguf")
	if err != nil || len(files) != 1 {
		return &schemas.Error{Kind: schemas.KindInternal, Message: "the built-in model is not one file"}
	}
	b, err := fs.ReadFile(builtin, files[0])
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(files[0], ".gguf")
	e, err := ggml.OpenBytes(ctx, b, c.options(name, log))
	if err != nil {
		return err
	}
	return s.Add(name, e)
}

// find reads a --model flag.
func (c *EngineConfig) find(m string) (name, path string) {
	if name, path, ok := strings.Cut(m, "="); ok {
		return name, path
	}
	if local, err := storePath(c.Store, m); err == nil {
		if _, err := os.Stat(local); err == nil {
			return m, local
		}
	}
	return strings.TrimSuffix(filepath.Base(m), filepath.Ext(m)), m
}

// open loads one model, a file or a folder with one.
func (c *EngineConfig) open(ctx context.Context, name, path string, log *slog.Logger) (consumers.Engine, error) {
	open := ggml.Open
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		open = ggml.OpenFolder
	}
	e, err := open(ctx, path, c.options(name, log))
	if err != nil {
		return nil, err // not e: a nil *Engine is no nil interface
	}
	return e, nil
}

func (c *EngineConfig) options(name string, log *slog.Logger) ggml.Options {
	return ggml.Options{
		Name: name, Slots: c.Slots, Context: c.Context, Cells: c.Cells, StepTokens: c.StepTokens, Threads: c.Threads, Queue: c.Queue,
		GPU: c.GPU, Log: log,
	}
}

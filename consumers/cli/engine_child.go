package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// ChildOptions say how a worker runs its engine as a child process.
type ChildOptions struct {
	// Program is the cocoon binary; "" means this one.
	Program string
	// Slots and Threads as in ggml.Options; 0 means the default.
	Slots, Threads int
	// GPU puts all layers on the first GPU.
	GPU bool
	// Output gets the child's log; nil discards it.
	Output io.Writer
	// Ready bounds the wait for the model to be loaded; 0 means 10 minutes.
	Ready time.Duration
	Log   *slog.Logger
}

// OpenChild makes an [OpenEngine] that runs `cocoon engine` as a supervised child on a private unix socket: a crash of
// native code, or memory running out there, takes neither keys nor leases with it.
func OpenChild(o ChildOptions) OpenEngine {
	return func(ctx context.Context, dir string, m schemas.Model) (consumers.Engine, error) {
		if o.Program == "" {
			self, err := os.Executable()
			if err != nil {
				return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "the program's own path is not known", Err: err}
			}
			o.Program = self
		}
		private, err := os.MkdirTemp("", "engine-") // only this user may enter; short, because paths of sockets are
		if err != nil {
			return nil, &schemas.Error{Kind: schemas.KindInternal, Message: "there is no place for a socket", Err: err}
		}
		e, err := o.start(ctx, "unix:"+filepath.Join(private, "s"), dir, m)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(private))
		}
		return &child{e, private}, nil
	}
}

// start runs the child and waits until it has the model.
func (o *ChildOptions) start(ctx context.Context, socket, dir string, m schemas.Model) (*openai.Supervised, error) {
	args := []string{"engine", "--listen", socket, "--trusted", "--model", string(m.ID) + "=" + dir}
	for flag, v := range map[string]int{"--slots": o.Slots, "--threads": o.Threads, "--context": m.Context} {
		if v > 0 {
			args = append(args, flag, strconv.Itoa(v))
		}
	}
	if o.GPU {
		args = append(args, "--gpu")
	}
	const patience = 10 * time.Minute
	wait := o.Ready
	if wait == 0 {
		wait = patience
	}
	e, err := openai.Supervise(openai.Child{
		Options: openai.Options{URL: socket, Model: string(m.ID), Flavour: "cocoon", Log: o.Log},
		Path:    o.Program, Args: args, Output: o.Output, StartTimeout: wait,
	})
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := e.Ready(limited); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// child is a supervised engine with the folder of its socket.
type child struct {
	*openai.Supervised
	private string
}

// Close implements consumers.Engine.
func (c *child) Close() error {
	return errors.Join(c.Supervised.Close(), os.RemoveAll(c.private))
}

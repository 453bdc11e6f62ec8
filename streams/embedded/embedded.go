// Package embedded runs a NATS server with JetStream inside this process: the broker of `cocoon up`, of the demo and of
// tests.
package embedded

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options say how the server runs.
type Options struct {
	// Dir holds the state; a second start on the same folder continues where the first stopped.
	Dir string
	// Host and Port are where it listens. Default 127.0.0.1 and 4222; Port -1 takes a free one.
	Host string
	Port int
	// InProcessOnly opens no port at all.
	InProcessOnly bool
	// Sync makes every acknowledged write survive a power loss, at a tenth of the speed; without it they survive kill -9.
	Sync bool
	// MaxBytes bounds the state on disk. Default: what the disk has.
	MaxBytes int64
	// ConfigFile is an optional nats.conf for what is not here; the fields above win.
	ConfigFile string
	// StartTimeout bounds the start, recovery of the state included. Default 30 s.
	StartTimeout time.Duration
	// Logger gets the server's warnings and errors. nil discards.
	Logger *slog.Logger
}

// Server is a running server.
type Server struct{ s *server.Server }

// Start runs a server. KindUnavailable: the port is taken; KindDenied: the folder cannot be written; KindCorrupt: the state
// in it cannot be read; KindConflict: another server uses it.
func Start(o Options) (*Server, error) { panic("unfinished") }

// URL is where clients connect.
func (s *Server) URL() string { panic("unfinished") }

// InProcess connects clients of this process without a socket; see streams.Config.
func (s *Server) InProcess() nats.InProcessConnProvider { panic("unfinished") }

// Close stops the server and returns when its state is on disk. A second Close does nothing.
func (s *Server) Close() { panic("unfinished") }

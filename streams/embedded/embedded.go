package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
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
	// MaxBytes bounds the state on disk. Default: three quarters of what is free, as the server decides.
	MaxBytes int64
	// ConfigFile is an optional nats.conf for what is not here (accounts, TLS, cluster); the fields above win when set.
	ConfigFile string
	// StartTimeout bounds the start, recovery of the state included. Default 30 s.
	StartTimeout time.Duration
	// Logger gets the server's warnings and errors. nil discards.
	Logger *slog.Logger
}

// defaultPort is the port of NATS.
const defaultPort = 4222

// maxControlLine leaves room for attestation evidence in a log-in.
const maxControlLine = 300_000

// Server is a running server.
type Server struct {
	server *server.Server
	lock   *os.File
	close  func()
}

// Start runs a server. KindConflict: the port is taken, or another server uses the folder; KindDenied: the folder cannot
// be written; KindCorrupt: the state in it cannot be read; KindInvalid: the settings or the file.
func Start(o Options) (*Server, error) {
	options, err := o.server()
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(options.StoreDir)
	if err != nil {
		return nil, err
	}
	s, err := run(o, options)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// run starts the server on a folder that is ours.
func run(o Options, options *server.Options) (*Server, error) {
	if err := checkPort(options); err != nil {
		return nil, err
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "nats-server: %w", err)
	}
	log := &serverLog{log: o.Logger}
	ns.SetLogger(log, false, false)
	s := &Server{server: ns}
	s.close = sync.OnceFunc(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
		if s.lock != nil {
			_ = s.lock.Close()
		}
	})
	go ns.Start()
	timeout := o.StartTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	err = ready(ns, log, timeout)
	if err == nil {
		err = checkRecovered(ns, options.StoreDir)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// ready waits until clients can connect, the server has given up or the time is over.
func ready(ns *server.Server, log *serverLog, timeout time.Duration) error {
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		if text := log.fatal(); text != "" {
			return schemas.Errorf(schemas.KindUnavailable, "nats-server did not start: %s", text)
		}
		if ns.ReadyForConnections(50 * time.Millisecond) {
			return nil
		}
	}
	return schemas.Errorf(schemas.KindUnavailable, "nats-server was not ready within %v", timeout)
}

// checkRecovered compares the streams on disk with those that the server has: it leaves out what it cannot read, with no
// more than a warning, and would then accept new messages in their place.
func checkRecovered(ns *server.Server, dir string) error {
	if !ns.JetStreamEnabled() {
		return schemas.Errorf(schemas.KindCorrupt, "JetStream did not start on %s", dir)
	}
	jsz, err := ns.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "state of JetStream: %w", err)
	}
	have := map[string]bool{}
	for _, account := range jsz.AccountDetails {
		for _, stream := range account.Streams {
			have[filepath.Join(account.Name, "streams", stream.Name)] = true
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*"))
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "folder %s: %w", dir, err)
	}
	for _, path := range found {
		name, err := filepath.Rel(filepath.Join(dir, server.JetStreamStoreDir), path)
		if err != nil || strings.HasPrefix(filepath.Base(path), ".") {
			continue
		}
		if !have[name] {
			return schemas.Errorf(schemas.KindCorrupt, "the stream in %s cannot be read; move it away to start without it", path)
		}
	}
	return nil
}

// server turns the options into those of nats-server.
func (o Options) server() (*server.Options, error) {
	options := &server.Options{}
	if o.ConfigFile != "" {
		var err error
		if options, err = server.ProcessConfigFile(o.ConfigFile); err != nil {
			return nil, schemas.Errorf(schemas.KindInvalid, "%s: %w", o.ConfigFile, err)
		}
	}
	if o.Dir != "" {
		options.StoreDir = o.Dir
	}
	if options.StoreDir == "" {
		return nil, schemas.FieldError("dir", "must name the folder of the state")
	}
	dir, err := filepath.Abs(options.StoreDir)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "folder: %w", err)
	}
	options.StoreDir = dir
	if o.Host != "" {
		options.Host = o.Host
	}
	if options.Host == "" {
		options.Host = "127.0.0.1"
	}
	if o.Port != 0 {
		options.Port = o.Port
	}
	if options.Port == 0 {
		options.Port = defaultPort
	}
	if o.MaxBytes > 0 {
		options.JetStreamMaxStore = o.MaxBytes
	}
	options.JetStream = true
	options.DontListen = o.InProcessOnly
	options.SyncAlways = options.SyncAlways || o.Sync
	options.NoSigs = true
	if options.MaxControlLine == 0 {
		options.MaxControlLine = maxControlLine
	}
	return options, nil
}

// checkPort refuses a port that is taken: the server itself would only log it and never become ready.
func checkPort(o *server.Options) error {
	if o.DontListen || o.Port < 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
	if err != nil {
		return schemas.Errorf(schemas.KindConflict, "port %d on %s is taken: %w", o.Port, o.Host, err)
	}
	return l.Close()
}

// lockFolder makes the folder, checks that it can be written and takes it for this process alone: two servers on one store
// would corrupt it.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, schemas.Errorf(schemas.KindDenied, "folder %s cannot be made: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindDenied, "folder %s cannot be written: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, schemas.Errorf(schemas.KindConflict, "another server uses the folder %s", dir)
		}
		return nil, schemas.Errorf(schemas.KindDenied, "folder %s cannot be locked: %w", dir, err)
	}
	return f, nil
}

// URL is where clients connect; empty when no port is open.
func (s *Server) URL() string {
	if s.server.Addr() == nil {
		return ""
	}
	return s.server.ClientURL()
}

// InProcess connects clients of this process without a socket; see streams.Config.
func (s *Server) InProcess() nats.InProcessConnProvider { return s.server }

// Dir is the folder of the state.
func (s *Server) Dir() string { return s.server.StoreDir() }

// Version is the version of the server.
func (s *Server) Version() string { return server.VERSION }

// Close stops the server and returns when its state is on disk. A second Close does nothing.
func (s *Server) Close() { s.close() }

// serverLog passes on what the server logs and remembers what tells that it cannot run.
type serverLog struct {
	log *slog.Logger
	// mu guards text.
	mu   sync.Mutex
	text string
}

// emit writes to the program's own log.
func (l *serverLog) emit(level slog.Level, format string, v []any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...), "from", "nats-server")
	}
}

// Noticef, Debugf and Tracef are dropped: the server is chatty.
func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

// Warnf passes a warning on.
func (l *serverLog) Warnf(format string, v ...any) { l.emit(slog.LevelWarn, format, v) }

// Errorf passes an error on.
func (l *serverLog) Errorf(format string, v ...any) { l.emit(slog.LevelError, format, v) }

// Fatalf is called where the server alone would exit; in this process it goes on without what failed.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.text == "" {
		l.text = fmt.Sprintf(format, v...)
	}
	l.mu.Unlock()
	l.emit(slog.LevelError, format, v)
}

// fatal is what the server gave up for, or "".
func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

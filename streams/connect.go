package streams

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// Config says how to reach the cluster. When neither URL, Context nor InProcess is set, the environment variables
// NATS_CONTEXT, or NATS_URL and NATS_CREDS, are taken, and after them nats://127.0.0.1:4222.
type Config struct {
	// URL is one or more server addresses, separated by commas.
	URL string
	// Context is the name of a context of the nats command line, or the path of its JSON file; relative paths in it start at
	// its folder. What is set here besides wins over what stands there.
	Context string
	// Name is shown in the server's connection list. Default "cocoon".
	Name string
	// Creds is the path of a credentials file (JWT and NKey seed).
	Creds string
	// NKeySeedFile is the path of a file with an NKey seed.
	NKeySeedFile string
	// User and Password are for development servers only.
	User, Password string
	// Token is a bearer token; with an NKey, what its holder shows besides (see access.Pass). TokenFunc, when set, is asked for a fresh one on every connection, together with the
	// server's nonce and the connection's public NKey: that is how a worker turns attestation into a log-in (see
	// package callout). An error of TokenFunc makes this try to connect fail; the next one asks again.
	Token     string
	TokenFunc func(nonce []byte, nkey string) (token string, err error)
	// TLS turns TLS on with the given settings; the files add a root, and a client certificate with its key.
	TLS                           *tls.Config
	CAFile, CertFile, CertKeyFile string
	// TLSFirst begins with the TLS handshake instead of the server's plain-text greeting.
	TLSFirst bool
	// InProcess connects to a server in this process without a socket; URL is then ignored.
	InProcess nats.InProcessConnProvider
	// Inbox is the prefix of reply subjects: a user whose permissions are limited must use its own. Default "_INBOX".
	Inbox string
	// APIPrefix is the JetStream API as this account imports it. Default "$JS.API"; "app.API" in the workers' account.
	APIPrefix string
	// ConnectTimeout bounds the first connection. Default 5 s.
	ConnectTimeout time.Duration
	// RequestTimeout bounds one try of one request or write. Default 3 s.
	RequestTimeout time.Duration
	// RetryFor bounds how long a write is repeated with the same bytes while the cluster cannot be reached, when the
	// context does not end it earlier. Default 30 s. A leader's death takes up to 9 s: less than 10 s is refused.
	RetryFor time.Duration
	// Logger hears about reconnects and refusals. nil discards.
	Logger *slog.Logger
	// Intercept stands between the bus and every write it makes, one try at a time. Tests lose writes with it, see
	// streamstest.Faulty. nil means none.
	Intercept func(ctx context.Context, w Write, do func() error) error
}

// defaultAPI is the subject prefix of the JetStream API in its own account.
const defaultAPI = "$JS.API"

// minRetryFor is longer than the death of a stream leader.
const minRetryFor = 10 * time.Second

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.ConnectTimeout, 5*time.Second)
	set(&c.RequestTimeout, 3*time.Second)
	set(&c.RetryFor, 30*time.Second)
	if c.Name == "" {
		c.Name = "cocoon"
	}
	if c.Inbox == "" {
		c.Inbox = nats.InboxPrefix[:len(nats.InboxPrefix)-1]
	}
	if c.APIPrefix == "" {
		c.APIPrefix = defaultAPI
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check refuses settings that would weaken a guarantee or cannot work.
func (c Config) check() error {
	if c.RetryFor < minRetryFor {
		return schemas.FieldError("retry_for", "must be at least 10 s: a leader's death takes up to 9 s")
	}
	if c.RequestTimeout <= 0 || c.ConnectTimeout <= 0 {
		return schemas.FieldError("request_timeout", "must be positive")
	}
	return nil
}

// Write is one try of one external write, as [Config.Intercept] sees it.
type Write struct {
	// Op says what is written.
	Op Op
	// Subject is where to; for acknowledgements it is the subject of the acknowledgement.
	Subject string
}

// Op names a kind of write.
type Op string

// The writes of a bus.
const (
	OpJob       Op = "job"
	OpOutcome   Op = "outcome"
	OpDone      Op = "done"
	OpExtend    Op = "extend"
	OpRetry     Op = "retry"
	OpTerminate Op = "terminate"
	OpDead      Op = "dead"
	OpDelete    Op = "delete"
	OpBucket    Op = "bucket"
	OpObject    Op = "object"
	OpAudit     Op = "audit"
	OpTopology  Op = "topology"
	OpConsumer  Op = "consumer"
)

// Ops lists all kinds of writes.
func Ops() []Op {
	return []Op{
		OpJob, OpOutcome, OpDone, OpExtend, OpRetry, OpTerminate, OpDead, OpDelete, OpBucket, OpObject, OpAudit,
		OpTopology, OpConsumer,
	}
}

// maxAsync bounds the asynchronous publishes of a bus that wait for an acknowledgement.
const maxAsync = 16384

// Bus is one connection to the network. It is safe for concurrent use.
type Bus struct {
	conf Config
	nc   *nats.Conn
	// js publishes and administers; async is the same API with a deep window for bulk submissions.
	js, async jetstream.JetStream
	log       *slog.Logger
	denials   denials
	// closing tells that the end of the connection is our own wish.
	closing atomic.Bool
	// reconnects wakes those who must look for what they missed; see onReconnect.
	reconnects reconnects
}

// Connect reaches the cluster or returns KindUnavailable after Config.ConnectTimeout, KindDenied when it refuses the
// credentials. From then on the connection comes back by itself for as long as the bus is open.
func Connect(ctx context.Context, c Config) (*Bus, error) {
	c, err := resolve(c)
	if err != nil {
		return nil, err
	}
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	b := &Bus{conf: c, log: c.Logger}
	options, err := b.options()
	if err != nil {
		return nil, err
	}
	if b.nc, err = dial(ctx, c, options); err != nil {
		return nil, err
	}
	if b.js, err = jetstream.NewWithAPIPrefix(b.nc, c.APIPrefix, jetstream.WithDefaultTimeout(c.RequestTimeout)); err == nil {
		b.async, err = jetstream.NewWithAPIPrefix(b.nc, c.APIPrefix,
			jetstream.WithPublishAsyncMaxPending(maxAsync), jetstream.WithPublishAsyncTimeout(c.RequestTimeout))
	}
	if err != nil {
		b.nc.Close()
		return nil, classify(err)
	}
	return b, nil
}

// dial tries until the first connection stands, the credentials are refused or the time is up.
func dial(ctx context.Context, c Config, options []nats.Option) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	for {
		nc, err := nats.Connect(c.URL, options...)
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
			return nil, schemas.Errorf(schemas.KindDenied, "the server refuses the credentials: %w", err)
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return nil, schemas.Errorf(schemas.KindUnavailable, "cannot connect to %s: %w", c.URL, err)
		}
	}
}

// options turns the configuration into options of the client library.
func (b *Bus) options() ([]nats.Option, error) {
	c := b.conf
	options := []nats.Option{
		nats.Name(c.Name), nats.CustomInboxPrefix(c.Inbox), nats.Timeout(c.ConnectTimeout),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return min(100*time.Millisecond*time.Duration(1+attempts), 2*time.Second)
		}),
		// Nothing is buffered while the connection is away: a write that its caller has given up must never be sent later.
		nats.ReconnectBufSize(-1),
		nats.PermissionErrOnSubscribe(true),
		// The default is 512 KiB for each synchronous subscription; here they carry a few answers each.
		nats.SyncQueueLen(feedMessages),
		nats.ErrorHandler(b.asyncError),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if !b.closing.Load() {
				b.log.Warn("nats disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Info("nats reconnected", "server", nc.ConnectedServerName())
			b.reconnects.fire()
		}),
	}
	if c.InProcess != nil {
		options = append(options, nats.InProcessServer(c.InProcess))
	}
	credentials, err := c.credentials()
	if err != nil {
		return nil, err
	}
	return append(append(options, credentials...), c.tls()...), nil
}

// asyncError hears what the server says beside the answers.
func (b *Bus) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		b.log.Warn("nats denied", "error", err)
		b.denials.report(err)
	case errors.Is(err, nats.ErrSlowConsumer) && sub != nil:
		b.log.Debug("nats slow consumer", "subject", sub.Subject)
	default:
		b.log.Warn("nats", "error", err)
	}
}

// Close flushes what was published, ends all subscriptions and closes the connection. It waits until ctx ends at most.
func (b *Bus) Close(ctx context.Context) error {
	err := b.Flush(ctx)
	b.closing.Store(true)
	b.nc.Close()
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

// Conn is the connection itself, for what this package does not offer.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Flush returns when the server has seen everything sent so far, subscriptions included.
func (b *Bus) Flush(ctx context.Context) error {
	return b.once(ctx, b.nc.FlushWithContext)
}

// reconnects tells listeners that the connection was away.
type reconnects struct {
	// mu guards the set; fire never blocks while it is held.
	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
}

// listen returns a channel that holds one value after the connection came back, and a function that ends it.
func (r *reconnects) listen() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listeners == nil {
		r.listeners = map[chan struct{}]struct{}{}
	}
	r.listeners[c] = struct{}{}
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, c)
	}
}

// fire wakes all listeners.
func (r *reconnects) fire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

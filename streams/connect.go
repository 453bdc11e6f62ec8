package streams

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says how to reach the cluster. The zero value takes NATS_CONTEXT, then NATS_URL and NATS_CREDS from the
// environment, and then nats://127.0.0.1:4222.
type Config struct {
	// URL is one or more server addresses, separated by commas.
	URL string
	// Context is the name of a context of the nats command line, or the path of its JSON file.
	Context string
	// Name is shown in the server's connection list. Default "cocoon".
	Name string
	// Creds is the path of a credentials file (JWT and NKey seed).
	Creds string
	// NKeySeedFile is the path of a file with an NKey seed.
	NKeySeedFile string
	// User and Password are for development servers only.
	User, Password string
	// Token is a bearer token. TokenFunc, when set, is asked for a fresh one on every connection, together with the
	// server's nonce and the connection's public NKey: that is how a worker turns attestation into a log-in (see
	// package callout).
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
	// context does not end it earlier. Default 30 s; a leader's death takes up to 9 s, so less than 10 s is refused.
	RetryFor time.Duration
	// Logger hears about reconnects and refusals. nil discards.
	Logger *slog.Logger
	// Intercept stands between the bus and every write it makes, one try at a time. Tests lose writes with it, see
	// streamstest.Faulty. nil means none.
	Intercept func(ctx context.Context, w Write, do func() error) error
}

// Write is one try of one external write, as [Config.Intercept] sees it.
type Write struct {
	// Op says what is written.
	Op Op
	// Subject is where to; for acknowledgements it is the subject of the delivery.
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
	return []Op{OpJob, OpOutcome, OpDone, OpExtend, OpRetry, OpTerminate, OpDead, OpDelete, OpBucket, OpObject, OpAudit,
		OpTopology, OpConsumer}
}

// Bus is one connection to the network. It is safe for concurrent use.
type Bus struct {
	conf Config
	nc   *nats.Conn
	js   jetstream.JetStream
	log  *slog.Logger
}

// Connect reaches the cluster or returns KindUnavailable after Config.ConnectTimeout. From then on the connection comes
// back by itself for as long as the bus is open.
func Connect(ctx context.Context, c Config) (*Bus, error) { panic("unfinished") }

// Close flushes what was published, ends all subscriptions and closes the connection. It waits until ctx ends at most.
func (b *Bus) Close(ctx context.Context) error { panic("unfinished") }

// Conn is the connection itself, for what this package does not offer.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Flush returns when the server has seen everything sent so far, subscriptions included.
func (b *Bus) Flush(ctx context.Context) error { panic("unfinished") }

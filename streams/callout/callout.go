package callout

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams/access"
)

// Subject and header of the server's requests.
const (
	subject    = "$SYS.REQ.USER.AUTH"
	headerXKey = "Nats-Server-Xkey"
	// group shares the requests among several services.
	group = "callout"
)

// Limits.
const (
	// MaxToken bounds the text that a client shows instead of a password, in bytes.
	MaxToken = 256 << 10
	// maxRequest bounds a request of the server.
	maxRequest = 1 << 20
	// DefaultLife and MaxLife bound the life of a user.
	DefaultLife = 30 * time.Minute
	MaxLife     = time.Hour
	// workers is the number of log-ins decided at one time, backlog how many wait.
	workers = 16
	backlog = 1024
	// decideTimeout is a little less than the server waits (authorization.timeout).
	decideTimeout = 4500 * time.Millisecond
)

// Nonce is what evidence must be bound to: the nonce of the server for this connection and the connection's public key.
func Nonce(server []byte, nkey string) [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("cocoon/callout/v1"), server, []byte(nkey)} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// Request is a log-in to decide about.
type Request struct {
	// Nonce is what the evidence must be bound to.
	Nonce [32]byte
	// Token is what the client showed, as it is.
	Token string
	// Name is what the client calls itself; it proves nothing. Host is its address.
	Name, Host string
}

// Grant is a yes.
type Grant struct {
	// User is the name in the server's log and connection list, such as the worker's id.
	User string
	// Account is where the user belongs. Default access.AccountWorkers.
	Account string
	// Permissions are what it may do.
	Permissions access.Permissions
	// Life is how long; it should not outlive the evidence. Default DefaultLife, at most MaxLife.
	Life time.Duration
}

// Decide judges a log-in. An error is a no; the client does not learn the reason.
type Decide func(ctx context.Context, r Request) (Grant, error)

// Options of a service.
type Options struct {
	// Issuer is the account key pair whose public half the configuration names as issuer. Required.
	Issuer nkeys.KeyPair
	// XKey is the curve key pair whose public half the configuration names as xkey. Without it the server would not
	// encrypt what clients show; nil is refused unless Plain is set.
	XKey  nkeys.KeyPair
	Plain bool
	// Decide judges who shows no pass of the issuer. Required.
	Decide Decide
	// Logger hears the reasons of refusals. nil discards.
	Logger *slog.Logger
}

// Service answers the server's questions.
type Service struct {
	nc *nats.Conn
	o  Options
	// issuer is the public half of Options.Issuer.
	issuer string
}

// New prepares a service on a connection that has logged in as the callout user. Its inbox does not matter.
func New(nc *nats.Conn, o Options) (*Service, error) {
	switch {
	case o.Issuer == nil:
		return nil, schemas.FieldError("issuer", "is required")
	case o.Decide == nil:
		return nil, schemas.FieldError("decide", "is required")
	case o.XKey == nil && !o.Plain:
		return nil, schemas.FieldError("xkey", "is required: evidence should not cross the message system in the clear")
	}
	issuer, err := o.Issuer.PublicKey()
	if err != nil || !nkeys.IsValidPublicAccountKey(issuer) {
		return nil, schemas.FieldError("issuer", "must be an account key")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{nc, o, issuer}, nil
}

// Run answers until ctx ends and then returns nil. ready, when not nil, is called when questions arrive.
func (s *Service) Run(ctx context.Context, ready func()) error {
	questions := make(chan *nats.Msg, backlog)
	sub, err := s.nc.ChanQueueSubscribe(subject, group, questions)
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "callout: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	flushing, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if err := s.nc.FlushWithContext(flushing); err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "callout: %w", err)
	}
	if ready != nil {
		ready()
	}
	var deciding sync.WaitGroup
	for range workers {
		deciding.Go(func() {
			for {
				select {
				case m := <-questions:
					s.answer(ctx, m)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	deciding.Wait()
	return nil
}

// answer answers one question. Whatever goes wrong is a no.
func (s *Service) answer(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	q, err := s.read(m)
	if err != nil {
		// Without a question there is nobody to answer to: the server's own timeout refuses the client.
		s.o.Logger.Warn("callout: a question cannot be read", "error", err)
		return
	}
	user, err := s.decide(ctx, q)
	if err != nil {
		s.o.Logger.Warn("callout: refused", "name", q.ConnectOptions.Name, "host", q.ClientInformation.Host, "error", err)
	}
	if err := s.reply(m, q, user); err != nil {
		s.o.Logger.Error("callout: an answer could not be sent", "error", err)
	}
}

// read decrypts and verifies a question.
func (s *Service) read(m *nats.Msg) (*jwt.AuthorizationRequestClaims, error) {
	if len(m.Data) > maxRequest {
		return nil, schemas.Errorf(schemas.KindTooLarge, "question is larger than 1 MiB")
	}
	text := m.Data
	if sender := m.Header.Get(headerXKey); sender != "" {
		if s.o.XKey == nil {
			return nil, schemas.Errorf(schemas.KindSealed, "the question is encrypted, and there is no xkey")
		}
		var err error
		if text, err = s.o.XKey.Open(m.Data, sender); err != nil {
			return nil, schemas.Errorf(schemas.KindSealed, "the question does not open")
		}
	} else if !s.o.Plain {
		return nil, schemas.Errorf(schemas.KindDenied, "the question is not encrypted: is the xkey in the server's configuration?")
	}
	q, err := jwt.DecodeAuthorizationRequestClaims(string(text))
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "question: %w", err)
	}
	if !nkeys.IsValidPublicServerKey(q.Issuer) || q.Issuer != q.Server.ID {
		return nil, schemas.Errorf(schemas.KindDenied, "the question is not signed by a server")
	}
	return q, nil
}

// decide checks the proof of the key, and lets in who has a pass or whom the decision function admits. It returns the encoded
// user.
func (s *Service) decide(ctx context.Context, q *jwt.AuthorizationRequestClaims) (string, error) {
	request, err := requestOf(q)
	if err != nil {
		return "", err
	}
	if tenant, err := access.ReadPass(request.Token, s.issuer, q.ConnectOptions.Nkey); err == nil {
		return s.issue(q.UserNkey, string(tenant), string(tenant), access.Producer(tenant), time.Time{})
	}
	g, err := s.o.Decide(ctx, request)
	if err != nil {
		return "", err
	}
	if g.Life <= 0 {
		g.Life = DefaultLife
	}
	if g.Account == "" {
		g.Account = access.AccountWorkers
	}
	return s.issue(q.UserNkey, g.User, g.Account, g.Permissions, time.Now().Add(min(g.Life, MaxLife)))
}

// requestOf verifies that the client holds its key and spells the rest for the decision.
func requestOf(q *jwt.AuthorizationRequestClaims) (Request, error) {
	c, nonce := q.ConnectOptions, q.ClientInformation.Nonce
	switch {
	case nonce == "":
		return Request{}, schemas.FieldError("nonce", "the server sent none: it needs a user with an nkey in its configuration")
	case c.Nkey == "" || c.Token == "":
		return Request{}, schemas.FieldError("token", "a log-in needs an nkey and a token")
	case len(c.Token) > MaxToken:
		return Request{}, &schemas.Error{Kind: schemas.KindTooLarge, Field: "token", Message: "is larger than 256 KiB"}
	}
	key, err := nkeys.FromPublicKey(c.Nkey)
	if err != nil {
		return Request{}, schemas.FieldError("nkey", "is not a public key")
	}
	sig, err := base64.RawURLEncoding.DecodeString(c.SignedNonce)
	if err != nil {
		return Request{}, schemas.FieldError("sig", "is not base64")
	}
	if err := key.Verify([]byte(nonce), sig); err != nil {
		return Request{}, schemas.Errorf(schemas.KindDenied, "the signature of the nonce does not verify")
	}
	return Request{Nonce: Nonce([]byte(nonce), c.Nkey), Token: c.Token, Name: c.Name, Host: q.ClientInformation.Host}, nil
}

// issue makes the user that the server puts in the place of the log-in; zero never expires.
func (s *Service) issue(key, name, account string, p access.Permissions, expires time.Time) (string, error) {
	u := jwt.NewUserClaims(key)
	u.Name, u.Audience = name, account
	if !expires.IsZero() {
		u.Expires = expires.Unix()
	}
	u.Permissions.Pub.Allow.Add(p.Publish...)
	u.Permissions.Sub.Allow.Add(p.Subscribe...)
	if p.Answer {
		u.Permissions.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	}
	text, err := u.Encode(s.o.Issuer)
	if err != nil {
		return "", schemas.Errorf(schemas.KindInternal, "user: %w", err)
	}
	return text, nil
}

// reply sends the user, or a no when there is none, sealed to the server that asked.
func (s *Service) reply(m *nats.Msg, q *jwt.AuthorizationRequestClaims, user string) error {
	a := jwt.NewAuthorizationResponseClaims(q.UserNkey)
	a.Audience = q.Server.ID
	a.Jwt = user
	if user == "" {
		a.Error = "refused"
	}
	text, err := a.Encode(s.o.Issuer)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "answer: %w", err)
	}
	data := []byte(text)
	if sender := m.Header.Get(headerXKey); sender != "" {
		if data, err = s.o.XKey.Seal(data, sender); err != nil {
			return schemas.Errorf(schemas.KindInternal, "answer: %w", err)
		}
	}
	return m.Respond(data)
}

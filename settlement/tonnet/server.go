package tonnet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
)

// Server is a liteserver of a network. It is a ton.LiteClient for clients in the same process, and serves ADNL over TCP
// after Listen. Requests and answers in process go through the same bytes as over the wire.
type Server struct {
	net *Net
	key ed25519.PrivateKey

	// mu guards all that follows.
	mu     sync.Mutex
	faults Faults
	held   [][]byte
	// tcp and addr are set while the server listens; clients are its connections.
	tcp     *liteclient.Server
	addr    netip.AddrPort
	clients map[*liteclient.ServerClient]struct{}
	// queries counts the requests in work over ADNL, for Close to wait for; listening ends with the accept loop.
	queries   sync.WaitGroup
	listening chan error
	stop      context.CancelFunc
}

var _ tonapi.LiteClient = (*Server)(nil)

// Limits of a server.
const (
	// maxQueries bounds the requests in work of one server.
	maxQueries = 256
	// maxHeld bounds the messages held back by Faults.
	maxHeld = 4096
	// listenTries is how many free ports Listen tries.
	listenTries = 10
	// listenWait is how long Listen waits for its port to answer.
	listenWait = 5 * time.Second
)

// NewServer makes a liteserver. The first server of a network has the same key after each start, so has the second, and
// so on.
func (n *Net) NewServer() *Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &Server{net: n, key: n.genesis.key("liteserver", n.servers), clients: map[*liteclient.ServerClient]struct{}{}}
	n.servers++
	return s
}

// QueryLiteserver answers a request in process; it is that of ton.LiteClient.
func (s *Server) QueryLiteserver(ctx context.Context, payload, result tl.Serializable) error {
	req, err := tl.Serialize(payload, true)
	if err != nil {
		return err
	}
	var queries []tl.Serializable
	for len(req) > 0 {
		var q any
		if req, err = tl.Parse(&q, req, true); err != nil {
			return err
		}
		queries = append(queries, q)
	}
	answer, err := s.handle(ctx, queries)
	if err != nil {
		return err
	}
	resp, err := tl.Serialize(answer, true)
	if err != nil {
		return err
	}
	_, err = tl.Parse(result, resp, true)
	return err
}

// StickyContext is that of ton.LiteClient; there is one node only.
func (s *Server) StickyContext(ctx context.Context) context.Context { return ctx }

// StickyContextNextNode is that of ton.LiteClient; there is no other node.
func (s *Server) StickyContextNextNode(ctx context.Context) (context.Context, error) {
	return ctx, liteclient.ErrNoNodesLeft
}

// StickyContextNextNodeBalanced is that of ton.LiteClient; there is no other node.
func (s *Server) StickyContextNextNodeBalanced(ctx context.Context) (context.Context, error) {
	return ctx, liteclient.ErrNoNodesLeft
}

// StickyNodeID is that of ton.LiteClient.
func (s *Server) StickyNodeID(context.Context) uint32 { return 0 }

// handle answers a request: a query, possibly behind prefixes that say what to wait for. An error means that no answer
// goes out at all.
func (s *Server) handle(ctx context.Context, queries []tl.Serializable) (tl.Serializable, error) {
	f := s.Faults()
	if err := f.hinder(ctx); err != nil {
		return nil, err
	}
	source := s.net
	if f.Impostor != nil {
		source = f.Impostor
	}
	if len(queries) == 0 {
		return tonapi.LSError{Code: codeInvalid, Text: "empty query"}, nil
	}
	for ; len(queries) > 1; queries = queries[1:] {
		w, ok := queries[0].(tonapi.WaitMasterchainSeqno)
		if !ok {
			return tonapi.LSError{Code: codeInvalid, Text: fmt.Sprintf("unexpected prefix %T", queries[0])}, nil
		}
		if !source.wait(ctx, uint32(w.Seqno), f, time.Duration(w.Timeout)*time.Millisecond) {
			return tonapi.LSError{Code: codeTimeout, Text: "timeout"}, nil
		}
	}
	answer, err := s.answer(source, f, queries[0])
	var refused tonapi.LSError
	switch {
	case errors.As(err, &refused):
		answer = refused
	case err != nil:
		answer = tonapi.LSError{Code: codeInternal, Text: err.Error()}
	}
	if f.Answer != nil {
		answer = f.Answer(queries[0], answer)
	}
	return answer, nil
}

// answer answers one query from the network, or from what the faults make of it.
func (s *Server) answer(source *Net, f Faults, q tl.Serializable) (tl.Serializable, error) {
	if m, ok := q.(tonapi.SendMessage); ok {
		return s.send(f, m.Body)
	}
	source.mu.Lock()
	defer source.mu.Unlock()
	if source.closed {
		return nil, ErrClosed
	}
	v := view{source, f.head(source.chain.last())}
	if q, ok := q.(tonapi.GetAccountState); ok && f.Hide != nil && f.Hide(q.Account) {
		return v.hiddenAccount(q)
	}
	return v.answer(q)
}

// wait waits until a block exists and the server would show it.
func (n *Net) wait(ctx context.Context, seqno uint32, f Faults, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		n.mu.Lock()
		grown, head := n.grown, f.head(n.chain.last())
		n.mu.Unlock()
		if head >= seqno {
			return true
		}
		select {
		case <-grown:
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Listen serves ADNL over TCP on an address such as "127.0.0.1:0", where port 0 means any free one.
func (s *Server) Listen(addr string) error {
	want, err := netip.ParseAddrPort(addr)
	if err != nil || !want.Addr().Is4() {
		return schemas.FieldError("listen", "must be an IPv4 address and a port")
	}
	for range listenTries {
		at := want
		if want.Port() == 0 {
			if at, err = freePort(want); err != nil {
				return err
			}
		}
		if err = s.listen(at); err == nil || want.Port() != 0 {
			return err
		}
	}
	return err
}

// freePort finds a port that is free at the moment. The library opens ports by number only, so another process may
// take it in between; Listen then tries the next.
func freePort(at netip.AddrPort) (netip.AddrPort, error) {
	l, err := net.Listen("tcp4", at.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("tonnet: %w", err)
	}
	defer l.Close()
	return netip.ParseAddrPort(l.Addr().String())
}

// listen serves on exactly one address.
func (s *Server) listen(at netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tcp != nil {
		return schemas.Errorf(schemas.KindConflict, "tonnet: server listens already")
	}
	ctx, stop := context.WithCancel(context.Background())
	tcp := liteclient.NewServer([]ed25519.PrivateKey{s.key})
	tcp.SetConnectionHook(s.connected)
	tcp.SetDisconnectHook(s.disconnected)
	slots := make(chan struct{}, maxQueries)
	tcp.SetQueryHandler(func(_ context.Context, client *liteclient.ServerClient, id []byte, q tl.Serializable) {
		s.serve(ctx, slots, client, id, q)
	})
	done := make(chan error, 1)
	go func() { done <- tcp.Listen(at.String()) }()
	if err := awaitPort(at, done); err != nil {
		stop()
		return err
	}
	s.tcp, s.addr, s.listening, s.stop = tcp, at, done, stop
	return nil
}

// awaitPort waits until a port takes connections, or until listening on it failed.
func awaitPort(at netip.AddrPort, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), listenWait)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp4", at.String())
		if err == nil {
			return conn.Close()
		}
		again := time.NewTimer(time.Millisecond)
		select {
		case err := <-failed:
			return fmt.Errorf("tonnet: listen: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("tonnet: listen: %w", err)
		case <-again.C:
		}
	}
}

// connected notes a connection, so that Close can end it.
func (s *Server) connected(c *liteclient.ServerClient) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tcp == nil {
		return ErrClosed
	}
	s.clients[c] = struct{}{}
	return nil
}

// disconnected forgets a connection.
func (s *Server) disconnected(c *liteclient.ServerClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// serve answers one request over ADNL, in a goroutine of its own as the read loop must not block. Requests above
// maxQueries are refused.
func (s *Server) serve(ctx context.Context, slots chan struct{}, client *liteclient.ServerClient, id []byte, q tl.Serializable) {
	select {
	case slots <- struct{}{}:
	default:
		client.Answer(id, tonapi.LSError{Code: codeInternal, Text: "too many requests"})
		return
	}
	s.queries.Add(1)
	go func() {
		defer func() { <-slots; s.queries.Done() }()
		queries, many := q.([]tl.Serializable)
		if !many {
			queries = []tl.Serializable{q}
		}
		if answer, err := s.handle(ctx, queries); err == nil {
			client.Answer(id, answer)
		}
	}()
}

// Addr is where the server listens; it is not valid when it does not.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Close stops listening and ends all connections. In process the server goes on.
func (s *Server) Close() error {
	s.mu.Lock()
	tcp, done, stop := s.tcp, s.listening, s.stop
	s.tcp, s.addr = nil, netip.AddrPort{}
	for c := range s.clients {
		c.Close()
	}
	s.mu.Unlock()
	if tcp == nil {
		return nil
	}
	stop()
	err := tcp.Close()
	<-done
	s.queries.Wait()
	return err
}

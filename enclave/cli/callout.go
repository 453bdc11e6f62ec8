package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/callout"
)

// CalloutOptions say how a broker opens the door of the message system to workers.
type CalloutOptions struct {
	// Bus is a connection that has logged in as the callout user of the server's configuration.
	Bus *streams.Bus
	// Issuer and XKey are files with the seeds of the account key and the curve key that the configuration names.
	Issuer, XKey string
	// Lanes is the number of lanes of the topology.
	Lanes int
}

// LoginToken turns a worker's evidence into a log-in: it is streams.Config.TokenFunc of a worker. For every connection it
// attests to the server's nonce and the connection's key.
func LoginToken(ctx context.Context, s *enclave.Session) func(nonce []byte, nkey string) (string, error) {
	return func(nonce []byte, nkey string) (string, error) {
		evidence, err := s.Evidence(ctx, callout.Nonce(nonce, nkey))
		if err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString(evidence), nil
	}
}

// AttestedLogin connects a worker with its evidence, and again with fresh evidence whenever the log-in lapses, until ctx ends.
// c says where the servers are; what it holds of keys is not used.
func AttestedLogin(ctx context.Context, c streams.Config, s *enclave.Session) (*streams.Bus, error) {
	c.TokenFunc, c.Inbox, c.APIPrefix = LoginToken(ctx, s), access.Inbox(string(s.ID())), access.APIImported
	return streams.Connect(ctx, c)
}

// serveCallout answers the server's questions about log-ins until ctx ends.
func serveCallout(ctx context.Context, o CalloutOptions, b *broker.Broker, log *slog.Logger) error {
	issuer, err := readSeed(o.Issuer)
	if err != nil {
		return err
	}
	xkey, err := readSeed(o.XKey)
	if err != nil {
		return err
	}
	service, err := callout.New(o.Bus.Conn(), callout.Options{Issuer: issuer, XKey: xkey, Decide: decideLogin(b, o.Lanes), Logger: log})
	if err != nil {
		return err
	}
	return service.Run(ctx, nil)
}

// decideLogin asks the broker about a log-in and turns its answer into permissions: those of a worker, for the models it may
// serve, no longer than its evidence lasts.
func decideLogin(b *broker.Broker, lanes int) callout.Decide {
	return func(ctx context.Context, r callout.Request) (callout.Grant, error) {
		evidence, err := base64.StdEncoding.Strict().DecodeString(r.Token)
		if err != nil {
			return callout.Grant{}, schemas.FieldError("token", "must be evidence in base64")
		}
		entry, err := b.Admit(ctx, evidence, r.Nonce)
		if err != nil {
			return callout.Grant{}, err
		}
		user := access.WorkerUser{Worker: entry.Worker, Lanes: lanes, API: access.APIImported}
		for _, m := range entry.Models {
			user.Models = append(user.Models, streams.RouteOf(m))
		}
		return callout.Grant{
			User: string(entry.Worker), Permissions: access.Worker(user), Life: min(time.Until(entry.NotAfter), callout.MaxLife),
		}, nil
	}
}

// readSeed reads a key pair from a file with its seed.
func readSeed(path string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindNotFound, "callout key: %w", err)
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "callout key %s: %w", path, err)
	}
	return pair, nil
}

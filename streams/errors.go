package streams

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// ErrMissed tells the reader of a [Feed] that messages may have been lost.
var ErrMissed = errors.New("streams: messages were missed")

// ErrLeaseLost tells that the lease of a delivery has lapsed: another worker may hold the job now.
var ErrLeaseLost = errors.New("streams: the lease has lapsed")

// Error codes of the JetStream API. nats.go does not name all of them.
const (
	codeClusterNoPeers      jetstream.ErrorCode = 10005
	codeClusterNotAvailable jetstream.ErrorCode = 10008
	codeClusterNotLeader    jetstream.ErrorCode = 10009
	codeConsumerNotFound    jetstream.ErrorCode = 10014
	codeNoResources         jetstream.ErrorCode = 10023
	codeMaxConsumers        jetstream.ErrorCode = 10026
	codeNoMessage           jetstream.ErrorCode = 10037
	codeNotEnabledAccount   jetstream.ErrorCode = 10039
	codeSequenceNotFound    jetstream.ErrorCode = 10043
	codeStorageFull         jetstream.ErrorCode = 10047
	codeMessageTooLarge     jetstream.ErrorCode = 10054
	codeDeleteFailed        jetstream.ErrorCode = 10057
	codeStreamNotFound      jetstream.ErrorCode = 10059
	codeWrongLastSequence   jetstream.ErrorCode = 10071
	codeNotEnabled          jetstream.ErrorCode = 10076
	codeStoreFailed         jetstream.ErrorCode = 10077 // a limit of the stream with DiscardNew
	codeConsumerExists      jetstream.ErrorCode = 10148
	codeStreamOffline       jetstream.ErrorCode = 10118
	codeDuplicateInFlight   jetstream.ErrorCode = 10158
	codeRivalInFlight       jetstream.ErrorCode = 10164
	codeStreamOfflineReason jetstream.ErrorCode = 10194
)

// busyHint is the RetryAfter of a full queue.
const busyHint = time.Second

// apiCode is the JetStream error code of err, or 0.
func apiCode(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return 0
}

// classify gives every error of the client library a kind. It is the one place that decides what may be repeated.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var known *schemas.Error
	if errors.As(err, &known) {
		return known
	}
	if code := apiCode(err); code != 0 {
		return classifyAPI(code, err)
	}
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return schemas.Errorf(schemas.KindTooLarge, "message is above the server's max_payload: %w", err)
	case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthorization),
		errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return schemas.Errorf(schemas.KindDenied, "%w", err)
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrNoStreamResponse):
		return schemas.Errorf(schemas.KindUnavailable, "no such stream, or it has no leader: %w", err)
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrMsgNotFound):
		return schemas.Errorf(schemas.KindNotFound, "%w", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout),
		errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrStaleConnection),
		errors.Is(err, nats.ErrConnectionDraining), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrBadSubscription),
		errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, jetstream.ErrTooManyStalledMsgs),
		errors.Is(err, jetstream.ErrJetStreamPublisherClosed):
		return schemas.Errorf(schemas.KindUnavailable, "%w", err)
	case errors.As(err, new(*net.OpError)), errors.Is(err, io.EOF):
		// The client library writes while a connection breaks and hands out what the socket said.
		return schemas.Errorf(schemas.KindUnavailable, "the connection broke: %w", err)
	}
	return schemas.Errorf(schemas.KindInternal, "%w", err)
}

// classifyAPI is classify for answers of the JetStream API.
func classifyAPI(code jetstream.ErrorCode, err error) error {
	switch code {
	case codeStoreFailed, codeNoResources, codeStorageFull, codeMaxConsumers:
		// Full now, by a limit that somebody chose; room appears when jobs are done.
		return &schemas.Error{Kind: schemas.KindBusy, Message: "the queue or the stream is full", RetryAfter: busyHint, Err: err}
	case codeMessageTooLarge:
		return schemas.Errorf(schemas.KindTooLarge, "%w", err)
	case codeNoMessage, codeConsumerNotFound, codeSequenceNotFound:
		return schemas.Errorf(schemas.KindNotFound, "%w", err)
	case codeWrongLastSequence, codeConsumerExists:
		return schemas.Errorf(schemas.KindConflict, "%w", err)
	case codeClusterNoPeers, codeClusterNotAvailable, codeClusterNotLeader, codeStreamNotFound, codeNotEnabled,
		codeNotEnabledAccount, codeStreamOffline, codeStreamOfflineReason, codeDuplicateInFlight, codeRivalInFlight:
		// Elections, a topology not applied yet, or a rival's message in flight: all pass.
		return schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	return schemas.Errorf(schemas.KindInternal, "%w", err)
}

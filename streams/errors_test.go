package streams_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// TestKindsOfErrors: what may be repeated is decided by kind, so an error of the client library or of a socket must have
// the right one; what nobody knows is internal and not repeated.
func TestKindsOfErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want schemas.Kind
	}{
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}, schemas.KindUnavailable},
		{fmt.Errorf("flush: %w", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), schemas.KindUnavailable},
		{io.EOF, schemas.KindUnavailable},
		{nats.ErrConnectionClosed, schemas.KindUnavailable},
		{context.DeadlineExceeded, schemas.KindUnavailable},
		{nats.ErrMaxPayload, schemas.KindTooLarge},
		{nats.ErrAuthExpired, schemas.KindDenied},
		{jetstream.ErrMsgNotFound, schemas.KindNotFound},
		{jetstream.ErrStreamNotFound, schemas.KindUnavailable},
		{&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}, schemas.KindConflict},
		{schemas.Errorf(schemas.KindBusy, "full"), schemas.KindBusy},
		{errors.New("of no known sort"), schemas.KindInternal},
	} {
		if got := schemas.KindOf(streams.Classify(c.err)); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
	if streams.Classify(nil) != nil {
		t.Error("no error became one")
	}
}

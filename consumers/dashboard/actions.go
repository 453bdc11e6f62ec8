package dashboard

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// action does one thing for an operator.
type action func(ctx context.Context, body []byte) (any, error)

// operator lets an action through for whoever has the token. Comparing hashes takes the same time for every token.
func (d *Dashboard) operator(act action) http.HandlerFunc {
	want := sha256.Sum256([]byte(d.conf.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		if d.conf.Token == "" {
			writeError(w, &schemas.Error{Kind: schemas.KindDenied, Message: "this dashboard is read-only: it was started without an operator token"})
			return
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		have := sha256.Sum256([]byte(token))
		if !ok || subtle.ConstantTimeCompare(want[:], have[:]) != 1 {
			writeError(w, &schemas.Error{Kind: schemas.KindDenied, Message: "wrong operator token"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAction))
		if err != nil {
			writeError(w, &schemas.Error{Kind: schemas.KindTooLarge, Message: "an action has at most 4 KiB"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
		defer cancel()
		answer, err := act(ctx, body)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// replay puts the dead letter at a position back into its queue. A second call finds it gone and changes nothing.
func (d *Dashboard) replay(ctx context.Context, body []byte) (any, error) {
	var request struct {
		Seq uint64 `json:"seq"`
	}
	if err := schemas.DecodeJSON(body, &request, maxAction); err != nil {
		return nil, err
	}
	return d.conf.Bus.Replay(ctx, request.Seq)
}

// steer tells a worker to drain, to stop taking jobs or to take them again. It sets a state, so repeating it is harmless.
func (d *Dashboard) steer(ctx context.Context, body []byte) (any, error) {
	var request struct {
		Worker schemas.WorkerID    `json:"worker"`
		Order  streams.FleetWorker `json:"order"`
	}
	if err := schemas.DecodeJSON(body, &request, maxAction); err != nil {
		return nil, err
	}
	if _, err := schemas.ParseWorkerID(string(request.Worker)); err != nil {
		return nil, err
	}
	value, err := json.Marshal(request.Order)
	if err != nil {
		return nil, err
	}
	_, err = d.conf.Bus.Bucket(streams.BucketFleet).Put(ctx, streams.PrefixWorker+string(request.Worker), value)
	return request, err
}

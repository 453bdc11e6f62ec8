package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

const (
	// maxBody bounds the body of an inference request.
	maxBody = schemas.MaxRequestBody
	// cancelWait bounds the attempt to cancel a job whose client went away.
	cancelWait = 10 * time.Second
	// batchWindow is how long a request of class batch over HTTP may take: nobody holds a connection for a day.
	batchWindow = time.Hour
)

// request is one inference request on its way.
type request struct {
	g       *Gateway
	c       *caller
	call    *openai.Call
	handle  *producers.Handle
	keyed   bool
	arrived time.Time
}

// infer runs one request: POST to an endpoint that jobs can call.
func (g *Gateway) infer(w http.ResponseWriter, r *http.Request, c *caller) error {
	arrived := time.Now()
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		return &schemas.Error{Kind: schemas.KindBusy, Message: "the gateway has as many requests as it takes", RetryAfter: time.Second}
	}
	body, err := g.body(w, r, maxBody)
	if err != nil {
		return err
	}
	call, err := openai.ParseCall(r.URL.Path, r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	q := &request{g: g, c: c, call: call, arrived: arrived}
	job, err := q.job(r)
	if err != nil {
		return err
	}
	cost, err := g.o.Client.Price(r.Context(), job)
	if err != nil {
		return err
	}
	release, err := c.reserve(cost.Ceiling)
	if err != nil {
		return err
	}
	if q.handle, err = g.o.Client.Submit(r.Context(), job); err != nil {
		release()
		return err
	}
	g.remember(c, call.GUID, q.handle.ID)
	w.Header().Set("X-Cocoon-Job", string(q.handle.ID))
	if call.Stream {
		err = q.stream(w, r)
	} else {
		err = q.answer(w, r)
	}
	if errors.Is(err, errGone) {
		go q.abandon(release)
		return err
	}
	release()
	return err
}

// job is the request as a job.
func (q *request) job(r *http.Request) (producers.Job, error) {
	j := producers.Job{Call: q.call, Class: q.call.Class, Timeout: q.call.Timeout, Live: q.call.Stream}
	if j.Class == schemas.Batch && j.Timeout == 0 {
		j.Timeout = batchWindow
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		if len(key) > producers.MaxIdempotencyKey-len(q.c.owner())-1 {
			return j, schemas.FieldError("Idempotency-Key", "is longer than 200 bytes")
		}
		q.keyed, j.IdempotencyKey = true, q.c.owner()+"/"+key
	}
	j.Ephemeral = !q.keyed
	return j, q.salt()
}

// salt puts cache_salt into a JSON request that has none: engines that share prefixes between requests then share
// them only within the tenant, and an API key's prompts cannot be probed by timing those of another.
func (q *request) salt() error {
	if q.call.ContentType != openai.JSON || q.call.URL == openai.PathSpeech || q.call.URL == openai.PathEmbeddings {
		return nil
	}
	return q.call.Default("cache_salt", openai.Quote(q.g.salt+q.c.owner()))
}

// answer waits for the whole answer.
func (q *request) answer(w http.ResponseWriter, r *http.Request) error {
	a, err := q.handle.Wait(r.Context())
	if r.Context().Err() != nil {
		return errGone
	}
	q.charge(a)
	if err != nil {
		return err
	}
	q.timing(w.Header(), a)
	body := a.Body
	if a.ContentType == openai.JSON {
		body = q.decorated(body, a)
	}
	q.g.write(w, max(a.HTTP, http.StatusOK), a.ContentType, body)
	return nil
}

// abandon is for a client that went away: its job is cancelled, unless it may come back for the answer, and what it
// comes to cost is counted when it ends. It ends with the job, or when the SDK's client is closed.
func (q *request) abandon(release func()) {
	defer release()
	if !q.g.o.Detach && !q.keyed {
		ctx, cancel := context.WithTimeout(context.Background(), cancelWait)
		defer cancel()
		if _, err := q.g.o.Client.Cancel(ctx, q.handle.ID); err != nil {
			q.g.o.Logger.Warn("job not cancelled", "job", q.handle.ID, "error", err)
		}
	}
	a, err := q.handle.Wait(context.Background())
	if err != nil {
		q.g.o.Logger.Debug("abandoned job", "job", q.handle.ID, "error", err)
	}
	q.charge(a)
}

// charge counts what an answer has cost, once however often it is given.
func (q *request) charge(a *producers.Answer) {
	if a == nil {
		return
	}
	q.g.meter.spent.Add(float64(a.Charge.Total))
	e := spent{Key: q.c.key.ID, Amount: a.Charge.Total}
	if q.keyed {
		e.Unit = string(a.Job)
	}
	if err := q.c.keys.charge(e); err != nil {
		q.g.o.Logger.Error("spending not recorded", "key", q.c.key.ID, "error", err)
	}
}

// seconds spells a time as the original network's headers do.
func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMicro())/1e6, 'f', 6, 64)
}

// timing sets the original network's timing headers, as far as they are known when the header is written.
func (q *request) timing(h http.Header, a *producers.Answer) {
	h.Set("X-Cocoon-Client-Start", seconds(q.arrived))
	h.Set("X-Cocoon-Client-End", seconds(time.Now()))
	if !a.Started.IsZero() {
		h.Set("X-Cocoon-Worker-Start", seconds(a.Started))
		h.Set("X-Cocoon-Worker-End", seconds(a.Finished))
	}
}

// decorated adds what Cocoon's answers have beyond OpenAI's: the cost in usage and, when asked for, debug.
func (q *request) decorated(body []byte, a *producers.Answer) []byte {
	o, err := openai.ParseObject(body)
	if err != nil {
		return body // the engine's answer goes on as it is
	}
	if usage, err := o.Object("usage"); err == nil && usage != nil {
		o = o.With("usage", producers.PricedUsage(usage, a.Charge).Append(nil))
	}
	if q.call.Debug {
		o = o.With("debug", q.debug(a))
	}
	return o.Append(make([]byte, 0, len(body)+256))
}

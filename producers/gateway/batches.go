package gateway

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of batches.
const (
	// maxBatchRequest bounds the body of POST /v1/batches.
	maxBatchRequest = 64 << 10
)

// batchForm is OpenAI's batch object.
type batchForm struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Model            string            `json:"model,omitempty"`
	Errors           *errorList        `json:"errors"`
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"`
	OutputFileID     *string           `json:"output_file_id"`
	ErrorFileID      *string           `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	InProgressAt     *int64            `json:"in_progress_at"`
	ExpiresAt        int64             `json:"expires_at"`
	FinalizingAt     *int64            `json:"finalizing_at"`
	CompletedAt      *int64            `json:"completed_at"`
	FailedAt         *int64            `json:"failed_at"`
	ExpiredAt        *int64            `json:"expired_at"`
	CancellingAt     *int64            `json:"cancelling_at"`
	CancelledAt      *int64            `json:"cancelled_at"`
	Counts           countsForm        `json:"request_counts"`
	Usage            usageForm         `json:"usage"`
	Metadata         map[string]string `json:"metadata"`
	// Cost is ours: what receipts have charged by now, and what lines in flight may still cost, in nanoTON.
	Cost     schemas.NanoTON `json:"cost"`
	Reserved schemas.NanoTON `json:"reserved"`
}

// countsForm is request_counts.
type countsForm struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// usageForm is a batch's usage in OpenAI's overlapping counts.
type usageForm struct {
	Input        uint64 `json:"input_tokens"`
	InputDetails struct {
		Cached uint64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	Output        uint64 `json:"output_tokens"`
	OutputDetails struct {
		Reasoning uint64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	Total uint64 `json:"total_tokens"`
}

// errorList is "errors" of a batch whose input is wrong.
type errorList struct {
	Object string        `json:"object"`
	Data   []batch.Issue `json:"data"`
}

// storedBatch is request.json in a batch's folder: what was asked, by whom. It is written first, so a batch that was
// accepted is never lost.
type storedBatch struct {
	ID          string            `json:"id"`
	Owner       string            `json:"owner"`
	InputFileID string            `json:"input_file_id"`
	Endpoint    string            `json:"endpoint"`
	Window      string            `json:"completion_window"`
	Metadata    map[string]string `json:"metadata"`
	Fingerprint schemas.Hash      `json:"fingerprint"`
	Created     time.Time         `json:"created"`
	// Issues is why the input was refused, FailedAt when.
	Issues   []batch.Issue `json:"issues,omitempty"`
	FailedAt time.Time     `json:"failed_at,omitzero"`
	// CancelledAt is when a cancellation was asked for.
	CancelledAt time.Time `json:"cancelled_at,omitzero"`
}

// requestName is the file with a storedBatch.
const requestName = "request.json"

// batches are the batches of a gateway.
type batches struct {
	dir string
	g   *Gateway
	// fresh wakes the runner when a batch was made; it holds one value.
	fresh chan struct{}

	mu      sync.Mutex // guards the fields below, and the request.json files
	running map[string]bool
}

// newBatches keeps batches in a folder.
func newBatches(dir string, g *Gateway) *batches {
	return &batches{dir: filepath.Join(dir, "batches"), g: g, fresh: make(chan struct{}, 1), running: map[string]bool{}}
}

// folder is where a batch is kept.
func (b *batches) folder(id string) string { return filepath.Join(b.dir, id) }

// noBatch says that a batch is not there, or not the caller's.
func noBatch(id string) error {
	return &schemas.Error{Kind: schemas.KindNotFound, Field: "id", Message: "there is no batch " + clip(id)}
}

// load reads a batch's request.
func (b *batches) load(id string) (s storedBatch, err error) {
	if !strings.HasPrefix(id, "batch_") || !schemas.ValidToken(id) {
		return s, noBatch(id)
	}
	raw, err := os.ReadFile(filepath.Join(b.folder(id), requestName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, noBatch(id)
	}
	if err != nil {
		return s, fmt.Errorf("read batch: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, &schemas.Error{Kind: schemas.KindCorrupt, Field: requestName, Message: "does not parse", Err: err}
	}
	return s, nil
}

// save writes a batch's request. Commit point: the rename.
func (b *batches) save(s storedBatch) error {
	raw, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(b.folder(s.ID), 0o700)
	}
	path := filepath.Join(b.folder(s.ID), requestName)
	if err == nil {
		err = os.WriteFile(path+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write batch: %w", err)
	}
	return nil
}

// all reads the requests of all batches, the newest first.
func (b *batches) all() ([]storedBatch, error) {
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	var list []storedBatch
	for _, e := range entries {
		s, err := b.load(e.Name())
		if errors.Is(err, schemas.KindNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(x, y storedBatch) int { return y.Created.Compare(x.Created) })
	return list, nil
}

// createForm is the body of POST /v1/batches.
type createForm struct {
	InputFileID string            `json:"input_file_id"`
	Endpoint    string            `json:"endpoint"`
	Window      string            `json:"completion_window"`
	Metadata    map[string]string `json:"metadata"`
}

// readCreate reads and checks the body of POST /v1/batches.
func readCreate(body []byte) (f createForm, err error) {
	if _, err := openai.ParseObject(body); err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, schemas.FieldError("metadata", "must be an object of strings, and the other fields strings")
	}
	switch {
	case f.InputFileID == "":
		return f, schemas.FieldError("input_file_id", "is required")
	case !slices.Contains(openai.Endpoints()[:4], f.Endpoint):
		return f, schemas.FieldError("endpoint", "must be /v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses")
	case f.Window != "24h":
		return f, schemas.FieldError("completion_window", "must be 24h")
	case len(f.Metadata) > batch.MaxMetadata:
		return f, schemas.FieldError("metadata", "has more than 16 pairs")
	}
	for key, value := range f.Metadata {
		if len(key) > batch.MaxMetadataKey || len(value) > batch.MaxMetadataValue {
			return f, schemas.FieldError("metadata", "keys have at most 64 bytes and values 512")
		}
	}
	return f, nil
}

// postBatch serves POST /v1/batches. With an Idempotency-Key (or metadata.idempotency_key) the same request again is the
// same batch.
func (g *Gateway) postBatch(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	body, err := g.body(w, r, maxBatchRequest)
	if err != nil {
		return err
	}
	f, err := readCreate(body)
	if err != nil {
		return err
	}
	if _, err := g.files.get(f.InputFileID, c); err != nil {
		return err
	}
	s := storedBatch{
		ID: "batch_" + string(schemas.NewJobID()), Owner: c.owner(), InputFileID: f.InputFileID, Endpoint: f.Endpoint, Window: f.Window,
		Metadata: f.Metadata, Created: time.Now().UTC().Truncate(time.Second),
		Fingerprint: schemas.HashFields("cocoon/gateway-batch/v1", []byte(f.InputFileID), []byte(f.Endpoint), []byte(f.Window)),
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = f.Metadata["idempotency_key"]
	}
	if key != "" {
		name := schemas.HashFields("cocoon/gateway-batch-key/v1", []byte(c.owner()), []byte(key))
		s.ID = "batch_" + hex.EncodeToString(name[:16])
	}
	if s, err = g.jobs.create(s); err != nil {
		return err
	}
	return g.writeBatch(w, s)
}

// create makes a batch, or returns the one that has its id already.
func (b *batches) create(s storedBatch) (storedBatch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, err := b.load(s.ID)
	switch {
	case err == nil && have.Fingerprint == s.Fingerprint:
		return have, nil
	case err == nil:
		return s, &schemas.Error{Kind: schemas.KindConflict, Field: "Idempotency-Key", Message: "was used for another batch"}
	case !errors.Is(err, schemas.KindNotFound):
		return s, err
	}
	if err := b.save(s); err != nil {
		return s, err
	}
	select {
	case b.fresh <- struct{}{}:
	default:
	}
	return s, nil
}

// mine returns a batch of the caller's.
func (b *batches) mine(id string, c *caller) (storedBatch, error) {
	s, err := b.load(id)
	if err == nil && s.Owner != c.owner() {
		err = noBatch(id)
	}
	return s, err
}

// writeBatch answers with a batch.
func (g *Gateway) writeBatch(w http.ResponseWriter, s storedBatch) error {
	form, err := g.jobs.form(s)
	if err != nil {
		return err
	}
	return g.writeJSON(w, form)
}

// getBatch serves GET /v1/batches/{id}.
func (g *Gateway) getBatch(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	s, err := g.jobs.mine(r.PathValue("id"), c)
	if err != nil {
		return err
	}
	return g.writeBatch(w, s)
}

// listBatches serves GET /v1/batches.
func (g *Gateway) listBatches(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	all, err := g.jobs.all()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s storedBatch) bool { return s.Owner != c.owner() })
	cut, err := page(r, all, func(s storedBatch) string { return s.ID })
	if err != nil {
		return err
	}
	out := listForm[batchForm]{Object: "list", Data: []batchForm{}, FirstID: cut.FirstID, LastID: cut.LastID, HasMore: cut.HasMore}
	for _, s := range cut.Data {
		form, err := g.jobs.form(s)
		if err != nil {
			return err
		}
		out.Data = append(out.Data, form)
	}
	return g.writeJSON(w, out)
}

// cancelBatch serves POST /v1/batches/{id}/cancel. Lines that were answered stay, and stay paid.
func (g *Gateway) cancelBatch(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	s, err := g.jobs.mine(r.PathValue("id"), c)
	if err != nil {
		return err
	}
	if s, err = g.jobs.cancel(s.ID); err != nil {
		return err
	}
	return g.writeBatch(w, s)
}

// cancel asks for the end of a batch.
func (b *batches) cancel(id string) (storedBatch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.load(id)
	if err != nil {
		return s, err
	}
	form, err := b.form(s)
	if err != nil {
		return s, err
	}
	if slices.Contains([]string{"completed", "failed", "expired", "cancelled"}, form.Status) {
		return s, &schemas.Error{Kind: schemas.KindInvalid, Field: "id", Message: "the batch is " + form.Status + " and cannot be cancelled"}
	}
	if s.CancelledAt.IsZero() {
		s.CancelledAt = time.Now().UTC().Truncate(time.Second)
		if err := b.save(s); err != nil {
			return s, err
		}
	}
	err = batch.RequestCancel(b.folder(id))
	if errors.Is(err, schemas.KindNotFound) {
		err = nil // not validated yet: the runner sees CancelledAt
	}
	return s, err
}

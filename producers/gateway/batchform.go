package gateway

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
)

// Prefixes of the files that hold the results of a batch. They are not stored: their content is the batch's journal.
const (
	outputPrefix = "file-out-"
	errorPrefix  = "file-err-"
)

// form describes a batch as OpenAI does.
func (b *batches) form(s storedBatch) (batchForm, error) {
	f := batchForm{
		ID: s.ID, Object: "batch", Endpoint: s.Endpoint, InputFileID: s.InputFileID, CompletionWindow: s.Window, Metadata: s.Metadata,
		CreatedAt: s.Created.Unix(), ExpiresAt: s.Created.Add(batch.DefaultTimeout).Unix(), Status: "validating",
	}
	if !s.CancelledAt.IsZero() {
		f.Status, f.CancellingAt = "cancelling", at(s.CancelledAt)
	}
	if !s.FailedAt.IsZero() {
		f.Status, f.FailedAt, f.Errors = "failed", at(s.FailedAt), &errorList{"list", s.Issues}
		return f, nil
	}
	have, err := batch.Read(b.folder(s.ID))
	if errors.Is(err, schemas.KindNotFound) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.fill(have.Summary())
	return f, nil
}

// at is a time as OpenAI spells it.
func at(t time.Time) *int64 {
	n := t.Unix()
	return &n
}

// fill adds how far a batch is.
func (f *batchForm) fill(s batch.Summary) {
	f.Counts = countsForm{s.Total, s.Completed, s.Failed}
	f.Cost, f.Reserved, f.Model, f.ExpiresAt, f.InProgressAt = s.Cost, s.Reserved, s.Model, s.Expires.Unix(), at(s.Created)
	u := &f.Usage
	u.Input, u.InputDetails.Cached = s.Usage.Prompt+s.Usage.Cached, s.Usage.Cached
	u.Output, u.OutputDetails.Reasoning = s.Usage.Completion+s.Usage.Reasoning, s.Usage.Reasoning
	u.Total = s.Usage.Total()
	if f.Status != "cancelling" || s.State.Ended() {
		f.Status = string(s.State)
	}
	if !s.State.Ended() {
		return
	}
	f.FinalizingAt = at(s.Finished)
	switch s.State {
	case batch.Completed:
		f.CompletedAt = at(s.Finished)
	case batch.Expired:
		f.ExpiredAt = at(s.Finished)
	case batch.Cancelled:
		f.CancelledAt = at(s.Finished)
	}
	if id := strings.TrimPrefix(s.ID, "batch_"); s.Completed > 0 {
		name := outputPrefix + id
		f.OutputFileID = &name
	}
	if id := strings.TrimPrefix(s.ID, "batch_"); s.Failed > 0 {
		name := errorPrefix + id
		f.ErrorFileID = &name
	}
}

// resultOf splits the id of a result file.
func resultOf(id string) (batchID string, which batch.Which, ok bool) {
	if rest, ok := strings.CutPrefix(id, outputPrefix); ok {
		return "batch_" + rest, batch.Succeeded, true
	}
	if rest, ok := strings.CutPrefix(id, errorPrefix); ok {
		return "batch_" + rest, batch.FailedOnly, true
	}
	return "", 0, false
}

// counting is a writer that only counts.
type counting int64

// Write counts.
func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

// resultFile describes a result file of a batch; ok is false when the id is not that of one. Results can be fetched
// before the batch has ended: they are those that are there.
func (b *batches) resultFile(id string, c *caller) (f fileForm, ok bool, err error) {
	name, which, ok := resultOf(id)
	if !ok {
		return f, false, nil
	}
	s, err := b.mine(name, c)
	if err != nil {
		return f, true, noFile(id)
	}
	have, err := batch.Read(b.folder(name))
	if err != nil {
		return f, true, noFile(id)
	}
	var size counting
	if _, err := have.WriteResults(&size, batch.AsCompleted, which); err != nil {
		return f, true, err
	}
	f = fileForm{
		ID: id, Object: "file", Bytes: int64(size), CreatedAt: s.Created.Unix(), Filename: id + ".jsonl", Purpose: "batch_output", Status: "processed",
	}
	if summary := have.Summary(); summary.State.Ended() {
		f.CreatedAt = summary.Finished.Unix()
	}
	return f, true, nil
}

// writeResult answers with the lines of a result file.
func (b *batches) writeResult(w http.ResponseWriter, id string) error {
	name, which, _ := resultOf(id)
	have, err := batch.Read(b.folder(name))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	_, err = have.WriteResults(&patientWriter{b.g, w}, batch.AsCompleted, which)
	return gone(err)
}

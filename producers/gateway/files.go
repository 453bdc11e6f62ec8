package gateway

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of files.
const (
	// MaxUpload bounds an uploaded file in bytes: OpenAI's limit for batch input.
	MaxUpload = 200 << 20
	// maxForm bounds what stands around the file in an upload.
	maxForm = 1 << 20
	// MaxFiles bounds the files that are kept.
	MaxFiles = 10_000
	// minExpiry and maxExpiry bound how long a file asks to be kept.
	minExpiry, maxExpiry = 3600, 30 * 24 * 3600
	// pageLimit is the most entries of a list page, defaultPage what a page has when nobody says.
	pageLimit, defaultPage = 10_000, 100
)

// fileForm is OpenAI's file object.
type fileForm struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	ExpiresAt *int64 `json:"expires_at,omitempty"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Status    string `json:"status"`
}

// storedFile is a file's description on disk.
type storedFile struct {
	fileForm
	// Owner is the API key that uploaded it.
	Owner string `json:"owner"`
}

// files keeps uploads: <id> is the content and <id>.json its description, written last.
type files struct{ dir string }

// openFiles opens the folder of files.
func openFiles(dir string) (*files, error) {
	f := &files{filepath.Join(dir, "files")}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	return f, nil
}

// noFile says that a file is not there, or not the caller's.
func noFile(id string) error {
	return &schemas.Error{Kind: schemas.KindNotFound, Field: "id", Message: "there is no file " + clip(id)}
}

// path is where a file's content lies.
func (f *files) path(id string) string { return filepath.Join(f.dir, id) }

// get returns a file of the caller's.
func (f *files) get(id string, c *caller) (s storedFile, err error) {
	if !strings.HasPrefix(id, "file-") || !schemas.ValidToken(id) {
		return s, noFile(id)
	}
	b, err := os.ReadFile(f.path(id) + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return s, noFile(id)
	}
	if err != nil {
		return s, fmt.Errorf("read file: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, &schemas.Error{Kind: schemas.KindCorrupt, Field: "file", Message: "its description does not parse", Err: err}
	}
	if s.Owner != c.owner() {
		return s, noFile(id)
	}
	if s.ExpiresAt != nil && time.Now().Unix() >= *s.ExpiresAt {
		return s, errors.Join(noFile(id), f.remove(id))
	}
	return s, nil
}

// remove deletes a file.
func (f *files) remove(id string) error {
	for _, path := range []string{f.path(id) + ".json", f.path(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete file: %w", err)
		}
	}
	return nil
}

// list returns the caller's files, the newest first.
func (f *files) list(c *caller) ([]fileForm, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	list := []fileForm{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		if s, err := f.get(id, c); err == nil {
			list = append(list, s.fileForm)
		} else if !errors.Is(err, schemas.KindNotFound) {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b fileForm) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return list, nil
}

// needFiles refuses when the gateway keeps no files.
func (g *Gateway) needFiles() error {
	if g.files == nil {
		return &schemas.Error{Kind: schemas.KindUnsupported, Field: "url", Message: "this gateway keeps no files: it was started without a folder"}
	}
	return nil
}

// postFile takes an upload.
func (g *Gateway) postFile(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" {
		return schemas.FieldError("Content-Type", "must be multipart/form-data")
	}
	if r.ContentLength > MaxUpload+maxForm {
		return tooLarge(MaxUpload)
	}
	if entries, err := os.ReadDir(g.files.dir); err == nil && len(entries) >= 2*MaxFiles {
		return &schemas.Error{Kind: schemas.KindBusy, Field: "file", Message: "the gateway keeps as many files as it may; delete some"}
	}
	form := multipart.NewReader(g.patient(w, r, MaxUpload+maxForm), params["boundary"])
	s, err := g.files.receive(form, c)
	if err != nil {
		return bodyError(err, MaxUpload)
	}
	return g.writeJSON(w, s.fileForm)
}

// receive stores the parts of an upload. Commit point: the description, which is written last.
func (f *files) receive(form *multipart.Reader, c *caller) (s storedFile, err error) {
	id := "file-" + strings.ToLower(rand.Text()[:24])
	s = storedFile{Owner: c.owner(), fileForm: fileForm{
		ID: id, Object: "file", CreatedAt: time.Now().Unix(), Status: "processed", Filename: "",
	}}
	stored := false
	defer func() {
		if err != nil {
			err = errors.Join(err, f.remove(id))
		}
	}()
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
		switch name := part.FormName(); name {
		case "file":
			s.Filename, stored = filepath.Base(part.FileName()), true
			s.Bytes, err = f.keep(id, part)
		default:
			err = s.field(name, part)
		}
		if err != nil {
			return s, err
		}
	}
	switch {
	case !stored:
		return s, schemas.FieldError("file", "is required")
	case s.Purpose != "batch":
		return s, schemas.FieldError("purpose", "must be batch")
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(f.path(id)+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(f.path(id)+".new", f.path(id)+".json")
	}
	return s, err
}

// keep writes a file's content.
func (f *files) keep(id string, src io.Reader) (n int64, err error) {
	out, err := os.OpenFile(f.path(id), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keep file: %w", err)
	}
	n, err = io.Copy(out, io.LimitReader(src, MaxUpload+1))
	if err == nil && n > MaxUpload {
		err = tooLarge(MaxUpload)
	}
	return n, errors.Join(err, out.Close())
}

// field reads one of the other fields of an upload.
func (s *storedFile) field(name string, src io.Reader) error {
	const limit = 1 << 10
	b, err := io.ReadAll(io.LimitReader(src, limit))
	if err != nil {
		return err
	}
	switch name {
	case "purpose":
		s.Purpose = string(b)
	case "expires_after[anchor]":
		if string(b) != "created_at" {
			return schemas.FieldError("expires_after.anchor", "must be created_at")
		}
	case "expires_after[seconds]":
		n, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil || n < minExpiry || n > maxExpiry {
			return schemas.FieldError("expires_after.seconds", "must lie between 3600 and 2592000")
		}
		at := s.CreatedAt + n
		s.ExpiresAt = &at
	}
	return nil
}

// page cuts a list to what after and limit ask for.
func page[T any](r *http.Request, list []T, id func(T) string) (listForm[T], error) {
	out := listForm[T]{Object: "list", Data: []T{}}
	limit := defaultPage
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > pageLimit {
			return out, schemas.FieldError("limit", "must lie between 1 and 10000")
		}
		limit = n
	}
	if after := r.URL.Query().Get("after"); after != "" {
		at := slices.IndexFunc(list, func(v T) bool { return id(v) == after })
		if at < 0 {
			return out, schemas.FieldError("after", "is not in the list")
		}
		list = list[at+1:]
	}
	out.HasMore = len(list) > limit
	out.Data = append(out.Data, list[:min(limit, len(list))]...)
	if len(out.Data) > 0 {
		first, last := id(out.Data[0]), id(out.Data[len(out.Data)-1])
		out.FirstID, out.LastID = &first, &last
	}
	return out, nil
}

// listFiles serves GET /v1/files: uploads and the results of batches that ended.
func (g *Gateway) listFiles(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	list, err := g.files.list(c)
	if err != nil {
		return err
	}
	if purpose := r.URL.Query().Get("purpose"); purpose != "" {
		list = slices.DeleteFunc(list, func(f fileForm) bool { return f.Purpose != purpose })
	}
	out, err := page(r, list, func(f fileForm) string { return f.ID })
	if err != nil {
		return err
	}
	return g.writeJSON(w, out)
}

// getFile serves GET /v1/files/{id}.
func (g *Gateway) getFile(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	if form, ok, err := g.jobs.resultFile(r.PathValue("id"), c); ok || err != nil {
		if err != nil {
			return err
		}
		return g.writeJSON(w, form)
	}
	s, err := g.files.get(r.PathValue("id"), c)
	if err != nil {
		return err
	}
	return g.writeJSON(w, s.fileForm)
}

// getContent serves GET /v1/files/{id}/content.
func (g *Gateway) getContent(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	id := r.PathValue("id")
	if _, ok, err := g.jobs.resultFile(id, c); ok || err != nil {
		if err != nil {
			return err
		}
		return g.jobs.writeResult(w, id)
	}
	if _, err := g.files.get(id, c); err != nil {
		return err
	}
	f, err := os.Open(g.files.path(id))
	if err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(&patientWriter{g, w}, f)
	return gone(err)
}

// gone turns the failure of a write that has begun into errGone: the answer cannot be changed any more.
func gone(err error) error {
	if err != nil {
		return errGone
	}
	return nil
}

// patientWriter gives every write a time limit of its own.
type patientWriter struct {
	g *Gateway
	w http.ResponseWriter
}

// Write writes within the time limit.
func (p *patientWriter) Write(b []byte) (int, error) {
	p.g.extend(p.w)
	return p.w.Write(b)
}

// deletedForm is OpenAI's answer to DELETE.
type deletedForm struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

// deleteFile serves DELETE /v1/files/{id}. The input of a batch that runs is kept.
func (g *Gateway) deleteFile(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	id := r.PathValue("id")
	if _, err := g.files.get(id, c); err != nil {
		return err
	}
	if g.jobs.uses(id) {
		return &schemas.Error{Kind: schemas.KindConflict, Field: "id", Message: "is the input of a batch that runs"}
	}
	if err := g.files.remove(id); err != nil {
		return err
	}
	return g.writeJSON(w, deletedForm{id, "file", true})
}

// estimateForm is what GET /v1/files/{id}/cost-estimate answers.
type estimateForm struct {
	Object string `json:"object"`
	File   string `json:"file"`
	*batch.Cost
	Wrong  int           `json:"wrong"`
	Issues []batch.Issue `json:"issues"`
}

// getEstimate prices a batch's input before anybody pays for it; ?class= is priority, standard or batch.
func (g *Gateway) getEstimate(w http.ResponseWriter, r *http.Request, c *caller) error {
	if err := g.needFiles(); err != nil {
		return err
	}
	id := r.PathValue("id")
	if _, err := g.files.get(id, c); err != nil {
		return err
	}
	o := batch.Options{Rules: batch.Rules{Mixed: true}}
	if class := r.URL.Query().Get("class"); class != "" {
		var err error
		if o.Class, err = schemas.ParseClass(class); err != nil {
			return err
		}
	}
	catalogue, err := g.o.Client.Catalogue(r.Context())
	if err != nil {
		return err
	}
	f, err := os.Open(g.files.path(id))
	if err != nil {
		return fmt.Errorf("read file: %w", err)
	}
	defer f.Close()
	cost, report, err := batch.Estimate(r.Context(), f, o, catalogue)
	if err != nil {
		return err
	}
	return g.writeJSON(w, estimateForm{"cost_estimate", id, cost, report.Wrong, report.Issues})
}

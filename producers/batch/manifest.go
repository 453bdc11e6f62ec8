package batch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/producers/journal"
	"github.com/cocoon-network/cocoon/schemas"
)

// Names of the files in a batch's folder.
const (
	manifestName = "batch.json"
	journalName  = "journal"
	spoolName    = "spool"
	resultsName  = "results.jsonl"
	cancelName   = "cancel"
)

// maxManifest bounds batch.json in bytes.
const maxManifest = 64 << 10

// manifest is batch.json: what a batch is. It is written once, last of all files, so a folder with one is whole.
type manifest struct {
	V        int          `json:"v"`
	Options  Options      `json:"options"`
	Hash     schemas.Hash `json:"sha256"`
	Lines    int          `json:"lines"`
	Endpoint string       `json:"endpoint"`
	Model    string       `json:"model"`
	Created  time.Time    `json:"created"`
}

// withDefaults fills zero values and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.ID == "" {
		o.ID = "batch_" + strings.ToLower(rand.Text())
	}
	if !schemas.ValidToken(o.ID) {
		return o, schemas.FieldError("id", "must be 1 to 48 characters of a-z, 0-9, _ and -")
	}
	if o.Class == "" {
		o.Class = schemas.Batch
	}
	if _, err := schemas.ParseClass(string(o.Class)); err != nil {
		return o, err
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < time.Second || o.Timeout > schemas.MaxLifetime {
		return o, schemas.FieldError("timeout", "must lie between 1 s and 48 h")
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.Format == "" {
		o.Format = OpenAI
	}
	if o.Format != OpenAI && o.Format != VLLM {
		return o, schemas.FieldError("format", "must be openai or vllm")
	}
	if o.MaxCost < 0 || o.MaxTokens < 0 || o.Window < 0 {
		return o, schemas.FieldError("max_cost", "and max_tokens and window must not be negative")
	}
	return o, checkMetadata(o.Metadata)
}

// checkMetadata holds metadata to OpenAI's limits.
func checkMetadata(m map[string]string) error {
	if len(m) > MaxMetadata {
		return schemas.FieldError("metadata", "has more than 16 pairs")
	}
	for key, value := range m {
		if len(key) > MaxMetadataKey || len(value) > MaxMetadataValue {
			return schemas.FieldError("metadata", "keys have at most 64 bytes and values 512")
		}
	}
	return nil
}

// Create checks the input and makes the folder of a new batch; nothing is sealed or sent yet. A file that is wrong makes
// no folder: the batch is nil and the report says why. KindConflict: the folder holds a batch already.
func Create(ctx context.Context, dir string, o Options) (*Batch, *Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	if o.Input, err = filepath.Abs(o.Input); err != nil {
		return nil, nil, fmt.Errorf("input: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
		return nil, nil, &schemas.Error{Kind: schemas.KindConflict, Field: "dir", Message: "holds a batch already"}
	}
	m := manifest{V: 1, Options: o, Created: time.Now().UTC().Truncate(time.Second)}
	report, checked, err := m.validate(ctx)
	if err != nil || !report.OK() {
		return nil, report, err
	}
	if err := m.store(dir); err != nil {
		return nil, report, err
	}
	b, err := Open(dir)
	if err != nil {
		return nil, report, err
	}
	b.fresh, b.checked = true, checked
	return b, report, nil
}

// validate checks the input and fills in what it holds.
func (m *manifest) validate(ctx context.Context) (*Report, fs.FileInfo, error) {
	f, err := openInput(m.Options.Input)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read input: %w", err)
	}
	digest := sha256.New()
	report, err := Validate(ctx, io.TeeReader(f, digest), m.Options.Rules, func(l Line) error {
		if m.Lines++; m.Lines == 1 {
			m.Endpoint, m.Model = l.Call.URL, l.Call.Model
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return report, info, m.finishHash(f, digest)
}

// finishHash hashes what the reader has left: a packed file may have padding behind its end.
func (m *manifest) finishHash(f *os.File, digest hash.Hash) error {
	if _, err := io.Copy(digest, f); err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	m.Hash = schemas.Hash(digest.Sum(nil))
	return nil
}

// openInput opens an input file.
func openInput(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "input", Message: path + " does not exist", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	return f, nil
}

// store makes the folder. Commit point: the rename of batch.json; a crash before it leaves no batch.
func (m *manifest) store(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make batch: %w", err)
	}
	for _, name := range []string{journalName, spoolName, resultsName, cancelName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make batch: %w", err)
		}
	}
	j, err := journal.Open(filepath.Join(dir, journalName), journalForm, func([]byte) error { return nil })
	if err == nil {
		err = j.Close()
	}
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode batch: %w", err)
	}
	return replaceFile(filepath.Join(dir, manifestName), b, true)
}

// replaceFile writes a file so that a crash leaves the old or the new one; sync says whether it must survive the
// machine, too.
func replaceFile(path string, content []byte, sync bool) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(content)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// readManifest reads batch.json.
func readManifest(dir string) (m manifest, err error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, &schemas.Error{Kind: schemas.KindNotFound, Field: "batch", Message: dir + " holds no batch", Err: err}
	}
	if err != nil {
		return m, fmt.Errorf("read batch: %w", err)
	}
	if err := schemas.DecodeJSON(b, &m, maxManifest); err != nil || m.V != 1 || m.Lines < 1 {
		return m, &schemas.Error{Kind: schemas.KindCorrupt, Field: manifestName, Message: "is not the description of a batch", Err: err}
	}
	return m, nil
}

package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// The spool holds the one block of lines that is being published. It survives the death of the process because the
// system keeps what was written; it is not synced, because after a loss of power its lines are simply sealed again,
// under the same ids: they may then run twice, they cannot be paid twice.

// spoolHead is the first line of the spool: what its lines have in common, and how long the lines behind it are. After it
// come the envelopes, one behind the other.
type spoolHead struct {
	// Attributes are the headers of the first line. The others differ in what their spooled lines say, and for a file of
	// several models in Model.
	Attributes map[string][]string `json:"attributes"`
	Lines      []spoolLine         `json:"lines"`
}

// spoolLine is one line.
type spoolLine struct {
	publishedLine
	Hash   schemas.Hash    `json:"hash"`
	Shard  int             `json:"shard"`
	Model  schemas.ModelID `json:"model"`
	Key    schemas.KeyID   `json:"kid"`
	Length int             `json:"length"`
}

// spool writes lines to the spool.
func (b *Batch) spool(lines []sealedLine) error {
	head := spoolHead{Attributes: lines[0].sealed.Attributes.Header(), Lines: make([]spoolLine, len(lines))}
	size := 0
	for i := range lines {
		s := &lines[i].sealed
		head.Lines[i] = spoolLine{lines[i].publishedLine, s.Hash, s.Shard, s.Attributes.Model, s.Attributes.Key, len(s.Envelope)}
		size += len(s.Envelope)
	}
	text, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	content := append(append(make([]byte, 0, len(text)+1+size), text...), '\n')
	for i := range lines {
		content = append(content, lines[i].sealed.Envelope...)
	}
	return replaceFile(filepath.Join(b.dir, spoolName), content, false)
}

// unspool empties the spool.
func (b *Batch) unspool() error {
	if err := os.Remove(filepath.Join(b.dir, spoolName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("empty spool: %w", err)
	}
	return nil
}

// readSpool reads what an earlier process was publishing when it died; nothing when the spool is not whole.
func (b *Batch) readSpool() ([]sealedLine, error) {
	raw, err := os.ReadFile(filepath.Join(b.dir, spoolName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	text, envelopes, _ := bytes.Cut(raw, []byte("\n"))
	var head spoolHead
	if json.Unmarshal(text, &head) != nil {
		return nil, nil
	}
	common, err := schemas.ParseAttributes(head.Attributes)
	if err != nil {
		return nil, nil
	}
	lines := make([]sealedLine, 0, len(head.Lines))
	for _, s := range head.Lines {
		if s.Length < 0 || s.Length > len(envelopes) {
			return nil, nil
		}
		l := sealedLine{publishedLine: s.publishedLine, sealed: producers.Sealed{
			Attributes: common, Hash: s.Hash, Shard: s.Shard, Tokens: s.Tokens, Envelope: envelopes[:s.Length:s.Length],
		}}
		a := &l.sealed.Attributes
		a.ID, a.Budget, a.Time, a.Expiry, a.Model, a.Key = s.Job, s.Budget, s.Time, s.Expiry, s.Model, s.Key
		e, err := schemas.ParseEnvelope(l.sealed.Envelope)
		if err != nil || e.Hash(a) != s.Hash { // written in part, or not at all: the system lost power
			return nil, nil
		}
		lines, envelopes = append(lines, l), envelopes[s.Length:]
	}
	return lines, nil
}

// spooled publishes what an earlier process was publishing when it died: the same bytes, so what had arrived is not
// stored twice. It is the first thing a run does.
func (r *runner) spooled(ctx context.Context) error {
	lines, err := r.b.readSpool()
	if err != nil {
		return err
	}
	var open []sealedLine
	for _, l := range lines {
		if generation, waits := r.waits(l.Line); waits && generation == l.Generation {
			open = append(open, l)
		}
	}
	if len(open) > 0 {
		r.log.Info("publishing again what was under way", "lines", len(open))
		if err := r.transmit(ctx, open, true); err != nil {
			return err
		}
	}
	return r.b.unspool()
}

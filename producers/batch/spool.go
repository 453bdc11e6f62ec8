package batch

import (
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

// maxSpool bounds the spool in bytes: a block, or one line of the largest size.
const maxSpool = blockBytes + blockLines*(16<<10) + 2*schemas.MaxEnvelope

// spoolForm is the spool file.
type spoolForm struct {
	_     struct{} `cbor:",toarray"`
	Lines []spoolLine
	// Check is the hash of the lines: half a spool is none.
	Check schemas.Hash
}

// spoolLine is one line. Line and Header are JSON.
type spoolLine struct {
	_        struct{} `cbor:",toarray"`
	Line     []byte
	Header   []byte
	Hash     schemas.Hash
	Shard    int
	Envelope []byte
}

// checkOf is the hash of spooled lines.
func checkOf(lines []spoolLine) schemas.Hash {
	fields := make([][]byte, 0, 3*len(lines))
	for i := range lines {
		fields = append(fields, lines[i].Line, lines[i].Header, lines[i].Hash[:])
	}
	return schemas.HashFields("cocoon/batch-spool/v1", fields...)
}

// spool writes lines to the spool.
func (b *Batch) spool(lines []sealedLine) error {
	form := spoolForm{Lines: make([]spoolLine, len(lines))}
	for i := range lines {
		s := &lines[i].sealed
		line, err := json.Marshal(lines[i].publishedLine)
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		header, err := json.Marshal(s.Attributes.Header())
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		form.Lines[i] = spoolLine{Line: line, Header: header, Hash: s.Hash, Shard: s.Shard, Envelope: s.Envelope}
	}
	form.Check = checkOf(form.Lines)
	return replaceFile(filepath.Join(b.dir, spoolName), schemas.EncodeCBOR(form), false)
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
	var form spoolForm
	if schemas.DecodeCBOR(raw, &form, maxSpool) != nil || form.Check != checkOf(form.Lines) {
		return nil, nil
	}
	lines := make([]sealedLine, 0, len(form.Lines))
	for _, s := range form.Lines {
		var l sealedLine
		var header map[string][]string
		if err := errors.Join(json.Unmarshal(s.Line, &l.publishedLine), json.Unmarshal(s.Header, &header)); err != nil {
			return nil, nil
		}
		l.sealed = producers.Sealed{Hash: s.Hash, Shard: s.Shard, Envelope: s.Envelope}
		if l.sealed.Attributes, err = schemas.ParseAttributes(header); err != nil {
			return nil, nil
		}
		lines = append(lines, l)
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

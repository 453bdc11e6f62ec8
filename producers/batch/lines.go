package batch

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of an input file. The first two are OpenAI's.
const (
	// MaxLines bounds the requests of one file.
	MaxLines = 50_000
	// MaxFile bounds the file in bytes, after decompression.
	MaxFile = 200 << 20
	// MaxLine bounds one line in bytes: the largest request and its frame.
	MaxLine = schemas.MaxRequestBody + 64<<10
	// MaxCustomID bounds a custom_id in bytes.
	MaxCustomID = 512
)

// Line is one request of a file. It shares memory with the reader and is good until the next line is read.
type Line struct {
	// Number is the 1-based line of the file, blank lines counted.
	Number int
	// CustomID is the caller's name for it, unique in the file.
	CustomID string
	// Call is the request, checked.
	Call *openai.Call
}

// Rules say what a file may hold.
type Rules struct {
	// Endpoint, when set, is the only url allowed: OpenAI's batches have one endpoint.
	Endpoint string `json:"endpoint,omitempty"`
	// Mixed allows several models and endpoints in one file, as vLLM does.
	Mixed bool `json:"mixed,omitempty"`
	// MaxLines and MaxFile lower the package's limits; 0 means these.
	MaxLines int   `json:"max_lines,omitempty"`
	MaxFile  int64 `json:"max_file,omitempty"`
}

// reader takes an input file apart. It never holds more than one line.
type reader struct {
	rules Rules
	src   *bufio.Reader
	raw   *counter // bytes after decompression
	buf   []byte
	line  int
	count int
	seen  map[[16]byte]int32
	url   string
	model string
}

// Lines yields the requests of an input file, or an [*Issue] where a line is wrong; reading goes on after it unless
// nothing can be read any more. The input may be plain, gzip or zstd.
func Lines(src io.Reader, rules Rules) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r, err := newReader(src, rules)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer r.raw.close()
		for {
			line, err := r.next()
			if err == io.EOF {
				return
			}
			if !yield(line, err) {
				return
			}
			var i *Issue
			if errors.As(err, &i) && i.fatal || err != nil && i == nil {
				return
			}
		}
	}
}

// newReader finds out how the input is packed.
func newReader(src io.Reader, rules Rules) (*reader, error) {
	if rules.MaxLines <= 0 || rules.MaxLines > MaxLines {
		rules.MaxLines = MaxLines
	}
	if rules.MaxFile <= 0 || rules.MaxFile > MaxFile {
		rules.MaxFile = MaxFile
	}
	plain, err := unpack(src)
	if err != nil {
		return nil, err
	}
	raw := &counter{src: plain, limit: rules.MaxFile}
	r := &reader{rules: rules, raw: raw, src: bufio.NewReaderSize(raw, 256<<10), seen: map[[16]byte]int32{}, url: rules.Endpoint}
	if err := r.encoding(); err != nil {
		raw.close()
		return nil, err
	}
	return r, nil
}

// encoding skips the byte order mark of UTF-8 and refuses other encodings by theirs.
func (r *reader) encoding() error {
	head, err := r.src.Peek(4)
	if err != nil && err != io.EOF {
		return r.failed(err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, err := r.src.Discard(3)
		return err
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")),
		len(head) == 4 && (head[0] == 0 && head[1] != 0 || head[0] != 0 && head[1] == 0):
		return fatal(issue(CodeEncoding, 1, "", "is UTF-16 or UTF-32; the file must be UTF-8"))
	}
	return nil
}

// fatal marks an issue after which nothing can be read.
func fatal(i *Issue) *Issue {
	i.fatal = true
	return i
}

// failed turns a failure of the source into what the user can mend.
func (r *reader) failed(err error) error {
	var i *Issue
	var e *schemas.Error
	switch {
	case errors.As(err, &i):
		return fatal(i)
	case errors.As(err, &e):
		return err
	case r.raw.packed():
		return fatal(issue(CodeCompression, max(r.line, 1), "", "is not readable as "+r.raw.src.name+": "+err.Error()))
	}
	return fmt.Errorf("read input: %w", err)
}

// next reads up to the next request. It returns io.EOF after the last.
func (r *reader) next() (Line, error) {
	for {
		text, err := r.text()
		if err == io.EOF && r.count == 0 {
			r.count++ // say it once
			return Line{}, fatal(issue(CodeEmptyFile, 0, "", "has no requests"))
		}
		if err != nil {
			return Line{}, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if r.count++; r.count > r.rules.MaxLines {
			i := issue(CodeTooMany, r.line, "", fmt.Sprintf("is request number %d; a file has at most %d", r.count, r.rules.MaxLines))
			i.Kind = schemas.KindTooLarge
			return Line{}, fatal(i)
		}
		return r.parse(text)
	}
}

// text reads one line without its end. A line that is too long is skipped to its end.
func (r *reader) text() ([]byte, error) {
	r.buf = r.buf[:0]
	r.line++
	long := false
	for {
		part, err := r.src.ReadSlice('\n')
		if long = long || len(r.buf)+len(part) > MaxLine; !long {
			r.buf = append(r.buf, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(r.buf) == 0 && !long:
			return nil, io.EOF
		case err != nil && err != io.EOF:
			return nil, r.failed(err)
		case long:
			i := issue(CodeLineTooLong, r.line, "", fmt.Sprintf("is longer than %d bytes", MaxLine))
			i.Kind = schemas.KindTooLarge
			r.count++
			return nil, i
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(r.buf, []byte("\n")), []byte("\r")), nil
	}
}

// parse checks one request.
func (r *reader) parse(text []byte) (Line, error) {
	if !utf8.Valid(text) {
		return Line{}, issue(CodeEncoding, r.line, "", "is not valid UTF-8")
	}
	o, body, err := openai.ParseFrame(text, "body")
	if err != nil {
		return Line{}, issueOf(err, CodeInvalidJSON, r.line, "")
	}
	id, err := r.customID(o)
	if err != nil {
		return Line{}, err
	}
	line := Line{Number: r.line, CustomID: id}
	line.Call, err = r.call(o, body)
	return line, err
}

// customID reads the caller's name for the line and refuses one that was seen before.
func (r *reader) customID(o openai.Object) (string, error) {
	id, err := o.String("custom_id")
	switch {
	case err != nil:
		return "", issueOf(err, CodeCustomID, r.line, "")
	case id == "":
		return "", issue(CodeCustomID, r.line, "custom_id", "is required")
	case len(id) > MaxCustomID:
		return "", issue(CodeCustomID, r.line, "custom_id", fmt.Sprintf("is longer than %d bytes", MaxCustomID))
	}
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:16])
	if first, twice := r.seen[key]; twice {
		i := issue(CodeDuplicate, r.line, "custom_id", fmt.Sprintf("%q is already on line %d", id, first))
		i.Kind = schemas.KindConflict
		return "", i
	}
	r.seen[key] = int32(r.line)
	return id, nil
}

// call reads the request of a line and holds it against the file's rules.
func (r *reader) call(o, fields openai.Object) (*openai.Call, error) {
	method, err := o.String("method")
	if err != nil || method != "POST" {
		return nil, issue(CodeMethod, r.line, "method", "must be POST")
	}
	url, err := o.String("url")
	if err != nil || url == "" {
		return nil, issue(CodeURL, r.line, "url", "must be an endpoint's path")
	}
	if r.url == "" && !r.rules.Mixed {
		r.url = url
	}
	if r.url != "" && url != r.url {
		return nil, issue(CodeURLMismatch, r.line, "url", fmt.Sprintf("is not %s, the endpoint of this file", r.url))
	}
	body := o.Get("body")
	if fields == nil {
		return nil, issue(CodeBody, r.line, "body", "must be an object")
	}
	call, err := openai.ParseObjectCall(url, body, fields)
	if err != nil {
		code := CodeBody
		if schemas.KindOf(err) == schemas.KindUnsupported {
			return nil, issueOf(err, CodeURL, r.line, "")
		}
		return nil, issueOf(err, code, r.line, "body")
	}
	if call.Stream {
		return nil, issue(CodeBody, r.line, "body.stream", "must not be true: a batch line has one answer")
	}
	if r.model == "" {
		r.model = call.Model
	}
	if !r.rules.Mixed && call.Model != r.model {
		return nil, issue(CodeModelMix, r.line, "body.model", fmt.Sprintf("is not %s, the model of this file", r.model))
	}
	return call, nil
}

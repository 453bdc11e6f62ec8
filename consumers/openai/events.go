package openai

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/cocoon-network/cocoon/schemas"
)

// events reads server-sent events: blocks of lines, of which only data matters here.
type events struct {
	r     *bufio.Reader
	moved func() // called whenever something arrived
	total int
}

func newEvents(r io.Reader, moved func()) *events {
	return &events{r: bufio.NewReaderSize(r, 16<<10), moved: moved}
}

// next returns the data of the next event. io.EOF: the stream ended between events.
func (e *events) next() ([]byte, error) {
	var data []byte
	some := false
	for {
		line, err := e.line()
		if errors.Is(err, io.EOF) && len(line) == 0 {
			if some {
				return data, nil // a last event without the empty line after it
			}
			return nil, io.EOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		switch {
		case len(line) == 0:
			if some {
				return data, nil
			}
		case bytes.HasPrefix(line, []byte("data:")):
			if some {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(line[len("data:"):], []byte(" "))...)
			some = true
		}
		if len(data) > maxEvent {
			return nil, tooMuch()
		}
	}
}

// line reads up to a line feed, without it and a carriage return before it.
func (e *events) line() ([]byte, error) {
	var line []byte
	for {
		part, err := e.r.ReadSlice('\n')
		if len(part) > 0 {
			e.moved()
		}
		line = append(line, part...)
		if e.total += len(part); e.total > maxAnswer || len(line) > maxEvent {
			return nil, tooMuch()
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), err
	}
}

func tooMuch() error {
	return &schemas.Error{Kind: schemas.KindEngine, Message: "the model server sends more than an answer may have"}
}

package slice

import (
	"strings"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of cutting.
const (
	// MinSize is the smallest piece size in bytes: it holds any character and leaves room to look for a border.
	MinSize = 64
	// MaxDocument bounds a document in bytes.
	MaxDocument = 64 << 20
	// MaxPieces bounds the pieces of a document.
	MaxPieces = 50_000
)

// borders are where a piece may end, the best first.
var borders = []string{"\n\n", "\n", ". ", "。", "! ", "? ", " "}

// Cut cuts a document into pieces of at most size bytes. A piece begins overlap bytes before the end of the one before
// it, moved to a border. Leaving out the overlaps, the pieces put together are the document.
func Cut(document string, size, overlap int) ([]string, error) {
	switch {
	case size < MinSize:
		return nil, schemas.FieldError("size", "must be at least 64 bytes")
	case overlap < 0 || overlap > size/2:
		return nil, schemas.FieldError("overlap", "must lie between 0 and half of size")
	case len(document) > MaxDocument:
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "document", Message: "is longer than 64 MiB"}
	case !utf8.ValidString(document):
		return nil, schemas.FieldError("document", "is not valid UTF-8")
	}
	var pieces []string
	for start := 0; start < len(document); {
		end := start + pieceEnd(document[start:], size)
		pieces = append(pieces, document[start:end])
		if len(pieces) > MaxPieces {
			return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "document", Message: "has more than 50,000 pieces; choose a larger size"}
		}
		if end == len(document) {
			break
		}
		start = max(start+1, overlapStart(document, start, end, overlap))
	}
	return pieces, nil
}

// pieceEnd is where the first piece of a text ends.
func pieceEnd(text string, size int) int {
	if len(text) <= size {
		return len(text)
	}
	cut := wholeRune(text, size)
	for _, b := range borders {
		// A border in the first half would make pieces too small: rather take a worse one further on.
		if at := strings.LastIndex(text[:cut], b); at >= size/2 {
			return at + len(b)
		}
	}
	return cut
}

// wholeRune moves an offset back to the start of a character.
func wholeRune(text string, at int) int {
	for at > 0 && !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}

// overlapStart is where the next piece begins: overlap bytes before the last one's end, behind the first border there.
func overlapStart(document string, start, end, overlap int) int {
	if overlap == 0 {
		return end
	}
	from := max(wholeRune(document, end-overlap), start)
	for _, b := range borders {
		if at := strings.Index(document[from:end], b); at >= 0 && from+at+len(b) < end {
			return from + at + len(b)
		}
	}
	if from <= start {
		return end
	}
	return from
}

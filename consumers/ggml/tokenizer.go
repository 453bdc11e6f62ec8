package ggml

import (
	"slices"
	"strings"

	"github.com/ollama/ollama/tokenizer"

	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
)

// vocabulary is the model's tokenizer with what we need to know about its tokens. It may be used by several goroutines.
type vocabulary struct {
	tok  tokenizer.Tokenizer
	file *gguf.Model
	// longest is the most bytes of text that one token can stand for.
	longest int
	// control are the texts of control tokens by their first byte.
	control map[byte][]string
}

// newVocabulary looks through the tokens once.
func newVocabulary(tok tokenizer.Tokenizer, file *gguf.Model) *vocabulary {
	v := &vocabulary{tok: tok, file: file, control: map[byte][]string{}}
	for i, s := range file.Tokens {
		v.longest = max(v.longest, len(s))
		if file.TokenTypes[i] == gguf.TokenControl {
			v.control[s[0]] = append(v.control[s[0]], s)
		}
	}
	return v
}

// encode turns text into tokens, with the token that begins a sequence in front if the model wants one.
func (v *vocabulary) encode(s string) (ids []int32, err error) {
	err = guard(func() error {
		ids, err = v.tok.Encode(s, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	if v.file.AddBOS && v.file.BOS >= 0 && (len(ids) == 0 || ids[0] != v.file.BOS) {
		ids = slices.Insert(ids, 0, v.file.BOS)
	}
	return ids, nil
}

// closed adds the token that ends a text, if the model wants one there.
func (v *vocabulary) closed(ids []int32) []int32 {
	if v.file.AddEOS && v.file.EOS >= 0 && (len(ids) == 0 || ids[len(ids)-1] != v.file.EOS) {
		ids = append(ids, v.file.EOS)
	}
	return ids
}

// piece is the text of one token. Control tokens have none.
func (v *vocabulary) piece(id int32) string {
	if v.file.TokenTypes[id] == gguf.TokenControl || v.file.TokenTypes[id] == gguf.TokenUnknown {
		return ""
	}
	s, err := v.tok.Decode([]int32{id})
	if err != nil {
		return ""
	}
	return s
}

// ends reports whether a token ends an answer.
func (v *vocabulary) ends(id int32) bool {
	return id == v.file.EOS || v.tok.Is(id, tokenizer.SpecialEOS)
}

// holdsControl reports whether text contains a control token, which the tokenizer would take for the real one.
func (v *vocabulary) holdsControl(s string) bool {
	for i := range len(s) {
		for _, c := range v.control[s[i]] {
			if strings.HasPrefix(s[i:], c) {
				return true
			}
		}
	}
	return false
}

// tooLong reports whether a text cannot fit into n tokens, without encoding it.
func (v *vocabulary) tooLong(bytes, n int) bool { return bytes/v.longest > n }

// leadingSpace reports whether the first space of an answer belongs to the tokenizer and not to the text, as with
// SentencePiece, which spells words with the space before them.
func (v *vocabulary) leadingSpace() bool { return v.file.Tokenizer == "llama" }

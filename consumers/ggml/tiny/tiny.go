// Package tiny is the model that comes with the program: a very small chat model whose answers can be checked, so that a
// machine without GPU and network runs real inference. Only programs that import this package carry its 3.7 MB.
//
// It is a demonstration, not an assistant: it knows the closed grammars and word lists it was trained on (translation
// into French and Spanish, small sums, sorting, spelling, sentiment and the like) and answers "I don't know." to what it
// recognises as outside of them. deploy/model has its recipe, its held-out examples and its accuracy by task.
//
// [FS] gives the weights as the folder that a model owner would seal; the root over it is part of the model's id.
package tiny

import (
	"embed"
	"io/fs"
)

// What the catalogue says about the model.
const (
	// Name and Revision are the readable part of its id.
	Name     = "cocoon-tiny"
	Revision = "1"
	// Context is the largest number of prompt and answer tokens.
	Context = 512
	// File is the name of the only file of the folder.
	File = "cocoon-tiny.gguf"
)

//go:embed cocoon-tiny.gguf
var files embed.FS

// FS is the folder with the weights.
func FS() fs.FS { return files }

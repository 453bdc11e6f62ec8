package ggml

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// OpenFolder loads the model of a folder of weights: its one GGUF file. Further files (licences, templates) do not
// matter; several GGUF files are refused, since nobody said which.
func OpenFolder(ctx context.Context, dir string, o Options) (*Engine, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "the folder of the model cannot be read", Err: err}
	}
	var file string
	for _, e := range entries {
		if !strings.EqualFold(filepath.Ext(e.Name()), ".gguf") {
			continue
		}
		if file != "" {
			return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "model", Message: "the folder has several GGUF files"}
		}
		file = e.Name()
	}
	if file == "" {
		return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "the folder has no GGUF file"}
	}
	return Open(ctx, filepath.Join(dir, file), o)
}

package weights_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
)

// The root names the files exactly; the model's id contains it.
func ExampleRoot() {
	files := fstest.MapFS{"model.gguf": {Data: []byte("weights")}, "config.json": {Data: []byte("{}")}}
	list, root, err := weights.Root(context.Background(), files)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range list {
		fmt.Println(f.Path, f.Size)
	}
	fmt.Println(schemas.ModelRef{Name: "tiny", Revision: "1", Root: root}.ID())
	// Output:
	// config.json 2
	// model.gguf 7
	// tiny@1:sha256-e2af245f1215a6026fc8af9f572c1f021bb2fd0481008678497948ae580ee7de
}

package slice_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/producers/slice"
)

// A long document is cut into pieces, each is answered, and the answers are put together. Run again with the same key it
// pays for nothing twice.
func ExampleRun() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		worker, _ := n.Work(t, producerstest.Echo)
		client := n.Client(t)
		document := "First paragraph.\n\n" + strings.Repeat("Second paragraph. ", 4) + "\n\nThird and last paragraph."
		options := slice.Options{Model: "tiny", Map: "Repeat the text.", Size: 80, Key: "my document"}
		for range 2 {
			result, err := slice.Run(ctx, client, document, options)
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println(result.Pieces, "pieces,", strings.Count(result.Text, "you said: "), "answers,", worker.Runs(), "runs")
		}
	})
	// Output:
	// 2 pieces, 2 answers, 2 runs
	// 2 pieces, 2 answers, 2 runs
}

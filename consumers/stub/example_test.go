package stub_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
)

// Every engine is used in this way: submit, read events to the end, close.
func Example() {
	var engine consumers.Engine = stub.New(stub.Options{})
	stream, err := engine.Submit(context.Background(), &consumers.Request{URL: consumers.PathChat, Body: []byte(`{"stream":true}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	deltas := 0
	for {
		event, err := stream.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		if event.Done == nil {
			deltas++
			continue
		}
		fmt.Println(deltas, "deltas,", event.Done.Usage.Total(), "tokens,", event.Done.FinishReason)
	}
	// Output: 50 deltas, 134 tokens, stop
}

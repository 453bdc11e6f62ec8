package gateway_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/producerstest"
)

// An application written for OpenAI's API needs another base URL, and nothing else.
func ExampleNew() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		g, err := gateway.New(gateway.Options{Client: n.Client(t)})
		if err != nil {
			fmt.Println(err)
			return
		}
		server := httptest.NewServer(g) // a real program: g.Server().Serve(listener)
		defer server.Close()

		client := openai.NewClient(option.WithBaseURL(server.URL+"/v1"), option.WithAPIKey("any"))
		answer, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
			Model: "tiny", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Choices[0].Message.Content)
	})
	// Output: you said: hello
}

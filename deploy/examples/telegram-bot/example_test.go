package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/producers/producerstest"
)

// The bot summarises what was said in a chat since the last summary.
func Example() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		telegramAPI := &fakeTelegram{delivered: map[int64]int{}}
		server := httptest.NewServer(telegramAPI)
		defer server.Close()
		b := &bot{
			api: &telegram{base: server.URL, token: testToken, http: server.Client()}, client: n.Client(t), model: producerstest.ModelName,
			size: 500, log: slog.New(slog.DiscardHandler), threads: map[int64][]message{},
		}
		telegramAPI.say(1, "Ann", "Shall we meet at nine?")
		telegramAPI.say(1, "Bob", "Ten is better.")
		telegramAPI.say(1, "Ann", "/summary")
		updates, err := b.api.updates(ctx, 0)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, u := range updates {
			b.handle(ctx, u.Message)
		}
		for _, sent := range telegramAPI.sent {
			fmt.Println(strings.ReplaceAll(sent, "\n", " | "))
		}
	})
	// Output: 1: you said: Ann: Shall we meet at nine? | Bob: Ten is better. |
}

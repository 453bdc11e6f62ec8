package cli_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain counts the goroutines that tests leave behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.5.func1"),       // the server's clock
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"), // the same, by its new name
	)
}

package consumers_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestMain serves as a server in a process of its own, or runs the tests and fails when they leave something running.
func TestMain(m *testing.M) {
	code := streamstest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

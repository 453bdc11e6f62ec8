package control

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a service leaves something running.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

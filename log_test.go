package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

// TestWorkerLogsJSON: every line of a worker's log is a JSON object, of the level that was asked for or above.
func TestWorkerLogsJSON(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log, err := newWorkerLogger(&out, "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this", "model", "a \"quoted\" one")
	var line struct{ Level, Msg, Model string }
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil || line.Level != "WARN" || line.Msg != "this" || line.Model != `a "quoted" one` {
		t.Errorf("%s (%v)", out.String(), err)
	}
	if _, err := newWorkerLogger(&out, "loud"); cli.ExitCode(err) != cli.ExitUsage {
		t.Errorf("an unknown level: %v", err)
	}
}

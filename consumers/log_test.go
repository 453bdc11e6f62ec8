package consumers

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLogWithholds: nothing outside the allow-list reaches a log, by whatever way it comes.
func TestLogWithholds(t *testing.T) {
	t.Parallel()
	const secret = "what is my diagnosis"
	var out bytes.Buffer
	log := quiet(slog.New(slog.NewTextHandler(&out, nil)))
	log.Info("m", "prompt", secret, "job", "j1")
	log.With("body", secret).Info("m", "model", "m1")
	log.WithGroup(secret).Info("m", "kind", "engine_failed")
	log.Info("m", slog.Group("job", "text", secret))
	if strings.Contains(out.String(), secret) {
		t.Errorf("the log has plaintext:\n%s", out.String())
	}
	for _, want := range []string{"job=j1", "model=m1", "kind=engine_failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, out.String())
		}
	}
}

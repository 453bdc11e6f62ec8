package main

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/cocoon-network/cocoon/schemas/cli"
)

// newLogger logs text lines to a terminal's standard error.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	l, err := parseLevel(level)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), err
}

// newWorkerLogger logs JSON lines: a worker runs where nobody watches a terminal. What the worker itself may say is an
// allow-list of keys, see package consumers.
func newWorkerLogger(w io.Writer, level string) (*slog.Logger, error) {
	l, err := parseLevel(level)
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), err
}

// parseLevel reads --log-level.
func parseLevel(level string) (l slog.Level, err error) {
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return l, cli.Usagef("--log-level must be debug, info, warn or error, not %q", level)
	}
	return l, nil
}

// hostname names this machine to operators.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

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
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, cli.Usagef("--log-level must be debug, info, warn or error, not %q", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// hostname names this machine to operators.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

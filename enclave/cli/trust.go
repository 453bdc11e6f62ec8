package cli

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// readTrust reads a trust file.
func readTrust(path string) (schemas.Trust, error) {
	if path == "" {
		return schemas.Trust{}, cli.Usagef("--trust is required: the file with the root keys and the environment")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return schemas.Trust{}, schemas.Errorf(schemas.KindNotFound, "trust: %w", err)
	}
	return schemas.ParseTrust(b)
}

// logger writes to the command's standard error.
func logger(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}

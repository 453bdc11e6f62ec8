package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// ModelsCommand is `cocoon models`: what can be asked.
func ModelsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "Models and prices of the network"}
	conn := connectionFlags(cmd)
	cmd.AddCommand(modelsList(conn))
	return cmd
}

// modelsList is `cocoon models ls`.
func modelsList(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs,
		Short: "List the models of the verified catalogue and what a million tokens cost",
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		catalogue, err := s.Catalogue(cmd.Context())
		if err != nil {
			return err
		}
		return cli.List(out, catalogue.Models, func(list []schemas.Model) cli.Table {
			t := cli.Table{Header: []string{"MODEL", "CONTEXT", "PROMPT TON/M", "CACHED TON/M", "COMPLETION TON/M", "REASONING TON/M", "ENDPOINTS"}}
			for _, m := range list {
				t.Rows = append(t.Rows, []string{
					shortModel(string(m.ID)), strconv.Itoa(m.Context), m.Price.Prompt.Decimal(), m.Price.Cached.Decimal(), m.Price.Completion.Decimal(),
					m.Price.Reasoning.Decimal(), strings.Join(m.Endpoints, " "),
				})
			}
			return t
		})
	}
	return cmd
}

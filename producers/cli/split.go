package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/producers/slice"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// splitView is what slicing came to.
type splitView struct {
	Text   string          `json:"text"`
	Pieces int             `json:"pieces"`
	Jobs   int             `json:"jobs"`
	Usage  schemas.Usage   `json:"usage"`
	Cost   schemas.NanoTON `json:"cost"`
}

// batchSplit is `cocoon batch split`.
func batchSplit(conn *connection) *cobra.Command {
	var o slice.Options
	var class string
	var lines bool
	cmd := &cobra.Command{
		Use: "split DOCUMENT", Args: cobra.ExactArgs(1),
		Short: "Cut a long text into pieces, ask a question over each and put the answers together",
		Long: `Cut a long text (- is standard input) into pieces, ask over each with --map, and put the
answers together with --reduce. Each piece is an ordinary job; called again with the same
arguments it goes on where it stopped, and nothing is paid twice.

--lines only writes the map step as batch lines, for cocoon batch submit.`,
		Example: `  cocoon batch split book.txt -m cocoon-tiny --map "Summarise the text." --reduce "Put the summaries together."
  cocoon batch split book.txt -m cocoon-tiny --map "Translate to French." --lines > lines.jsonl`,
	}
	f := cmd.Flags()
	f.StringVarP(&o.Model, "model", "m", "", "model; required")
	f.StringVar(&o.Map, "map", "", "instruction for a piece; required")
	f.StringVar(&o.Reduce, "reduce", "", "instruction for putting answers together (default: none, the answers follow each other)")
	f.IntVar(&o.Size, "size", slice.DefaultSize, "the largest piece in bytes")
	f.IntVar(&o.Overlap, "overlap", 0, "how many bytes of one piece the next repeats")
	f.IntVar(&o.MaxTokens, "max-tokens", 0, "the most tokens of one answer (default: the model's)")
	f.IntVar(&o.Parallel, "parallel", slice.DefaultParallel, "pieces that are answered at a time")
	f.StringVar(&class, "class", "", "priority, standard or batch (default standard)")
	f.StringVar(&o.Key, "key", "", "name of the run (default: the document's path)")
	f.BoolVar(&lines, "lines", false, "write batch lines instead of running them")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Model == "" || o.Map == "" {
			return cli.Usagef("--model and --map are required")
		}
		document, err := readDocument(cmd, args[0])
		if err != nil {
			return err
		}
		if lines {
			_, err := slice.Lines(cmd.OutOrStdout(), document, pieceName(args[0]), o)
			return err
		}
		if class != "" {
			if o.Class, err = schemas.ParseClass(class); err != nil {
				return cli.Usagef("--class must be priority, standard or batch")
			}
		}
		if o.Key == "" {
			o.Key = args[0]
		}
		return split(cmd, conn, out, document, o)
	}
	return cmd
}

// split runs the pieces and prints the answer.
func split(cmd *cobra.Command, conn *connection, out *cli.Output, document string, o slice.Options) error {
	s, err := conn.open(cmd)
	if err != nil {
		return err
	}
	defer s.close(cmd)
	o.OnPiece = func(step string, done, total int) {
		if done == total || done%10 == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d of %d\n", step, done, total)
		}
	}
	r, err := slice.Run(cmd.Context(), s, document, o)
	if cmd.Context().Err() != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "stopped; the same command goes on where it stopped")
		return cmd.Context().Err()
	}
	if err != nil {
		return err
	}
	return cli.One(out, splitView{r.Text, r.Pieces, r.Jobs, r.Usage, r.Cost}, func(v splitView) [][2]string {
		return [][2]string{{"answer", v.Text}, {"pieces", fmt.Sprint(v.Pieces)}, {"jobs", fmt.Sprint(v.Jobs)}, {"cost", v.Cost.String()}}
	})
}

// readDocument reads the text to be cut.
func readDocument(cmd *cobra.Command, path string) (string, error) {
	var src io.Reader = cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", schemas.Errorf(schemas.KindNotFound, "%w", err)
		}
		defer f.Close()
		src = f
	}
	b, err := io.ReadAll(io.LimitReader(src, slice.MaxDocument+1))
	if err != nil {
		return "", fmt.Errorf("read document: %w", err)
	}
	return string(b), nil
}

// pieceName is the prefix of the custom_ids of a document's pieces.
func pieceName(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if name == "" || name == "-" {
		return "piece"
	}
	return name
}

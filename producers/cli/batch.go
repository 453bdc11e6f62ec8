package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// BatchCommand is `cocoon batch`: files of requests.
func BatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Run files of requests (OpenAI batch lines in, result lines out)",
		Long: `Run files of requests: OpenAI's batch lines in, OpenAI's or vLLM's result lines out.

A batch is a folder in --state. Whatever stops it (Ctrl-C, kill -9, a reboot), resume goes
on where it stopped and pays for nothing twice. Every line that was answered is kept, also
when the batch is cancelled, expires or runs out of its budget.`,
		Example: `  cocoon batch validate lines.jsonl
  cocoon batch cost lines.jsonl
  cocoon batch submit lines.jsonl --max-cost 2 -f answers.jsonl
  cocoon batch resume BATCH
  cocoon batch results BATCH --order input > answers.jsonl`,
	}
	conn := connectionFlags(cmd)
	cmd.AddCommand(
		batchValidate(), batchCost(conn), batchSubmit(conn), batchStream(conn), batchWatch(conn), batchResume(conn),
		batchResults(conn), batchCancel(conn), batchRetry(conn), batchList(conn), batchSplit(conn),
	)
	return cmd
}

// validateView is what validation found in one file.
type validateView struct {
	File string `json:"file"`
	*batch.Report
}

// batchValidate is `cocoon batch validate`.
func batchValidate() *cobra.Command {
	var rules batch.Rules
	cmd := &cobra.Command{
		Use: "validate FILE...", Args: cobra.MinimumNArgs(1),
		Short: "Check files and name everything that is wrong with them, line by line",
		Long: `Check files without sending anything: encoding, JSON, duplicate keys, required fields,
unique custom_id, one endpoint and one model per file, OpenAI's limits. gzip and zstd are
read as they are. Exit code 1 when a file is wrong.`,
	}
	rulesFlags(cmd, &rules)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var views []validateView
		var first error
		for _, path := range args {
			f, err := os.Open(path)
			if err != nil {
				return schemas.Errorf(schemas.KindNotFound, "%w", err)
			}
			report, err := batch.Validate(cmd.Context(), f, rules, nil)
			f.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			views = append(views, validateView{path, report})
			if !report.OK() && first == nil {
				first = fmt.Errorf("%s has %d problems", path, report.Wrong)
			}
		}
		if err := cli.List(out, views, validateTable); err != nil {
			return err
		}
		return first
	}
	return cmd
}

// validateTable lists the issues of files, or that there are none.
func validateTable(views []validateView) cli.Table {
	t := cli.Table{Header: []string{"FILE", "LINE", "CODE", "FIELD", "PROBLEM"}}
	for _, v := range views {
		for _, i := range v.Issues {
			t.Rows = append(t.Rows, []string{v.File, fmt.Sprint(i.Line), string(i.Code), i.Param, i.Message})
		}
		switch {
		case v.OK():
			t.Rows = append(t.Rows, []string{v.File, "", "ok", "", fmt.Sprintf("%d requests, %d bytes", v.Lines, v.Bytes)})
		case v.Wrong > len(v.Issues):
			t.Rows = append(t.Rows, []string{v.File, "", "", "", fmt.Sprintf("and %d more", v.Wrong-len(v.Issues))})
		}
	}
	return t
}

// rulesFlags adds the flags of a file's rules.
func rulesFlags(cmd *cobra.Command, r *batch.Rules) {
	cmd.Flags().BoolVar(&r.Mixed, "mixed", false, "allow several models and endpoints in one file")
	cmd.Flags().StringVar(&r.Endpoint, "endpoint", "", "the only endpoint allowed (default: that of the first line)")
}

// batchCost is `cocoon batch cost`.
func batchCost(conn *connection) *cobra.Command {
	var o batch.Options
	var class string
	cmd := &cobra.Command{
		Use: "cost FILE|BATCH", Args: cobra.ExactArgs(1),
		Short: "Say what a file may cost, or what a batch has cost",
	}
	cmd.Flags().StringVar(&class, "class", string(schemas.Batch), "priority, standard or batch")
	rulesFlags(cmd, &o.Rules)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if b, err := conn.read(args[0]); err == nil {
			return printSummary(out, b.Summary())
		}
		var err error
		if o.Class, err = schemas.ParseClass(class); err != nil {
			return cli.Usagef("--class must be priority, standard or batch")
		}
		return printCost(cmd, conn, out, args[0], o)
	}
	return cmd
}

// read opens a batch of the state folder to look at it.
func (c *connection) read(id string) (*batch.Batch, error) {
	dir, err := c.batchDir(id)
	if err != nil {
		return nil, err
	}
	b, err := batch.Read(dir)
	if errors.Is(err, schemas.KindNotFound) {
		err = &schemas.Error{Kind: schemas.KindNotFound, Field: "batch", Message: "there is no batch " + id + " in " + filepath.Dir(dir)}
	}
	return b, err
}

// printCost prices a file.
func printCost(cmd *cobra.Command, conn *connection, out *cli.Output, path string, o batch.Options) error {
	s, err := conn.open(cmd)
	if err != nil {
		return err
	}
	defer s.close(cmd)
	catalogue, err := s.Catalogue(cmd.Context())
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	defer f.Close()
	cost, report, err := batch.Estimate(cmd.Context(), f, o, catalogue)
	if err == nil && !report.OK() {
		err = report.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return cli.One(out, cost, func(c *batch.Cost) [][2]string {
		rows := [][2]string{
			{"lines", fmt.Sprint(c.Lines)},
			{"class", string(c.Class)},
			{"low", c.Low.String()},
			{"expected", c.Expected.String()},
			{"worst", c.Worst.String()},
			{"reserved at most", c.Ceiling.String()},
		}
		if c.Unbounded > 0 {
			rows = append(rows, [2]string{"note", fmt.Sprintf("%d lines set no limit on their answer", c.Unbounded)})
		}
		if c.Unknown > 0 {
			rows = append(rows, [2]string{"note", fmt.Sprintf("%d lines name a model that is not in the catalogue and are not priced", c.Unknown)})
		}
		return rows
	})
}

// printSummary prints one batch.
func printSummary(out *cli.Output, s batch.Summary) error {
	return cli.One(out, s, func(s batch.Summary) [][2]string {
		rows := [][2]string{
			{"batch", s.ID},
			{"state", string(s.State)},
			{"lines", fmt.Sprint(s.Total)},
			{"completed", fmt.Sprint(s.Completed)},
			{"failed", fmt.Sprint(s.Failed)},
			{"tokens", fmt.Sprint(s.Usage.Total())},
			{"cost", s.Cost.String()},
		}
		if s.Reserved > 0 {
			rows = append(rows, [2]string{"may still cost", s.Reserved.String()})
		}
		for _, r := range reasons(s) {
			rows = append(rows, [2]string{"failed with " + r, fmt.Sprint(s.Reasons[r])})
		}
		return append(rows, [2]string{"environment", string(s.Environment)}, [2]string{"input", s.Input})
	})
}

// reasons lists why lines failed, the most frequent first.
func reasons(s batch.Summary) []string {
	return slices.SortedFunc(maps.Keys(s.Reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Reasons[b], s.Reasons[a]), cmp.Compare(a, b))
	})
}

// partial is the error of a batch that has failed lines, nil when it has none.
func partial(s batch.Summary) error {
	if s.Failed == 0 {
		return nil
	}
	e := &cli.PartialError{Done: s.Completed, Failed: s.Failed}
	if r := reasons(s); len(r) > 0 {
		e.Reason = r[0]
	}
	return e
}

// batchList is `cocoon batch ls`.
func batchList(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs,
		Short: "List the batches that were submitted from here",
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		dir, err := conn.batchesDir()
		if err != nil {
			return err
		}
		list, err := batch.List(dir)
		if err != nil {
			return err
		}
		return cli.List(out, list, func(list []batch.Summary) cli.Table {
			t := cli.Table{Header: []string{"BATCH", "STATE", "DONE", "FAILED", "TOTAL", "COST", "CREATED"}}
			for _, s := range list {
				t.Rows = append(t.Rows, []string{
					s.ID, string(s.State), fmt.Sprint(s.Completed + s.Failed), fmt.Sprint(s.Failed), fmt.Sprint(s.Total), s.Cost.String(),
					s.Created.Local().Format(time.DateTime),
				})
			}
			return t
		})
	}
	return cmd
}

// selectFlags choose result lines.
type selectFlags struct{ order, only string }

// add adds the flags.
func (s *selectFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.order, "order", "input", "input or completed: the order of the result lines")
	cmd.Flags().StringVar(&s.only, "only", "all", "all, succeeded or failed")
}

// parse reads the flags.
func (s *selectFlags) parse() (o batch.Order, w batch.Which, err error) {
	switch s.order {
	case "input":
		o = batch.InputOrder
	case "completed":
		o = batch.AsCompleted
	default:
		return 0, 0, cli.Usagef("--order must be input or completed")
	}
	switch s.only {
	case "all":
		w = batch.All
	case "succeeded":
		w = batch.Succeeded
	case "failed":
		w = batch.FailedOnly
	default:
		return 0, 0, cli.Usagef("--only must be all, succeeded or failed")
	}
	return o, w, nil
}

// batchResults is `cocoon batch results`.
func batchResults(conn *connection) *cobra.Command {
	var sel selectFlags
	var file string
	cmd := &cobra.Command{
		Use: "results BATCH", Args: cobra.ExactArgs(1),
		Short: "Write the result lines there are, also of a batch that still runs",
	}
	sel.add(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "-", "file to write; - is standard output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := conn.read(args[0])
		if err != nil {
			return err
		}
		n, err := writeResults(b, cmd.OutOrStdout(), file, sel)
		if err == nil && file != "-" {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d lines written to %s\n", n, file)
		}
		return err
	}
	return cmd
}

// writeResults writes result lines to a file, replacing it only when all are written, or to standard output.
func writeResults(b *batch.Batch, stdout io.Writer, file string, sel selectFlags) (int, error) {
	order, which, err := sel.parse()
	if err != nil {
		return 0, err
	}
	if file == "-" {
		return b.WriteResults(stdout, order, which)
	}
	f, err := os.Create(file + ".new")
	if err != nil {
		return 0, fmt.Errorf("write results: %w", err)
	}
	n, err := b.WriteResults(f, order, which)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(file+".new"))
	}
	return n, nil
}

// batchCancel is `cocoon batch cancel`.
func batchCancel(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cancel BATCH", Args: cobra.ExactArgs(1),
		Short: "End a batch: waiting lines are cancelled, answered ones kept",
		Long: `End a batch. When another process runs it, that one sees the request within a second;
otherwise this one runs it to its end, which is soon.`,
	}
	run := runFlags(cmd)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := conn.batchDir(args[0])
		if err != nil {
			return err
		}
		b, err := conn.read(args[0])
		if err != nil {
			return err
		}
		if b.Summary().State.Ended() {
			return printSummary(out, b.Summary())
		}
		if err := batch.RequestCancel(dir); err != nil {
			return err
		}
		s, err := run.toEnd(cmd, conn, args[0], nil)
		if err != nil {
			return err
		}
		return printSummary(out, s)
	}
	return cmd
}

// batchRetry is `cocoon batch retry`.
func batchRetry(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "retry BATCH", Args: cobra.ExactArgs(1),
		Short: "Run the failed lines again whose reason can pass",
	}
	run := runFlags(cmd)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := conn.batchDir(args[0])
		if err != nil {
			return err
		}
		b, err := batch.Open(dir)
		if err != nil {
			return err
		}
		n, err := b.Retry()
		if err = errors.Join(err, b.Close()); err != nil {
			return err
		}
		if n == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "nothing to try again: no line failed for a reason that can pass")
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "lines that are tried again: %d\n", n)
		}
		return run.report(cmd, conn, out, args[0])
	}
	return cmd
}

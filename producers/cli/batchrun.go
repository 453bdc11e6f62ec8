package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// runOptions are the flags of verbs that run a batch.
type runOptions struct {
	quiet, detach, resubmit bool
}

// runFlags adds them.
func runFlags(cmd *cobra.Command) *runOptions {
	o := &runOptions{}
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "show no progress")
	return o
}

// watchEvery is how often a batch that another process runs is looked at.
const watchEvery = 500 * time.Millisecond

// toEnd runs a batch of the state folder to its end, or watches the process that does. After Ctrl-C the jobs go on.
func (o *runOptions) toEnd(cmd *cobra.Command, conn *connection, id string, onResult func([]byte)) (batch.Summary, error) {
	dir, err := conn.batchDir(id)
	if err != nil {
		return batch.Summary{}, err
	}
	b, err := batch.Open(dir)
	if errors.Is(err, schemas.KindBusy) && onResult == nil {
		m := newMeter(cmd.ErrOrStderr(), o.quiet)
		defer m.close()
		return watchOther(cmd, dir, m)
	}
	if err != nil {
		return batch.Summary{}, err
	}
	defer b.Close()
	return o.run(cmd, conn, b, onResult)
}

// run runs an open batch to its end.
func (o *runOptions) run(cmd *cobra.Command, conn *connection, b *batch.Batch, onResult func([]byte)) (batch.Summary, error) {
	s, err := conn.open(cmd)
	if err != nil {
		return b.Summary(), err
	}
	defer s.close(cmd)
	m := newMeter(cmd.ErrOrStderr(), o.quiet)
	sum, err := b.Run(cmd.Context(), s, batch.RunOptions{
		Progress: m.update, OnResult: onResult, Detach: o.detach, Resubmit: o.resubmit, Logger: conn.log(cmd),
	})
	m.close()
	if cmd.Context().Err() != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "detached; what was submitted goes on. Continue with: cocoon batch resume %s\n", sum.ID)
		return sum, cmd.Context().Err()
	}
	return sum, err
}

// watchOther follows a batch that another process runs.
func watchOther(cmd *cobra.Command, dir string, m *meter) (batch.Summary, error) {
	fmt.Fprintln(cmd.ErrOrStderr(), "another process runs the batch; watching")
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		b, err := batch.Read(dir)
		if err != nil {
			return batch.Summary{}, err
		}
		s := b.Summary()
		m.update(batch.Progress{Summary: s})
		if s.State.Ended() {
			return s, nil
		}
		select {
		case <-cmd.Context().Done():
			return s, cmd.Context().Err()
		case <-ticker.C:
		}
	}
}

// report runs a batch to its end and prints what came of it.
func (o *runOptions) report(cmd *cobra.Command, conn *connection, out *cli.Output, id string) error {
	s, err := o.toEnd(cmd, conn, id, nil)
	if err != nil {
		return err
	}
	if err := printSummary(out, s); err != nil {
		return err
	}
	return partial(s)
}

// batchWatch is `cocoon batch watch`, batchResume `cocoon batch resume`: the same, but for what resume can do besides.
func batchWatch(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "watch BATCH", Args: cobra.ExactArgs(1),
		Short: "Show a batch's progress until it ends",
	}
	run := runFlags(cmd)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run.report(cmd, conn, out, args[0]) }
	return cmd
}

// batchResume is `cocoon batch resume`.
func batchResume(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume BATCH", Args: cobra.ExactArgs(1),
		Short: "Go on with a batch that stopped; nothing is paid twice",
	}
	run := runFlags(cmd)
	cmd.Flags().BoolVar(&run.detach, "detach", false, "return when every line is submitted")
	cmd.Flags().BoolVar(&run.resubmit, "resubmit", false, "send lines without an outcome again, in case the network lost them; none can be paid twice")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run.report(cmd, conn, out, args[0]) }
	return cmd
}

// createFlags are the flags of verbs that make a batch.
type createFlags struct {
	o              batch.Options
	class, maxCost string
	format         string
}

// add adds the flags.
func (c *createFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.o.ID, "id", "", "name of the batch: a-z, 0-9, _ and - (default: random)")
	f.StringVar(&c.class, "class", string(schemas.Batch), "priority, standard or batch")
	f.StringVar(&c.maxCost, "max-cost", "", "the most that the whole batch may cost, in TON")
	f.Int64Var(&c.o.MaxTokens, "max-tokens", 0, "the most tokens of the lines in flight, at their worst (0: no bound)")
	f.IntVar(&c.o.Window, "window", 0, "the most lines in flight (0: all)")
	f.IntVar(&c.o.Attempts, "attempts", 0, "how often the network may run a line that breaks (default 3)")
	f.DurationVar(&c.o.Timeout, "timeout", batch.DefaultTimeout, "how long the answers are worth something, at most 48h")
	f.StringVar(&c.format, "format", string(batch.OpenAI), "openai or vllm: the form of the result lines")
	f.StringToStringVar(&c.o.Metadata, "metadata", nil, "key=value pairs kept with the batch")
	rulesFlags(cmd, &c.o.Rules)
}

// options reads the flags.
func (c *createFlags) options() (batch.Options, error) {
	o := c.o
	var err error
	if o.Class, err = schemas.ParseClass(c.class); err != nil {
		return o, cli.Usagef("--class must be priority, standard or batch")
	}
	if o.Format = batch.Format(c.format); o.Format != batch.OpenAI && o.Format != batch.VLLM {
		return o, cli.Usagef("--format must be openai or vllm")
	}
	if c.maxCost != "" {
		if o.MaxCost, err = schemas.ParseTON(c.maxCost); err != nil || o.MaxCost <= 0 {
			return o, cli.Usagef("--max-cost must be a positive amount of TON")
		}
	}
	return o, nil
}

// create makes a batch of a file in the state folder. A batch that is there already, with the same input, is taken up.
func (c *createFlags) create(cmd *cobra.Command, conn *connection, path string) (*batch.Batch, error) {
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	root, err := conn.batchesDir()
	if err != nil {
		return nil, err
	}
	if o.ID == "" {
		o.ID = "batch_" + string(schemas.NewJobID())
	}
	if !schemas.ValidToken(o.ID) {
		return nil, cli.Usagef("--id must be 1 to 48 characters of a-z, 0-9, _ and -")
	}
	if o.Input, err = keepInput(cmd, root, path, o.ID); err != nil {
		return nil, err
	}
	b, report, err := batch.Create(cmd.Context(), filepath.Join(root, o.ID), o)
	switch {
	case errors.Is(err, schemas.KindConflict) && c.o.ID != "":
		return sameBatch(filepath.Join(root, o.ID), o.Input)
	case err != nil:
		return nil, err
	case b == nil:
		for _, i := range report.Issues {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", path, &i)
		}
		return nil, fmt.Errorf("%s has %d problems; nothing was submitted", path, report.Wrong)
	}
	return b, nil
}

// sameBatch opens the batch of an id that was used before, unless it was for another input.
func sameBatch(dir, input string) (*batch.Batch, error) {
	b, err := batch.Open(dir)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(input)
	if err == nil && b.Summary().Input != abs {
		err = &schemas.Error{Kind: schemas.KindConflict, Field: "id", Message: "is a batch of " + b.Summary().Input}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// keepInput is the path of the input. Standard input is kept in the state folder: a batch reads its input more than
// once.
func keepInput(cmd *cobra.Command, root, path, id string) (string, error) {
	if path != "-" {
		return path, nil
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("keep input: %w", err)
	}
	kept := filepath.Join(root, id+".jsonl")
	f, err := os.OpenFile(kept, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("keep input: %w", err)
	}
	_, err = io.Copy(f, io.LimitReader(cmd.InOrStdin(), batch.MaxFile+1))
	return kept, errors.Join(err, f.Close())
}

// batchSubmit is `cocoon batch submit`.
func batchSubmit(conn *connection) *cobra.Command {
	var c createFlags
	var sel selectFlags
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "submit FILE", Aliases: []string{"run"}, Args: cobra.ExactArgs(1),
		Short: "Check a file, submit it and, unless told otherwise, wait for all answers",
		Long: `Check a file (- is standard input), submit it and wait for all answers.

--dry-run only says what it may cost. Ctrl-C detaches: what was submitted goes on, and the
command that takes it up again is printed. Exit code 3 when some lines failed.`,
	}
	c.add(cmd)
	sel.add(cmd)
	run := runFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&run.detach, "detach", false, "return when every line is submitted")
	f.BoolVar(&dryRun, "dry-run", false, "only say what it may cost")
	f.StringVarP(&file, "file", "f", "", "file for the result lines; - is standard output (default: none, see \"cocoon batch results\")")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, _, err := sel.parse(); err != nil {
			return err
		}
		if dryRun {
			o, err := c.options()
			if err != nil {
				return err
			}
			return printCost(cmd, conn, out, args[0], o)
		}
		b, err := c.create(cmd, conn, args[0])
		if err != nil {
			return err
		}
		defer b.Close()
		fmt.Fprintf(cmd.ErrOrStderr(), "batch %s\n", b.Summary().ID)
		return submitted(cmd, conn, run, out, b, file, sel)
	}
	return cmd
}

// submitted runs a new batch and hands out what it was made for.
func submitted(cmd *cobra.Command, conn *connection, run *runOptions, out *cli.Output, b *batch.Batch, file string, sel selectFlags) error {
	s, err := run.run(cmd, conn, b, nil)
	if err != nil {
		return err
	}
	if file != "" {
		if _, err := writeResults(b, cmd.OutOrStdout(), file, sel); err != nil {
			return err
		}
	}
	if file != "-" {
		if err := printSummary(out, s); err != nil {
			return err
		}
	}
	return partial(s)
}

// batchStream is `cocoon batch stream`.
func batchStream(conn *connection) *cobra.Command {
	var c createFlags
	cmd := &cobra.Command{
		Use: "stream FILE|BATCH", Args: cobra.ExactArgs(1),
		Short: "Run a file or batch and print result lines as they come",
	}
	c.add(cmd)
	run := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := c.openOrCreate(cmd, conn, args[0])
		if err != nil {
			return err
		}
		defer b.Close()
		if _, err := b.WriteResults(cmd.OutOrStdout(), batch.AsCompleted, batch.All); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "batch %s\n", b.Summary().ID)
		// A reader that has gone away, such as head, ends the output and the run; the jobs go on.
		ctx, cancel := context.WithCancelCause(cmd.Context())
		defer cancel(nil)
		cmd.SetContext(ctx)
		s, err := run.run(cmd, conn, b, func(line []byte) {
			if _, err := cmd.OutOrStdout().Write(line); err != nil {
				cancel(err)
			}
		})
		if err != nil {
			return err
		}
		return partial(s)
	}
	return cmd
}

// openOrCreate opens the batch of the state folder that an argument names, or makes one of the file that it names.
func (c *createFlags) openOrCreate(cmd *cobra.Command, conn *connection, arg string) (*batch.Batch, error) {
	if schemas.ValidToken(arg) {
		dir, err := conn.batchDir(arg)
		if err != nil {
			return nil, err
		}
		if b, err := batch.Open(dir); !errors.Is(err, schemas.KindNotFound) {
			return b, err
		}
	}
	return c.create(cmd, conn, arg)
}

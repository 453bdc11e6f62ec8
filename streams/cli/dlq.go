package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// DLQ is `cocoon dlq`: the dead letters.
func DLQ(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dlq",
		Aliases: []string{"dead-letters"},
		Short:   "Look at, replay and remove jobs that could not be finished",
		Long: `A dead letter is a job that failed on every attempt, or a message that was no job at all: its sealed bytes, which
nobody here can read, and its public attributes. Its tenant has been given a failed outcome.`,
	}
	cmd.AddCommand(dlqList(connect), dlqShow(connect), dlqReplay(connect), dlqPurge(connect))
	return cmd
}

// selector are the flags that pick dead letters.
type selector struct {
	model, class, tenant, job, kind string
	older, newer                    time.Duration
	limit                           int
	all                             bool
}

// add adds the flags.
func (s *selector) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.model, "model", "", "only this model (name, id or slug)")
	f.StringVar(&s.class, "class", "", "only this class")
	f.StringVar(&s.tenant, "tenant", "", "only this tenant")
	f.StringVar(&s.job, "job", "", "only this job")
	f.StringVar(&s.kind, "kind", "", "only those that died of this, such as poison or engine_failed")
	f.DurationVar(&s.older, "older", 0, "only those that died longer ago than this")
	f.DurationVar(&s.newer, "newer", 0, "only those that died since then")
	f.IntVar(&s.limit, "limit", 0, "at most so many, oldest first")
}

// empty tells that nothing was selected.
func (s *selector) empty() bool {
	return s.model == "" && s.class == "" && s.tenant == "" && s.job == "" && s.kind == "" && s.older == 0 && s.newer == 0
}

// parse turns the flags into a selector.
func (s *selector) parse(ctx context.Context, bus *streams.Bus) (streams.DeadSelector, error) {
	d := streams.DeadSelector{Limit: s.limit}
	usage := func(err error) error { return &cli.UsageError{Err: err} }
	var err error
	if s.model != "" {
		d.Slug = s.model
		if route, err := findRoute(ctx, bus, s.model); err == nil {
			d.Slug = route.Slug
		}
		if !schemas.ValidToken(d.Slug) {
			return d, schemas.Errorf(schemas.KindNotFound, "no model %q", s.model)
		}
	}
	if s.class != "" {
		if d.Class, err = schemas.ParseClass(s.class); err != nil {
			return d, usage(err)
		}
	}
	if s.tenant != "" {
		if d.Tenant, err = schemas.ParseTenantID(s.tenant); err != nil {
			return d, usage(err)
		}
	}
	if s.job != "" {
		if d.Job, err = schemas.ParseJobID(s.job); err != nil {
			return d, usage(err)
		}
	}
	if s.kind != "" {
		if d.Kind, err = schemas.ParseKind(s.kind); err != nil {
			return d, usage(err)
		}
	}
	if s.older < 0 || s.newer < 0 || s.limit < 0 {
		return d, cli.Usagef("--older, --newer and --limit must not be negative")
	}
	now := time.Now()
	if s.older > 0 {
		d.Before = now.Add(-s.older)
	}
	if s.newer > 0 {
		d.After = now.Add(-s.newer)
	}
	return d, nil
}

// collect lists the dead letters that are picked.
func collect(ctx context.Context, bus *streams.Bus, d streams.DeadSelector) ([]streams.DeadLetter, error) {
	var list []streams.DeadLetter
	for letter, err := range bus.DeadLetters(ctx, d) {
		if err != nil {
			return list, err
		}
		list = append(list, letter)
	}
	return list, nil
}

// dlqList is `dlq ls`.
func dlqList(connect Connect) *cobra.Command {
	var s selector
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List dead letters, oldest first", Args: cobra.NoArgs}
	s.add(cmd)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			d, err := s.parse(ctx, bus)
			if err != nil {
				return err
			}
			list, err := collect(ctx, bus, d)
			if err != nil {
				return err
			}
			return cli.List(out, list, deadTable)
		})
	}
	return cmd
}

// deadTable shows dead letters to people.
func deadTable(list []streams.DeadLetter) cli.Table {
	t := cli.Table{Header: []string{"SEQ", "DIED", "MODEL", "CLASS", "TENANT", "JOB", "KIND", "TRIES", "BYTES", "REASON"}}
	for _, d := range list {
		t.Rows = append(t.Rows, []string{
			number(d.Seq), stamp(d.Died), d.Route.Slug, string(d.Class), string(d.Tenant), string(d.Job), d.Kind.String(),
			strconv.Itoa(d.Deliveries), strconv.Itoa(d.Size), d.Reason,
		})
	}
	return t
}

// dlqShow is `dlq show`.
func dlqShow(connect Connect) *cobra.Command {
	cmd := &cobra.Command{Use: "show SEQ", Aliases: []string{"get", "info"}, Short: "Show one dead letter with its public attributes", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		seq, err := parseSeq(args[0])
		if err != nil {
			return err
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			d, err := bus.DeadLetterAt(ctx, seq)
			if err != nil {
				return err
			}
			return cli.One(out, d, deadLines)
		})
	}
	return cmd
}

// parseSeq reads a position.
func parseSeq(s string) (uint64, error) {
	seq, err := strconv.ParseUint(s, 10, 64)
	if err != nil || seq == 0 {
		return 0, cli.Usagef("SEQ must be a number as in dlq ls, not %q", s)
	}
	return seq, nil
}

// deadLines shows a dead letter to people.
func deadLines(d streams.DeadLetter) [][2]string {
	lines := [][2]string{
		{"seq", number(d.Seq)},
		{"died", stamp(d.Died)},
		{"expires", stamp(d.Expiry)},
		{"model", d.Route.Slug},
		{"class", string(d.Class)},
		{"tenant", string(d.Tenant)},
		{"job", string(d.Job)},
		{"kind", d.Kind.String()},
		{"reason", d.Reason},
		{"deliveries", strconv.Itoa(d.Deliveries)},
		{"bytes", strconv.Itoa(d.Size)},
	}
	for _, name := range sortedHeaders(d.Header) {
		for _, v := range d.Header[name] {
			lines = append(lines, [2]string{name, v})
		}
	}
	return lines
}

// done is what became of one dead letter.
type done struct {
	Seq   uint64        `json:"seq"`
	Job   schemas.JobID `json:"job,omitempty"`
	OK    bool          `json:"ok"`
	Error string        `json:"error,omitempty"`
}

// doneTable shows what was done to people.
func doneTable(list []done) cli.Table {
	t := cli.Table{Header: []string{"SEQ", "JOB", "RESULT"}}
	for _, d := range list {
		result := "done"
		if !d.OK {
			result = d.Error
		}
		t.Rows = append(t.Rows, []string{number(d.Seq), string(d.Job), result})
	}
	return t
}

// change is a verb that does something to the dead letters that are picked.
func change(connect Connect, cmd *cobra.Command, question string, f func(context.Context, *streams.Bus, uint64) error) *cobra.Command {
	var s selector
	var yes, dry bool
	s.add(cmd)
	cmd.Args = cobra.ArbitraryArgs
	cmd.Flags().BoolVar(&s.all, "all", false, "all dead letters")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do it without asking")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only show which and how many")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if given := len(args) > 0; given && (s.all || !s.empty()) || !given && s.all == !s.empty() {
			return cli.Usagef("name dead letters by SEQ, or select them by flags, or give --all")
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			list, err := s.pick(ctx, bus, args)
			if err != nil {
				return err
			}
			if dry {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d dead letter(s)\n", len(list))
				return cli.List(out, list, deadTable)
			}
			if len(list) > 0 {
				if err := confirm(cmd, yes, fmt.Sprintf(question, len(list))); err != nil {
					return err
				}
			}
			return doAll(ctx, bus, out, list, f)
		})
	}
	return cmd
}

// pick lists the dead letters that arguments or flags name.
func (s *selector) pick(ctx context.Context, bus *streams.Bus, args []string) ([]streams.DeadLetter, error) {
	if len(args) == 0 {
		d, err := s.parse(ctx, bus)
		if err != nil {
			return nil, err
		}
		return collect(ctx, bus, d)
	}
	var list []streams.DeadLetter
	for _, arg := range args {
		seq, err := parseSeq(arg)
		if err != nil {
			return nil, err
		}
		d, err := bus.DeadLetterAt(ctx, seq)
		if err != nil {
			return nil, fmt.Errorf("dead letter %d: %w", seq, err)
		}
		list = append(list, d)
	}
	return list, nil
}

// doAll does it to each; one that fails does not stop the others.
func doAll(ctx context.Context, bus *streams.Bus, out *cli.Output, list []streams.DeadLetter, f func(context.Context, *streams.Bus, uint64) error) error {
	results := []done{}
	failed := 0
	var first error
	for _, d := range list {
		r := done{Seq: d.Seq, Job: d.Job, OK: true}
		if err := f(ctx, bus, d.Seq); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.OK, r.Error = false, err.Error()
			failed++
			first = errors.Join(first, err)
		}
		results = append(results, r)
	}
	if err := cli.List(out, results, doneTable); err != nil {
		return err
	}
	if failed == len(list) && failed > 0 {
		return first
	}
	if failed > 0 {
		return &cli.PartialError{Done: len(list) - failed, Failed: failed}
	}
	return nil
}

// dlqReplay is `dlq replay`.
func dlqReplay(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay [SEQ...]", Short: "Put dead letters back into their queues",
		Long: `The job keeps its id, and its failed outcome is withdrawn, so that the new run can have one. Jobs whose deadline has
passed and jobs that have ended otherwise meanwhile are refused.`,
		Example: `  cocoon dlq replay --kind engine_failed --newer 2h --dry-run`,
	}
	return change(connect, cmd, "Replay %d dead letter(s)?", func(ctx context.Context, bus *streams.Bus, seq uint64) error {
		_, err := bus.Replay(ctx, seq)
		return err
	})
}

// dlqPurge is `dlq purge`.
func dlqPurge(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge [SEQ...]", Short: "Remove dead letters for ever",
		Example: `  cocoon dlq purge --older 168h --yes`,
	}
	return change(connect, cmd, "Remove %d dead letter(s) for ever?", func(ctx context.Context, bus *streams.Bus, seq uint64) error {
		return bus.PurgeDead(ctx, seq)
	})
}

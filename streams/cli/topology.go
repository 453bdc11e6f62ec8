package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// maxTopologyFile bounds a topology file in bytes.
const maxTopologyFile = 1 << 20

// Topology is `cocoon topology`: what the streams of the network should be.
func Topology(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Shape the streams of the network",
		Long: `The topology says which streams, buckets and stores there are, with all their limits. It is part of the program; a
file or flags set the few numbers that operators choose. Settings that would weaken a guarantee are refused.`,
	}
	cmd.AddCommand(topologyDiff(connect), topologyApply(connect), topologyExport(), topologyConf())
	return cmd
}

// topologyFlags are the numbers that operators choose, over those in a file.
type topologyFlags struct {
	file                    string
	shards, replicas, lanes int
	tenantQueue             int64
}

// add adds the flags.
func (f *topologyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "file", "f", "", `topology as JSON ("-": standard input)`)
	cmd.Flags().IntVar(&f.shards, "shards", 0, "job streams (default 1)")
	cmd.Flags().IntVar(&f.replicas, "replicas", 0, "copies of every stream: 1, 3 or 5 (default 1)")
	cmd.Flags().IntVar(&f.lanes, "lanes", 0, "parts a hot queue is split into by tenant (default 16)")
	cmd.Flags().Int64Var(&f.tenantQueue, "tenant-queue", 0, "jobs one tenant may have waiting per model and class (default 100000)")
}

// read reads the file and lays the flags over it.
func (f *topologyFlags) read(cmd *cobra.Command) (streams.Topology, error) {
	t := streams.Topology{}
	if f.file != "" {
		text, err := readFile(cmd, f.file)
		if err != nil {
			return t, err
		}
		if t, err = streams.ParseTopology(text); err != nil {
			return t, fmt.Errorf("%s: %w", f.file, err)
		}
	}
	if f.shards != 0 {
		t.Shards = f.shards
	}
	if f.replicas != 0 {
		t.Replicas = f.replicas
	}
	if f.lanes != 0 {
		t.Lanes = f.lanes
	}
	if f.tenantQueue != 0 {
		t.TenantQueue = f.tenantQueue
	}
	t = t.WithDefaults()
	if err := t.Check(); err != nil {
		return t, &cli.UsageError{Err: err}
	}
	return t, nil
}

// readFile reads a file or standard input.
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	r := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, cli.Usagef("%w", err)
		}
		defer file.Close()
		r = file
	}
	text, err := io.ReadAll(io.LimitReader(r, maxTopologyFile+1))
	if err == nil && len(text) > maxTopologyFile {
		err = schemas.Errorf(schemas.KindTooLarge, "%s is larger than 1 MiB", name)
	}
	return text, err
}

// topologyDiff is `topology diff`.
func topologyDiff(connect Connect) *cobra.Command {
	var flags topologyFlags
	cmd := &cobra.Command{Use: "diff", Short: "Show what apply would change", Args: cobra.NoArgs}
	flags.add(cmd)
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := flags.read(cmd)
		if err != nil {
			return err
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			changes, err := bus.Diff(ctx, t)
			if err != nil {
				return err
			}
			return cli.List(out, changes, changeTable)
		})
	}
	return cmd
}

// topologyApply is `topology apply`.
func topologyApply(connect Connect) *cobra.Command {
	var flags topologyFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "apply", Short: "Make the streams what they should be", Args: cobra.NoArgs,
		Long: `Creates what is missing and changes what differs; applying again changes nothing. Streams that are missing are made
without asking; changes to streams that exist are shown and confirmed. Changes that could lose messages or a guarantee,
and servers before 2.14, are refused.`,
	}
	flags.add(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "change existing streams without asking")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := flags.read(cmd)
		if err != nil {
			return err
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			planned, err := bus.Diff(ctx, t)
			if err != nil {
				return err
			}
			if n := changesOfExisting(planned); n > 0 {
				if err := changeTable(planned).Write(cmd.ErrOrStderr()); err != nil {
					return err
				}
				if err := confirm(cmd, yes, fmt.Sprintf("Make these %d changes to existing streams?", n)); err != nil {
					return err
				}
			}
			done, err := bus.Apply(ctx, t)
			if err != nil {
				return err
			}
			return cli.List(out, done, changeTable)
		})
	}
	return cmd
}

// changesOfExisting counts the changes that are not the creation of a stream.
func changesOfExisting(changes []streams.Change) int {
	n := 0
	for _, c := range changes {
		if c.Field != "" {
			n++
		}
	}
	return n
}

// changeTable shows changes to people.
func changeTable(changes []streams.Change) cli.Table {
	t := cli.Table{Header: []string{"STREAM", "FIELD", "HAVE", "WANT", "REFUSED"}}
	for _, c := range changes {
		if c.Field == "" {
			t.Rows = append(t.Rows, []string{c.Stream, "(missing)", "", "", ""})
			continue
		}
		t.Rows = append(t.Rows, []string{c.Stream, c.Field, c.Have, c.Want, c.Refused})
	}
	return t
}

// topologyExport is `topology export`.
func topologyExport() *cobra.Command {
	var flags topologyFlags
	var format string
	cmd := &cobra.Command{
		Use: "export", Short: "Print the topology for other tools", Args: cobra.NoArgs,
		Long: `json is the form that apply -f reads. streams is the full configuration of every stream, as the JetStream API takes it.
nack is YAML for the JetStream controller for Kubernetes.`,
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "json", "json, streams or nack")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := flags.read(cmd)
		if err != nil {
			return err
		}
		var text []byte
		switch format {
		case "json":
			text, err = t.ExportJSON()
		case "streams":
			text, err = t.ExportStreams()
		case "nack":
			text, err = t.ExportNACK()
		default:
			return cli.Usagef("--format must be json, streams or nack, not %q", format)
		}
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}

// number spells a count.
func number(n uint64) string { return strconv.FormatUint(n, 10) }

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// Consumers is `cocoon consumers`: the queues of the models.
func Consumers(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "consumers",
		Short: "See and steer the queues that workers take jobs from",
		Long: `Every model has one queue per class. Control makes a queue when its first job arrives and splits it by tenant while it
is hot. The figures come from the leaders of the streams; they need no control service.`,
	}
	cmd.AddCommand(consumersList(connect), consumersShow(connect), consumersPause(connect), consumersResume(connect), consumersScale(connect))
	return cmd
}

// backlogs lists the queues of a model, or of all, with the ages of their oldest jobs.
func backlogs(ctx context.Context, bus *streams.Bus, slug string) ([]streams.Backlog, error) {
	shards, err := bus.Shards(ctx)
	if err != nil {
		return nil, err
	}
	var list []streams.Backlog
	for _, shard := range shards {
		queues, err := bus.Queues(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, l := range queues {
			if slug != "" && l.Route.Slug != slug {
				continue
			}
			if l.Pending+l.InFlight > 0 {
				at, ok, err := bus.OldestQueued(ctx, l.Queue())
				if err != nil {
					return nil, err
				}
				if ok {
					l.Oldest = max(0, time.Since(at))
				}
			}
			list = append(list, l)
		}
	}
	return list, nil
}

// consumersList is `consumers ls`.
func consumersList(connect Connect) *cobra.Command {
	var model string
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the queues and what waits in them", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&model, "model", "", "only this model (name, id or slug)")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			slug := ""
			if model != "" {
				route, err := findRoute(ctx, bus, model)
				if err != nil {
					return err
				}
				slug = route.Slug
			}
			list, err := backlogs(ctx, bus, slug)
			if err != nil {
				return err
			}
			return cli.List(out, list, backlogTable)
		})
	}
	return cmd
}

// backlogTable shows queues to people.
func backlogTable(list []streams.Backlog) cli.Table {
	t := cli.Table{Header: []string{"MODEL", "CLASS", "SHARD", "WAITING", "RUNNING", "AGAIN", "OLDEST", "LANES", "PAUSED UNTIL"}}
	for _, l := range list {
		t.Rows = append(t.Rows, []string{
			l.Route.Slug, string(l.Class), strconv.Itoa(l.Route.Shard), number(l.Pending), number(l.InFlight), number(l.Redelivered),
			ago(l.Oldest), strconv.Itoa(l.Lanes), stamp(l.Paused),
		})
	}
	return t
}

// modelView is what `consumers show` prints.
type modelView struct {
	Route  streams.Route        `json:"route"`
	Queues []streams.Backlog    `json:"queues"`
	Scale  *streams.FleetModel  `json:"scale,omitempty"`
	Work   []streams.WorkerView `json:"workers"`
}

// consumersShow is `consumers show`.
func consumersShow(connect Connect) *cobra.Command {
	cmd := &cobra.Command{Use: "show MODEL", Aliases: []string{"get", "info"}, Short: "Show a model's queues, its scale and who serves it", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			route, err := findRoute(ctx, bus, args[0])
			if err != nil {
				return err
			}
			v := modelView{Route: route}
			if v.Queues, err = backlogs(ctx, bus, route.Slug); err != nil {
				return err
			}
			if v.Scale, err = scaleOf(ctx, bus, route); err != nil {
				return err
			}
			if v.Work, err = bus.WorkersOf(ctx, route.Slug); err != nil {
				return err
			}
			return cli.One(out, v, modelLines)
		})
	}
	return cmd
}

// scaleOf reads how many workers an operator wants; nil when none said.
func scaleOf(ctx context.Context, bus *streams.Bus, r streams.Route) (*streams.FleetModel, error) {
	e, err := bus.Bucket(streams.BucketFleet).Get(ctx, streams.PrefixModel+r.Slug)
	if errors.Is(err, schemas.KindNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := streams.ParseFleetModel(e.Value)
	return &m, err
}

// modelLines shows a model to people.
func modelLines(v modelView) [][2]string {
	lines := [][2]string{{"model", v.Route.Slug}, {"shard", strconv.Itoa(v.Route.Shard)}}
	for _, l := range v.Queues {
		text := fmt.Sprintf("%d waiting, %d running, oldest %s, %d lane(s)", l.Pending, l.InFlight, ago(l.Oldest), l.Lanes)
		if !l.Paused.IsZero() {
			text += ", paused until " + stamp(l.Paused)
		}
		lines = append(lines, [2]string{string(l.Class), text})
	}
	scale := "not set"
	if v.Scale != nil {
		scale = fmt.Sprintf("%d to %d workers per host", v.Scale.Min, v.Scale.Max)
	}
	lines = append(lines, [2]string{"scale", scale})
	for _, w := range v.Work {
		lines = append(lines, [2]string{"worker", fmt.Sprintf("%s on %s: %s, %d of %d slots", w.Worker, w.Host, w.State, w.Busy, w.Slots)})
	}
	return lines
}

// steer finds the queues that MODEL and --class name and calls f for each.
func steer(connect Connect, cmd *cobra.Command, class *string, f func(context.Context, *streams.Bus, streams.Queue) error) {
	cmd.Args = cobra.ExactArgs(1)
	cmd.Flags().StringVar(class, "class", "", "only this class: priority, standard or batch")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *class != "" {
			if _, err := schemas.ParseClass(*class); err != nil {
				return &cli.UsageError{Err: err}
			}
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			route, err := findRoute(ctx, bus, args[0])
			if err != nil {
				return err
			}
			list, err := backlogs(ctx, bus, route.Slug)
			if err != nil {
				return err
			}
			n := 0
			for _, l := range list {
				if *class != "" && string(l.Class) != *class {
					continue
				}
				if err := f(ctx, bus, l.Queue()); err != nil {
					return err
				}
				n++
			}
			if n == 0 {
				return schemas.Errorf(schemas.KindNotFound, "the model has no such queue: no job has arrived and no worker has asked for one")
			}
			if list, err = backlogs(ctx, bus, route.Slug); err != nil {
				return err
			}
			return cli.List(out, list, backlogTable)
		})
	}
}

// maxPause bounds a pause: whoever wants longer must say so again.
const maxPause = 30 * 24 * time.Hour

// consumersPause is `consumers pause`.
func consumersPause(connect Connect) *cobra.Command {
	var class string
	var period time.Duration
	cmd := &cobra.Command{
		Use: "pause MODEL", Short: "Stop handing out a model's jobs for a while",
		Long: `Jobs go on arriving and waiting, and those at workers go on running. Deadlines go on too.`,
	}
	cmd.Flags().DurationVar(&period, "for", time.Hour, "how long, at most 720h")
	steer(connect, cmd, &class, func(ctx context.Context, bus *streams.Bus, q streams.Queue) error {
		if period <= 0 || period > maxPause {
			return cli.Usagef("--for must lie between 0 and 720h")
		}
		return bus.PauseQueue(ctx, q, time.Now().Add(period))
	})
	return cmd
}

// consumersResume is `consumers resume`.
func consumersResume(connect Connect) *cobra.Command {
	var class string
	cmd := &cobra.Command{Use: "resume MODEL", Short: "Hand out a paused model's jobs again"}
	steer(connect, cmd, &class, func(ctx context.Context, bus *streams.Bus, q streams.Queue) error {
		return bus.PauseQueue(ctx, q, time.Time{})
	})
	return cmd
}

// consumersScale is `consumers scale`.
func consumersScale(connect Connect) *cobra.Command {
	m := streams.FleetModel{Min: -1, Max: -1}
	var unset bool
	cmd := &cobra.Command{
		Use: "scale MODEL", Short: "Say how many workers each worker host runs for a model", Args: cobra.ExactArgs(1),
		Long: `Worker hosts start and stop workers between the two numbers, following what waits. --min 0 lets a model without jobs
have none. --max 0 stops them all after their jobs.`,
		Example: `  cocoon consumers scale llama-3.1-8b --min 1 --max 4`,
	}
	cmd.Flags().IntVar(&m.Min, "min", -1, "fewest workers per host")
	cmd.Flags().IntVar(&m.Max, "max", -1, "most workers per host")
	cmd.Flags().BoolVar(&unset, "unset", false, "leave it to what the hosts were started with")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if unset != (m.Min < 0 && m.Max < 0) {
			return cli.Usagef("give --min or --max, or --unset")
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			route, err := findRoute(ctx, bus, args[0])
			if err != nil {
				return err
			}
			next, err := rescale(ctx, bus, route, m, unset)
			if err != nil {
				return err
			}
			return cli.One(out, next, func(m streams.FleetModel) [][2]string {
				return [][2]string{{"model", route.Slug}, {"min", strconv.Itoa(m.Min)}, {"max", strconv.Itoa(m.Max)}}
			})
		})
	}
	return cmd
}

// rescale stores the numbers; one that is not given stays as it was.
func rescale(ctx context.Context, bus *streams.Bus, r streams.Route, m streams.FleetModel, unset bool) (streams.FleetModel, error) {
	bucket, key := bus.Bucket(streams.BucketFleet), streams.PrefixModel+r.Slug
	if unset {
		return streams.FleetModel{}, bucket.Delete(ctx, key)
	}
	old, err := scaleOf(ctx, bus, r)
	if err != nil {
		return m, err
	}
	if old == nil {
		old = &streams.FleetModel{Max: max(m.Min, 1)}
	}
	if m.Min < 0 {
		m.Min = min(old.Min, m.Max)
	}
	if m.Max < 0 {
		m.Max = max(old.Max, m.Min)
	}
	if err := m.Check(); err != nil {
		return m, &cli.UsageError{Err: err}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return m, schemas.Errorf(schemas.KindInternal, "scale: %w", err)
	}
	_, err = bucket.Put(ctx, key, text)
	return m, err
}

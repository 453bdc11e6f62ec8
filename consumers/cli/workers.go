package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// Connect reaches the network as the flags and the environment of a command say.
type Connect func(*cobra.Command) (*streams.Bus, error)

// maxEntry bounds a worker's entry in bytes.
const maxEntry = 64 << 10

// Workers is `cocoon workers`: who works, and orders to them.
func Workers(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "See and steer the workers of the network",
		Long: `Workers announce themselves every few seconds; what they say is for people and for scaling and is not attested.
Orders are kept in the FLEET bucket and obeyed within a second. They name one life of a worker: one that starts again
is another worker and knows nothing of them.`,
	}
	cmd.AddCommand(
		workersList(connect), workersShow(connect), workersEarnings(connect),
		workersOrder(connect, "drain", "Finish what they hold and end", func(o *streams.FleetWorker) { o.Drain = true }),
		workersOrder(connect, "disable", "Take no further jobs, but stay", func(o *streams.FleetWorker) { o.Disabled = true }),
		workersOrder(connect, "enable", "Take jobs again", func(o *streams.FleetWorker) { o.Disabled, o.Drain = false, false }),
		workersSetAsk(connect),
	)
	return cmd
}

// WorkerView is a worker with what control thinks of it.
type WorkerView struct {
	streams.WorkerEntry
	Reputation *streams.Reputation  `json:"reputation,omitempty"`
	Order      *streams.FleetWorker `json:"order,omitempty"`
}

// workersList is `workers ls`.
func workersList(connect Connect) *cobra.Command {
	var model, host, state string
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the workers that live", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&model, "model", "", "only workers of this model (name, id or slug)")
	cmd.Flags().StringVar(&host, "host", "", "only workers on this host")
	cmd.Flags().StringVar(&state, "state", "", "only workers in this state")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			views, err := workerViews(ctx, bus)
			if err != nil {
				return err
			}
			views = slices.DeleteFunc(views, func(v WorkerView) bool {
				return host != "" && v.Host != host || state != "" && string(v.State) != state || model != "" && !serves(v, model)
			})
			return cli.List(out, views, workersTable)
		})
	}
	return cmd
}

// workersShow is `workers show`.
func workersShow(connect Connect) *cobra.Command {
	cmd := &cobra.Command{Use: "show WORKER", Aliases: []string{"get", "info"}, Short: "Show one worker", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			view, err := workerView(ctx, bus, args[0])
			if err != nil {
				return err
			}
			return cli.One(out, view, workerLines)
		})
	}
	return cmd
}

// workersOrder is one of the verbs that change a worker's order.
func workersOrder(connect Connect, verb, short string, change func(*streams.FleetWorker)) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: verb + " WORKER...", Short: short, Args: cobra.ArbitraryArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all workers that live")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return cli.Usagef("name workers, or give --all")
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			return orderAll(ctx, bus, out, args, all, change)
		})
	}
	return cmd
}

// workersSetAsk is `workers set-ask`.
func workersSetAsk(connect Connect) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set-ask WORKER MULTIPLIER", Short: "Set the lowest price multiplier a worker serves", Args: cobra.ExactArgs(2),
		Long: `The multiplier is written as 1.5x or as basis points (15000). Classes that pay less are not taken. 0 leaves it to
what the worker was started with.`,
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ask, err := ParseMultiplier(args[1])
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			return orderAll(ctx, bus, out, args[:1], false, func(o *streams.FleetWorker) { o.Ask = ask })
		})
	}
	return cmd
}

// ParseMultiplier reads a price multiplier: "1.5x" with at most four digits after the point, or basis points.
func ParseMultiplier(s string) (schemas.BasisPoints, error) {
	wrong := schemas.FieldError("multiplier", "must look like 1.5x, or be basis points between 0 and 1,000,000")
	times, isTimes := strings.CutSuffix(s, "x")
	if !isTimes {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || schemas.BasisPoints(n) > schemas.MaxMultiplier {
			return 0, wrong
		}
		return schemas.BasisPoints(n), nil
	}
	whole, fraction, dotted := strings.Cut(times, ".")
	if len(fraction) > 4 || dotted && fraction == "" || strings.HasPrefix(whole, "+") {
		return 0, wrong
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", 4-len(fraction)), 10, 32)
	if err != nil || whole == "" || schemas.BasisPoints(n) > schemas.MaxMultiplier {
		return 0, wrong
	}
	return schemas.BasisPoints(n), nil
}

// Multiplier spells a price multiplier.
func Multiplier(bp schemas.BasisPoints) string {
	s := fmt.Sprintf("%d.%04d", bp/schemas.One, bp%schemas.One)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "x"
}

// with connects, runs f and closes the connection.
func with(cmd *cobra.Command, connect Connect, f func(context.Context, *streams.Bus) error) (err error) {
	bus, err := connect(cmd)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
		defer cancel()
		err = errors.Join(err, bus.Close(ctx))
	}()
	return f(cmd.Context(), bus)
}

// workerViews lists all workers that live, sorted by host and id.
func workerViews(ctx context.Context, bus *streams.Bus) ([]WorkerView, error) {
	entries, err := bus.Bucket(streams.BucketWorkers).List(ctx, ">")
	if err != nil {
		return nil, err
	}
	reputations := map[schemas.WorkerID]*streams.Reputation{}
	var views []WorkerView
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Key, streams.PrefixWorker):
			var v WorkerView
			if err := schemas.DecodeJSON(e.Value, &v.WorkerEntry, maxEntry); err != nil {
				continue // of another version; control reports it
			}
			views = append(views, v)
		case strings.HasPrefix(e.Key, streams.PrefixReputation):
			var r streams.Reputation
			if schemas.DecodeJSON(e.Value, &r, maxEntry) == nil {
				reputations[schemas.WorkerID(strings.TrimPrefix(e.Key, streams.PrefixReputation))] = &r
			}
		}
	}
	for i := range views {
		views[i].Reputation = reputations[views[i].Worker]
	}
	slices.SortFunc(views, func(a, b WorkerView) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(string(a.Worker), string(b.Worker)))
	})
	return views, nil
}

// workerView is one worker that lives, or KindNotFound.
func workerView(ctx context.Context, bus *streams.Bus, id string) (WorkerView, error) {
	if _, err := schemas.ParseWorkerID(id); err != nil {
		return WorkerView{}, err
	}
	views, err := workerViews(ctx, bus)
	if err != nil {
		return WorkerView{}, err
	}
	at := slices.IndexFunc(views, func(v WorkerView) bool { return string(v.Worker) == id })
	if at < 0 {
		return WorkerView{}, &schemas.Error{Kind: schemas.KindNotFound, Field: "worker", Message: id + " does not live"}
	}
	view := views[at]
	order, _, err := readOrder(ctx, bus, view.Worker)
	if err == nil && order != (streams.FleetWorker{}) {
		view.Order = &order
	}
	return view, err
}

// readOrder is what the operators told a worker, the zero value for nothing, and its revision for an update.
func readOrder(ctx context.Context, bus *streams.Bus, worker schemas.WorkerID) (o streams.FleetWorker, revision uint64, err error) {
	e, err := bus.Bucket(streams.BucketFleet).Get(ctx, streams.PrefixWorker+string(worker))
	switch {
	case errors.Is(err, schemas.KindNotFound):
		return o, 0, nil
	case err != nil:
		return o, 0, err
	}
	return o, e.Revision, schemas.DecodeJSON(e.Value, &o, maxEntry)
}

// order changes what a worker was told. Two operators who change it at the same time do not undo each other: the loser
// reads again.
func order(ctx context.Context, bus *streams.Bus, worker schemas.WorkerID, change func(*streams.FleetWorker)) error {
	const tries = 8
	bucket, key := bus.Bucket(streams.BucketFleet), streams.PrefixWorker+string(worker)
	for try := 0; ; try++ {
		o, revision, err := readOrder(ctx, bus, worker)
		if err != nil {
			return err
		}
		change(&o)
		value, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if revision == 0 {
			_, err = bucket.Create(ctx, key, value)
		} else {
			_, err = bucket.Update(ctx, key, value, revision)
		}
		if !errors.Is(err, schemas.KindConflict) || try == tries {
			return err
		}
	}
}

// orderAll changes the orders of several workers and prints them as they are now. One that does not live is a failure of
// its own.
func orderAll(ctx context.Context, bus *streams.Bus, out *cli.Output, ids []string, all bool, change func(*streams.FleetWorker)) error {
	views, err := workerViews(ctx, bus)
	if err != nil {
		return err
	}
	if !all {
		if views, err = pick(views, ids); err != nil {
			return err
		}
	}
	failed := &cli.PartialError{}
	for i := range views {
		if err := order(ctx, bus, views[i].Worker, change); err != nil {
			failed.Failed, failed.Reason = failed.Failed+1, err.Error()
			continue
		}
		failed.Done++
		if o, _, err := readOrder(ctx, bus, views[i].Worker); err == nil {
			views[i].Order = &o
		}
	}
	if err := cli.List(out, views, ordersTable); err != nil {
		return err
	}
	if failed.Failed > 0 {
		return failed
	}
	return nil
}

// pick finds the named workers; one that does not live is KindNotFound, before anything was changed.
func pick(views []WorkerView, ids []string) ([]WorkerView, error) {
	var picked []WorkerView
	for _, id := range ids {
		at := slices.IndexFunc(views, func(v WorkerView) bool { return string(v.Worker) == id })
		if at < 0 {
			return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "worker", Message: id + " does not live"}
		}
		picked = append(picked, views[at])
	}
	return picked, nil
}

// serves reports whether a worker has a model, by id, name or slug.
func serves(v WorkerView, model string) bool {
	return slices.ContainsFunc(v.Models, func(m streams.WorkerModel) bool {
		name, _, _ := strings.Cut(string(m.Model), "@")
		return string(m.Model) == model || name == model || m.Route.Slug == model
	})
}

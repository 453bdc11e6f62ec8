package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// Connect reaches the network as the flags and the environment of a command say.
type Connect func(*cobra.Command) (*streams.Bus, error)

// closeTimeout bounds the end of a connection.
const closeTimeout = 5 * time.Second

// with connects, runs f and closes the connection.
func with(cmd *cobra.Command, connect Connect, f func(context.Context, *streams.Bus) error) (err error) {
	bus, err := connect(cmd)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), closeTimeout)
		defer cancel()
		err = errors.Join(err, bus.Close(ctx))
	}()
	return f(cmd.Context(), bus)
}

// confirm asks before something that cannot be undone. Without --yes and without somebody who answers it is refused.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil && line == "" {
		fmt.Fprintln(cmd.ErrOrStderr())
		return cli.Usagef("nobody to ask: give --yes")
	}
	return schemas.Errorf(schemas.KindCancelled, "not confirmed")
}

// findRoute finds a model's queues by its slug, or by its name or id in the catalogue that is published. Nobody is paid by
// what it finds, so the signature of the catalogue is not looked at.
func findRoute(ctx context.Context, bus *streams.Bus, name string) (streams.Route, error) {
	shards, err := bus.Shards(ctx)
	if err != nil {
		return streams.Route{}, err
	}
	for _, shard := range shards {
		list, err := bus.Queues(ctx, shard)
		if err != nil {
			return streams.Route{}, err
		}
		for _, l := range list {
			if l.Route.Slug == name {
				return l.Route, nil
			}
		}
	}
	entry, err := bus.Bucket(streams.BucketCatalogue).Get(ctx, "current")
	if errors.Is(err, schemas.KindNotFound) {
		return streams.Route{}, schemas.Errorf(schemas.KindNotFound, "no queue of a model %q, and no catalogue is published", name)
	}
	if err != nil {
		return streams.Route{}, err
	}
	signed, err := schemas.ParseSigned(entry.Value)
	if err != nil {
		return streams.Route{}, err
	}
	catalogue, err := schemas.ParseCatalogue(signed.Payload)
	if err != nil {
		return streams.Route{}, err
	}
	model, err := catalogue.Find(name)
	if err != nil {
		return streams.Route{}, err
	}
	return streams.RouteOf(model), nil
}

// ago spells an age shortly.
func ago(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return "<1s"
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// stamp spells a moment, "-" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// sortedHeaders lists the names of headers in order.
func sortedHeaders(h map[string][]string) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

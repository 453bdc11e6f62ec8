package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// earningsPage is how many outcomes are read at a time.
const earningsPage = 1000

// Earning is what one worker earned by the receipts that stand in the outcome stream.
type Earning struct {
	Worker schemas.WorkerID `json:"worker"`
	Owner  schemas.Owner    `json:"owner"`
	// Receipts is their number and Usage the sum of the tokens they state.
	Receipts uint64        `json:"receipts"`
	Usage    schemas.Usage `json:"usage"`
	// Charged is what tenants are charged for them, Earned the worker's share.
	Charged schemas.NanoTON `json:"charged"`
	Earned  schemas.NanoTON `json:"earned"`
	// Unpriced counts receipts whose catalogue is not published any more or does not price them.
	Unpriced uint64 `json:"unpriced,omitempty"`
	// Invalid counts receipts that contradict their grant; settlement rejects them too.
	Invalid uint64 `json:"invalid,omitempty"`
	// LastHour is what it earned by receipts that finished in the last hour, Forecast what it may expect of the next; nil for a
	// worker that does not live any more.
	LastHour schemas.NanoTON `json:"last_hour"`
	Forecast *Forecast       `json:"forecast,omitempty"`
}

// workersEarnings is `workers earnings`.
func workersEarnings(connect Connect) *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use: "earnings [WORKER]", Short: "Sum up what workers earned", Args: cobra.MaximumNArgs(1),
		Long: `Reads the receipts that stand in the outcome stream (seven days), prices them by the published catalogues and sums
them up per worker. What is paid is decided by settlement, which also verifies the broker's signature on every grant:
see 'cocoon payouts'.

NEXT HOUR is a forecast: jobs keep coming as in the last hour, what waits is shared by the model's workers in proportion to
their slots, and each job earns and takes what the last ones did. "full" means that more work waits than the worker can
do; "waits" that it will stand idle for a part of the time.`,
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&owner, "owner", "", "only workers of this owner (raw TON address)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return with(cmd, connect, func(ctx context.Context, bus *streams.Bus) error {
			all, err := earnings(ctx, bus)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(e Earning) bool {
				return owner != "" && string(e.Owner) != owner || len(args) == 1 && string(e.Worker) != args[0]
			})
			return cli.List(out, all, earningsTable)
		})
	}
	return cmd
}

// earningsTable is the view for people.
func earningsTable(all []Earning) cli.Table {
	t := cli.Table{Header: []string{"WORKER", "OWNER", "RECEIPTS", "TOKENS", "CHARGED", "EARNED", "LAST HOUR", "NEXT HOUR"}}
	for _, e := range all {
		t.Rows = append(t.Rows, []string{
			string(e.Worker), string(e.Owner), strconv.FormatUint(e.Receipts, 10), strconv.FormatUint(e.Usage.Total(), 10),
			e.Charged.String(), e.Earned.String(), e.LastHour.String(), e.Forecast.String(),
		})
	}
	return t
}

// earner sums up receipts.
type earner struct {
	catalogues map[uint64]*schemas.Catalogue
	find       func(ctx context.Context, version uint64) (*schemas.Catalogue, error)
	workers    map[schemas.WorkerID]*Earning
	// recent is what receipts since the given time say, by model.
	since  time.Time
	recent map[schemas.ModelID]*modelRecord
}

// earnings reads the whole outcome stream.
func earnings(ctx context.Context, bus *streams.Bus) ([]Earning, error) {
	feed := bus.Receipts()
	defer feed.Close()
	state, err := feed.State(ctx)
	if err != nil {
		return nil, err
	}
	e := &earner{
		catalogues: map[uint64]*schemas.Catalogue{}, workers: map[schemas.WorkerID]*Earning{},
		since: time.Now().Add(-forecastSpan), recent: map[schemas.ModelID]*modelRecord{},
	}
	e.find = func(ctx context.Context, version uint64) (*schemas.Catalogue, error) {
		return publishedCatalogue(ctx, bus, version)
	}
	for after := max(state.First, 1) - 1; after < state.Last; {
		page, err := feed.Read(ctx, after, earningsPage)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Seq <= state.Last {
				if err := e.add(ctx, r.Header); err != nil {
					return nil, err
				}
			}
			after = r.Seq
		}
	}
	if err := e.look(ctx, bus); err != nil {
		return nil, err
	}
	return e.sorted(), nil
}

// look adds what the living workers may expect.
func (e *earner) look(ctx context.Context, bus *streams.Bus) error {
	fleet, err := bus.Fleet(ctx)
	if err != nil || len(fleet) == 0 {
		return err
	}
	backlogs, err := bus.Backlogs(ctx)
	if errors.Is(err, schemas.KindUnavailable) {
		return nil // control is away: what was earned is known all the same
	}
	if err != nil {
		return err
	}
	ahead := forecast(fleet, backlogs, e.recent)
	for _, m := range fleet {
		w := e.workers[m.Worker]
		if w == nil {
			w = &Earning{Worker: m.Worker, Owner: m.Owner}
			e.workers[m.Worker] = w
		}
		w.Forecast = ahead[m.Worker]
	}
	return nil
}

// publishedCatalogue reads one version as it was published; whose signatures it has is settlement's business.
func publishedCatalogue(ctx context.Context, bus *streams.Bus, version uint64) (*schemas.Catalogue, error) {
	bucket := bus.Bucket(streams.BucketCatalogue)
	for _, key := range []string{"v" + strconv.FormatUint(version, 10), "current"} {
		entry, err := bucket.Get(ctx, key)
		if errors.Is(err, schemas.KindNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		signed, err := schemas.ParseSigned(entry.Value)
		if err != nil {
			return nil, err
		}
		catalogue, err := schemas.ParseCatalogue(signed.Payload)
		if err != nil {
			return nil, err
		}
		if catalogue.Version == version {
			return catalogue, nil
		}
	}
	return nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "catalogue", Message: "version " + strconv.FormatUint(version, 10) + " is not published"}
}

// add counts one outcome.
func (e *earner) add(ctx context.Context, header map[string][]string) error {
	o, err := schemas.ParseOutcome(header, nil)
	if err != nil || o.Receipt == "" {
		return nil // nothing is owed, or nothing can be told
	}
	grant, _, err := enclave.ReadGrant(o.Grant)
	if err != nil {
		return nil
	}
	w := e.workers[grant.Worker]
	if w == nil {
		w = &Earning{Worker: grant.Worker, Owner: grant.Owner}
		e.workers[grant.Worker] = w
	}
	receipt, err := enclave.CheckReceipt(o.Receipt, o.Grant, &grant)
	if err != nil {
		w.Invalid++
		return nil
	}
	catalogue, err := e.catalogue(ctx, grant.Catalogue)
	if err != nil {
		return err
	}
	w.Receipts++
	w.Usage = w.Usage.Add(receipt.Usage)
	if catalogue == nil {
		w.Unpriced++
		return nil
	}
	charge, err := catalogue.Cost(receipt.Model, receipt.Usage, grant.Multiplier)
	if err != nil {
		w.Unpriced++
		return nil
	}
	w.Charged += charge.Total
	w.Earned += charge.Worker
	if receipt.Finished.After(e.since) {
		w.LastHour += charge.Worker
		if e.recent[receipt.Model] == nil {
			e.recent[receipt.Model] = &modelRecord{}
		}
		e.recent[receipt.Model].add(&receipt, charge.Worker)
	}
	return nil
}

// catalogue remembers versions, also those that are gone.
func (e *earner) catalogue(ctx context.Context, version uint64) (*schemas.Catalogue, error) {
	if c, known := e.catalogues[version]; known {
		return c, nil
	}
	c, err := e.find(ctx, version)
	if err != nil && !errors.Is(err, schemas.KindNotFound) {
		return nil, err
	}
	e.catalogues[version] = c
	return c, nil
}

// sorted lists the workers, those that earned most first.
func (e *earner) sorted() []Earning {
	all := make([]Earning, 0, len(e.workers))
	for _, w := range e.workers {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b Earning) int {
		return cmp.Or(cmp.Compare(b.Earned, a.Earned), cmp.Compare(a.Worker, b.Worker))
	})
	return all
}

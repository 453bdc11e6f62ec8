package batch

import (
	"context"
	"io"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Cost is what a file may cost.
type Cost struct {
	// Lines is how many lines were priced, Unbounded how many of them set no limit on their answers: their worst case is
	// the model's whole context. Unknown counts lines whose model is not in the catalogue.
	Lines     int `json:"lines"`
	Unbounded int `json:"unbounded"`
	Unknown   int `json:"unknown_model"`
	// Cost sums the lines: see producers.Cost.
	producers.Cost
	// Class is the class that was priced and Catalogue the version of the prices.
	Class     schemas.Class `json:"class"`
	Catalogue uint64        `json:"catalogue"`
}

// Estimate prices a file without sealing anything. Of the options it uses Rules and Class.
func Estimate(ctx context.Context, src io.Reader, o Options, catalogue *schemas.Catalogue) (*Cost, *Report, error) {
	if o.Class == "" {
		o.Class = schemas.Batch
	}
	c := &Cost{Class: o.Class, Catalogue: catalogue.Version}
	report, err := Validate(ctx, src, o.Rules, func(l Line) error {
		m, err := catalogue.Find(l.Call.Model)
		if err != nil {
			c.Unknown++
			return nil
		}
		one, err := producers.Estimate(l.Call, m, max(catalogue.Multiplier(o.Class), l.Call.MaxMultiplier), catalogue.FeeBP)
		if err != nil {
			return err
		}
		c.Lines++
		if one.Unbounded {
			c.Unbounded++
		}
		c.Cost = c.Cost.Add(one)
		return nil
	})
	return c, report, err
}

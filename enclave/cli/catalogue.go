//go:build !worker

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// CatalogueCommand is `cocoon catalogue`: the signed list of models and prices.
func CatalogueCommand(open OpenBoard) *cobra.Command {
	n := catalogueNoun(open)
	cmd := &cobra.Command{
		Use: "catalogue", Short: "The signed list of models, weight roots and prices",
		Long: `A catalogue says which models the network serves and what they cost. It is signed by the same root keys as the policy
and takes the same way: init, add, sign, verify, publish. Jobs are priced by the version that their grant names.`,
	}
	cmd.AddCommand(append([]*cobra.Command{catalogueInit(n), catalogueAdd(n)}, n.verbs()...)...)
	return cmd
}

// catalogueNoun is what a catalogue is for the shared verbs.
func catalogueNoun(open OpenBoard) *noun[schemas.Catalogue, *schemas.Catalogue] {
	return &noun[schemas.Catalogue, *schemas.Catalogue]{
		name: "catalogue", parse: schemas.ParseCatalogue, open: open, lines: catalogueLines, notes: catalogueNotes,
		renew: func(c *schemas.Catalogue, version uint64, issued, expires time.Time) {
			c.Version, c.Issued, c.Expires = version, issued, expires
		},
	}
}

// catalogueInit is `catalogue init`.
func catalogueInit(n *noun[schemas.Catalogue, *schemas.Catalogue]) *cobra.Command {
	var environment, term string
	var fee uint32
	var force bool
	cmd := &cobra.Command{
		Use: "init FILE", Short: "Write a draft without models", Args: cobra.ExactArgs(1),
		Long: "Priority costs 2x, standard 1x and batch 0.5x of a model's price; edit the draft to change that.",
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&environment, "environment", string(schemas.Production), "production or simulated")
	cmd.Flags().StringVar(&term, "term", "90d", "how long it runs")
	cmd.Flags().Uint32Var(&fee, "fee-bp", 500, "the network's share of each charge in basis points")
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := refuseOverwrite(args[0], force); err != nil {
			return err
		}
		d, err := parseTerm(term)
		if err != nil {
			return err
		}
		now := time.Now().UTC().Truncate(time.Second)
		c := &schemas.Catalogue{
			V: 1, Version: 1, Issued: now, Expires: now.Add(d), Environment: schemas.Environment(environment), FeeBP: schemas.BasisPoints(fee),
			Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 2 * schemas.One, schemas.Standard: schemas.One, schemas.Batch: schemas.One / 2},
			Models:  []schemas.Model{},
		}
		if err := n.keep(c, args[0]); err != nil {
			return err
		}
		return cli.One(format, c, catalogueLines)
	}
	return cmd
}

// catalogueAdd is `catalogue add`.
func catalogueAdd(n *noun[schemas.Catalogue, *schemas.Catalogue]) *cobra.Command {
	cmd := &cobra.Command{Use: "add", Short: "Add to a draft: model"}
	cmd.AddCommand(addCatalogueModel(n))
	return cmd
}

// modelEntry is a catalogue's entry as flags spell it.
type modelEntry struct {
	model                                 schemas.Model
	prompt, cached, completion, reasoning string
}

// flags adds the flags of everything that the weights themselves do not say.
func (e *modelEntry) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.model.Format, "format", "gguf", "gguf or safetensors")
	cmd.Flags().IntVar(&e.model.Context, "context", 0, "largest number of prompt and answer tokens of a job (required)")
	cmd.Flags().IntVar(&e.model.Shard, "shard", 0, "job stream of the model")
	cmd.Flags().StringSliceVar(&e.model.Endpoints, "endpoint", []string{"/v1/chat/completions"}, "OpenAI urls that the model answers")
	cmd.Flags().StringVar(&e.prompt, "price-prompt", "", "TON per million prompt tokens (required)")
	cmd.Flags().StringVar(&e.cached, "price-cached", "", "TON per million cached prompt tokens")
	cmd.Flags().StringVar(&e.completion, "price-completion", "", "TON per million answer tokens (required)")
	cmd.Flags().StringVar(&e.reasoning, "price-reasoning", "", "TON per million reasoning tokens")
}

// check refuses flags that make no entry; it is asked before anything is stored.
func (e *modelEntry) check() (err error) {
	if e.prompt == "" || e.completion == "" || e.model.Context == 0 {
		return cli.Usagef("--context, --price-prompt and --price-completion are required")
	}
	e.model.Price, err = parsePrice(e.prompt, e.cached, e.completion, e.reasoning)
	return err
}

// put puts the entry of a model into a draft.
func (e *modelEntry) put(n *noun[schemas.Catalogue, *schemas.Catalogue], cmd *cobra.Command, path string, id schemas.ModelID) error {
	ref, err := schemas.ParseModelID(string(id))
	if err != nil {
		return err
	}
	e.model.ID, e.model.Slug = ref.ID(), ref.Slug()
	return n.edit(cmd, path, func(c *schemas.Catalogue) error {
		e.model.Shard = putModel(c, e.model, cmd.Flags().Changed("shard"))
		return nil
	})
}

// addCatalogueModel is `catalogue add model`.
func addCatalogueModel(n *noun[schemas.Catalogue, *schemas.Catalogue]) *cobra.Command {
	var e modelEntry
	cmd := &cobra.Command{
		Use: "model FILE MODEL", Short: "Add or replace a model", Args: cobra.ExactArgs(2),
		Long: `MODEL is the full id, name@revision:sha256-…. Prices are in TON per million tokens; cached and reasoning default to
the price of prompt and completion. An entry with the same id keeps its shard unless --shard says otherwise. For a sealed
package, "cocoon models publish" reads the id from it.`,
	}
	format := cli.OutputFlags(cmd)
	e.flags(cmd)
	cmd.Flags().StringSliceVar(&e.model.Locations, "location", nil, "where the weights lie: object:NAME, https://… or file://…")
	cmd.Flags().BoolVar(&e.model.Sealed, "sealed", false, "the weights are encrypted; the broker releases their key")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := e.check(); err != nil {
			return err
		}
		if err := e.put(n, cmd, args[0], schemas.ModelID(args[1])); err != nil {
			return err
		}
		return cli.One(format, e.model, modelLines)
	}
	return cmd
}

// putModel adds a model at its place, or replaces the entry with its id, and returns its shard. A shard is kept for ever
// unless it was named.
func putModel(c *schemas.Catalogue, m schemas.Model, shardNamed bool) int {
	at, found := slices.BinarySearchFunc(c.Models, m.ID, func(have schemas.Model, id schemas.ModelID) int { return strings.Compare(string(have.ID), string(id)) })
	if !found {
		c.Models = slices.Insert(c.Models, at, m)
		return m.Shard
	}
	if !shardNamed {
		m.Shard = c.Models[at].Shard
	}
	c.Models[at] = m
	return m.Shard
}

// parsePrice reads the four prices; empty ones take those of their kind.
func parsePrice(prompt, cached, completion, reasoning string) (p schemas.Price, err error) {
	if cached == "" {
		cached = prompt
	}
	if reasoning == "" {
		reasoning = completion
	}
	for _, f := range []struct {
		text string
		into *schemas.NanoTON
	}{{prompt, &p.Prompt}, {cached, &p.Cached}, {completion, &p.Completion}, {reasoning, &p.Reasoning}} {
		if *f.into, err = schemas.ParseTON(f.text); err != nil {
			return p, err
		}
	}
	return p, nil
}

// catalogueLines is a catalogue for people.
func catalogueLines(c *schemas.Catalogue) [][2]string {
	rows := [][2]string{
		{"version", strconv.FormatUint(c.Version, 10)},
		{"environment", shout(c.Environment)},
		{"issued", c.Issued.Format(time.RFC3339)},
		{"expires", c.Expires.Format(time.RFC3339)},
		{"network fee", percent(c.FeeBP)},
	}
	for _, class := range schemas.Classes() {
		rows = append(rows, [2]string{string(class), multiple(c.Classes[class])})
	}
	for i := range c.Models {
		m := &c.Models[i]
		rows = append(rows, [2]string{"model", fmt.Sprintf("%s: prompt %s, completion %s per million tokens", m.ID, m.Price.Prompt, m.Price.Completion)})
	}
	return rows
}

// modelLines is one entry for people.
func modelLines(m schemas.Model) [][2]string {
	return [][2]string{
		{"model", string(m.ID)},
		{"slug", m.Slug},
		{"shard", strconv.Itoa(m.Shard)},
		{"context", strconv.Itoa(m.Context)},
		{"prompt", m.Price.Prompt.String() + " per million"},
		{"cached", m.Price.Cached.String() + " per million"},
		{"completion", m.Price.Completion.String() + " per million"},
		{"reasoning", m.Price.Reasoning.String() + " per million"},
		{"weights", joined(m.Locations)},
	}
}

// catalogueNotes lists what somebody should know before putting a catalogue into force.
func catalogueNotes(c *schemas.Catalogue) (notes []string) {
	if c.Environment == schemas.Simulated {
		notes = append(notes, "SIMULATED: the network it is for protects nothing")
	}
	if len(c.Models) == 0 {
		notes = append(notes, "no model can be asked for: none is listed")
	}
	for i := range c.Models {
		if m := &c.Models[i]; m.Price == (schemas.Price{}) {
			notes = append(notes, string(m.ID)+" is free")
		}
	}
	return notes
}

// percent spells basis points as a share.
func percent(b schemas.BasisPoints) string { return fmt.Sprintf("%d.%02d %%", b/100, b%100) }

// multiple spells basis points as a multiplier.
func multiple(b schemas.BasisPoints) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%04d", b/schemas.One, b%schemas.One), "0"), ".") + "x"
}

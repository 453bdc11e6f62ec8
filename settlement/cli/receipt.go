package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// maxReceiptFile bounds a file in which the receipt of a statement is looked for.
const maxReceiptFile = 256 << 20

// compactJWS finds compact JWS tokens in any text.
var compactJWS = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{86}`)

// Receipt is the noun "receipt" of package enclave/cli, whose verb "verify" learns here to follow a receipt to the chain.
func Receipt() *cobra.Command {
	noun := enclavecli.Receipt()
	for _, verb := range noun.Commands() {
		if verb.Name() == "verify" {
			withStatement(verb)
		}
	}
	return noun
}

// withStatement adds --statement and --chain to a verb that verifies receipts in a file.
func withStatement(verb *cobra.Command) {
	var statement, chain string
	verb.Long += `

--statement proves besides that a payout covers the receipt: the file is what ` + "`cocoon payouts proof JOB`" + ` prints. With
--chain the payout is looked up in the treasury's proven history; without it the statement's root is only the file's word.`
	verb.Flags().StringVar(&statement, "statement", "", "file with the proof that a payout covers one receipt in FILE")
	verb.Flags().StringVar(&chain, "chain", "", "global config of the TON network, for --statement")
	verify := verb.RunE
	verb.RunE = func(cmd *cobra.Command, args []string) error {
		if statement == "" {
			return verify(cmd, args)
		}
		if args[0] == "-" {
			return cli.Usagef("--statement needs a file, not standard input")
		}
		out := cmd.OutOrStdout()
		cmd.SetOut(cmd.ErrOrStderr()) // what the data on standard output is about
		err := verify(cmd, args)
		cmd.SetOut(out)
		if err != nil {
			return err
		}
		c, err := checkStatement(cmd.Context(), args[0], statement, chain)
		if err != nil {
			return err
		}
		return c.print(cmd, out)
	}
}

// StatementCheck is what `cocoon receipt verify --statement` proves.
type StatementCheck struct {
	// Receipt is the hash of the receipt. Batch pays Amount for it, as part of Payout to Owner.
	Receipt schemas.Hash    `json:"receipt"`
	Batch   uint64          `json:"batch"`
	Amount  schemas.NanoTON `json:"amount"`
	Owner   schemas.Owner   `json:"owner"`
	Payout  schemas.NanoTON `json:"payout"`
	// Root is the statement root that the proof leads to.
	Root schemas.Hash `json:"root"`
	// OnChain is the payment as the chain proves it, nil when no chain was asked.
	OnChain *settlement.Payment `json:"on_chain,omitempty"`
}

// print writes the result in the form that the verb's flags ask for.
func (c StatementCheck) print(cmd *cobra.Command, w io.Writer) error {
	asJSON, _ := cmd.Flags().GetBool("json")
	if format, _ := cmd.Flags().GetString("output"); asJSON || format != "table" {
		return json.NewEncoder(w).Encode(c)
	}
	where := "not looked up (no --chain)"
	if c.OnChain != nil {
		where = "transaction " + c.OnChain.Transaction
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "receipt\t%s\nbatch\t%d\nearned\t%s\npart of\t%s to %s\nstatement root\t%s\non chain\t%s\n",
		c.Receipt, c.Batch, c.Amount, c.Payout, c.Owner, c.Root, where)
	return tw.Flush()
}

// checkStatement finds the receipt that a proof is about in a file and follows it to the chain.
func checkStatement(ctx context.Context, file, statement, chain string) (StatementCheck, error) {
	b, err := os.ReadFile(statement)
	if err != nil {
		return StatementCheck{}, schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	p, err := settlement.ParseProof(b)
	if err != nil {
		return StatementCheck{}, err
	}
	receipt, err := findReceipt(file, p.Receipt)
	if err != nil {
		return StatementCheck{}, err
	}
	if chain == "" {
		return VerifyStatement(ctx, receipt, p, nil)
	}
	w, err := Config{Chain: chain}.connect(ctx, nil)
	if err != nil {
		return StatementCheck{}, err
	}
	defer w.close()
	return VerifyStatement(ctx, receipt, p, w.chain)
}

// findReceipt looks for the receipt with a hash in a file.
func findReceipt(file string, hash schemas.Hash) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	if info.Size() > maxReceiptFile {
		return "", schemas.Errorf(schemas.KindTooLarge, "%s is longer than 256 MiB", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for _, token := range compactJWS.FindAll(text, -1) {
		if schemas.HashOf(token) != hash {
			continue
		}
		if _, err := enclave.ReadReceipt(string(token)); err != nil {
			return "", err
		}
		return string(token), nil
	}
	return "", schemas.Errorf(schemas.KindNotFound, "the statement is about a receipt that is not in %s", file)
}

// VerifyStatement checks that a receipt is covered by the payout that a proof names and, when there is a chain, that the
// treasury's proven history shows the statement's root and the payment.
func VerifyStatement(ctx context.Context, receipt string, p *settlement.Proof, chain *ton.Chain) (StatementCheck, error) {
	root, err := p.Verify(receipt)
	if err != nil {
		return StatementCheck{}, err
	}
	c := StatementCheck{Receipt: p.Receipt, Batch: p.Batch, Amount: p.Amount, Owner: p.Item.To, Payout: p.Item.Amount, Root: root}
	if chain == nil {
		return c, nil
	}
	treasury, err := chain.Account(p.Wallet)
	if err != nil {
		return c, err
	}
	payment, err := settlement.FindPayment(ctx, treasury, p, root)
	if err != nil {
		return c, err
	}
	c.OnChain = &payment
	return c, nil
}

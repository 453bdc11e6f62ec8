//go:build !worker

package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// maxReceiptFile bounds a file that receipts are looked for in.
const maxReceiptFile = 256 << 20

// compactJWS finds compact JWS tokens in any text: a JSON line of a batch's output, a header, a bare token.
var compactJWS = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{86}`)

// check is one statement about a receipt.
type check struct {
	Name string `json:"name"`
	// Proven is false for what was not or could not be checked.
	Proven bool   `json:"proven"`
	Detail string `json:"detail"`
}

// verified is what `cocoon receipt verify` says about one receipt.
type verified struct {
	Job     schemas.JobID    `json:"job"`
	Model   schemas.ModelID  `json:"model"`
	Worker  schemas.WorkerID `json:"worker"`
	Owner   schemas.Owner    `json:"owner"`
	Usage   schemas.Usage    `json:"usage"`
	Status  schemas.Status   `json:"status"`
	Ceiling schemas.NanoTON  `json:"ceiling"`
	Seq     uint64           `json:"seq"`
	// Environment is "simulated" when the hardware was not real.
	Environment schemas.Environment `json:"environment"`
	Checks      []check             `json:"checks"`
}

// receiptFlags are the flags of "receipt verify".
type receiptFlags struct{ key, broker, policy, trust, simulated, result string }

// Receipt is the noun "receipt".
func Receipt() *cobra.Command {
	cmd := &cobra.Command{Use: "receipt", Short: "Check what workers and brokers signed"}
	verify := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify receipts and their grants, offline, and say what was and was not proven",
		Long: `Verify every receipt in FILE ("-" for standard input) with the grant it cites. Any text with the signed statements
in it will do: a batch's output, a message's headers, bare tokens.

Without more, the signatures prove that the worker which a grant names signed the receipt. --broker or --key says whose
grants are believed: a public key, or a key as the network publishes it, whose broker is then verified from its evidence
under --policy and --trust. --result compares a sealed result with the receipt.`,
		Args: cobra.ExactArgs(1),
	}
	var f receiptFlags
	verify.Flags().StringVar(&f.key, "key", "", "file with a published key (a value of the KEYS bucket)")
	verify.Flags().StringVar(&f.broker, "broker", "", "the brokers' public key in base64")
	verify.Flags().StringVar(&f.policy, "policy", "", "file with the signed policy, for --key")
	verify.Flags().StringVar(&f.trust, "trust", "", "file with the root keys and the environment, for --key")
	verify.Flags().StringVar(&f.simulated, "simulated", "", "folder of the simulated hardware, for --key")
	verify.Flags().StringVar(&f.result, "result", "", "file with the sealed result of the one receipt in FILE")
	out := cli.OutputFlags(verify)
	verify.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readAll(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		all, failed, err := f.verifyAll(cmd.Context(), text)
		if err != nil {
			return err
		}
		if err := cli.List(out, all, receiptTable); err != nil {
			return err
		}
		return failed
	}
	cmd.AddCommand(verify)
	return cmd
}

// readAll reads a file or standard input.
func readAll(stdin io.Reader, path string) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, schemas.Errorf(schemas.KindNotFound, "%w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxReceiptFile+1))
	if err != nil {
		return nil, schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	if len(b) > maxReceiptFile {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: path, Message: "is longer than 256 MiB"}
	}
	return b, nil
}

// verifyAll verifies every receipt in a text. failed is the refusal of the first that does not hold.
func (f *receiptFlags) verifyAll(ctx context.Context, text []byte) (all []verified, failed, err error) {
	broker, brokerCheck, err := f.believed(ctx)
	if err != nil {
		return nil, nil, err
	}
	grants := map[schemas.Hash]string{}
	var receipts []string
	for _, token := range compactJWS.FindAll(text, -1) {
		if _, _, err := enclave.ReadGrant(string(token)); err == nil {
			grants[schemas.HashOf(token)] = string(token)
		} else if _, err := enclave.ReadReceipt(string(token)); err == nil {
			receipts = append(receipts, string(token))
		}
	}
	if len(receipts) == 0 {
		return nil, nil, &schemas.Error{Kind: schemas.KindNotFound, Field: "receipt", Message: "there is no receipt in the file"}
	}
	for _, token := range receipts {
		v, err := f.verifyOne(token, grants, broker, brokerCheck)
		all = append(all, v)
		if err != nil && failed == nil {
			failed = err
		}
	}
	return all, failed, nil
}

// believed is the brokers' key, and how it came to be believed.
func (f *receiptFlags) believed(ctx context.Context) (ed25519.PublicKey, check, error) {
	switch {
	case f.key != "" && f.broker != "":
		return nil, check{}, cli.Usagef("--key and --broker exclude each other")
	case f.broker != "":
		key, err := publicKey(f.broker)
		return key, check{"broker", false, "the brokers' key was given on the command line; no evidence was looked at"}, err
	case f.key != "":
		return f.attested(ctx)
	}
	return nil, check{"broker", false, "nobody said whose grants are believed (--broker or --key)"}, nil
}

// attested verifies a published key from its broker's evidence.
func (f *receiptFlags) attested(ctx context.Context) (ed25519.PublicKey, check, error) {
	published, err := os.ReadFile(f.key)
	if err != nil {
		return nil, check{}, schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	signed, err := os.ReadFile(f.policy)
	if err != nil {
		return nil, check{}, cli.Usagef("--key needs --policy: %v", err)
	}
	trust, err := readTrust(f.trust)
	if err != nil {
		return nil, check{}, err
	}
	keeper, err := attest.NewKeeper(trust, attest.KeeperOptions{})
	if err != nil {
		return nil, check{}, err
	}
	policy, err := keeper.Offer(signed)
	if err != nil {
		return nil, check{}, err
	}
	collateral := tdx.NewCollateral(tdx.CollateralOptions{Source: &tdx.Service{}})
	if f.simulated != "" {
		platform, err := sim.Open(f.simulated, sim.Options{})
		if err != nil {
			return nil, check{}, err
		}
		collateral = platform.Collateral()
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: collateral})
	if err != nil {
		return nil, check{}, err
	}
	key, err := brokerOf(ctx, verifier, bytes.TrimSpace(published))
	if err != nil {
		return nil, check{}, err
	}
	return key, check{"broker", true, fmt.Sprintf("the brokers' key is attested under policy %d (%s)", policy.Version, policy.Environment)}, nil
}

// brokerOf verifies a published key of any model and returns the key that signed it.
func brokerOf(ctx context.Context, v enclave.Verifier, published []byte) (ed25519.PublicKey, error) {
	_, evidence, err := schemas.ParsePublishedKey(published)
	if err != nil {
		return nil, err
	}
	a, err := v.Verify(ctx, evidence, [32]byte{})
	if err != nil {
		return nil, err
	}
	if a.Role != schemas.RoleBroker {
		return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "role", Message: "the key is not vouched for by a broker"}
	}
	return a.Claims.Sign, nil
}

// verifyOne verifies one receipt. The error is the refusal when something that was checked does not hold.
func (f *receiptFlags) verifyOne(token string, grants map[schemas.Hash]string, broker ed25519.PublicKey, brokerCheck check) (verified, error) {
	r, err := enclave.ReadReceipt(token)
	if err != nil {
		return verified{}, err
	}
	v := verified{Job: r.Job, Model: r.Model, Worker: r.Worker, Usage: r.Usage, Status: r.Status, Seq: r.Seq}
	add := func(name string, proven bool, format string, args ...any) {
		v.Checks = append(v.Checks, check{name, proven, fmt.Sprintf(format, args...)})
	}
	grantToken, ok := grants[r.Grant]
	if !ok {
		add("receipt", false, "the grant that the receipt cites is not in the file, so nothing is proven")
		return v, &schemas.Error{Kind: schemas.KindDenied, Field: "grant", Message: "is not in the file"}
	}
	grant, _, err := enclave.ReadGrant(grantToken)
	if err == nil && broker != nil {
		grant, err = enclave.VerifyGrant(grantToken, broker)
	}
	if err != nil {
		add("grant", false, "%v", err)
		return v, err
	}
	v.Owner, v.Ceiling, v.Environment = grant.Owner, grant.Ceiling, grant.Environment
	if _, err := enclave.CheckReceipt(token, grantToken, &grant); err != nil {
		add("receipt", false, "%v", err)
		return v, err
	}
	add("receipt", true, "worker %s signed it for this job under this grant, within the lease", r.Worker)
	add("grant", broker != nil, "%s", map[bool]string{true: "the brokers signed it", false: "its signature was not checked"}[broker != nil])
	v.Checks = append(v.Checks, brokerCheck)
	err = f.checkResult(&v, r.Result)
	add("worker", false, "that the worker was attested is the brokers' word, given before they granted; its evidence is not in the file")
	add("gpu", false, "attested GPUs are not proven to sit in the worker's machine, only to answer its measured software")
	add("usage", false, "the tokens were counted by the worker's measured code; nothing outside it recounts them")
	if grant.Environment == schemas.Simulated {
		add("hardware", false, "SIMULATED: no real hardware stands behind any of this")
	}
	return v, err
}

// checkResult compares a sealed result with the receipt.
func (f *receiptFlags) checkResult(v *verified, want schemas.Hash) error {
	if f.result == "" {
		v.Checks = append(v.Checks, check{"result", false, "the sealed result was not given (--result)"})
		return nil
	}
	body, err := os.ReadFile(f.result)
	if err != nil {
		return schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	if schemas.HashOf(body) != want {
		v.Checks = append(v.Checks, check{"result", false, "the file is another sealed result than the receipt's"})
		return &schemas.Error{Kind: schemas.KindDenied, Field: "result", Message: "is not the one that the receipt names"}
	}
	v.Checks = append(v.Checks, check{"result", true, "the sealed result is the one that the receipt names"})
	return nil
}

// receiptTable is the view for people.
func receiptTable(all []verified) cli.Table {
	t := cli.Table{Header: []string{"JOB", "CHECK", "PROVEN", "DETAIL"}}
	for _, v := range all {
		for _, c := range v.Checks {
			proven := "no"
			if c.Proven {
				proven = "yes"
			}
			t.Rows = append(t.Rows, []string{string(v.Job), c.Name, proven, cli.Clean(c.Detail)})
		}
	}
	return t
}

//go:build !worker

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// document is a pointer to a kind of signed document.
type document[T any] interface {
	*T
	schemas.Document
}

// noun is a kind of signed document as a noun of the program: what is the same for policy and catalogue.
type noun[T any, D document[T]] struct {
	// name is the noun.
	name string
	// parse reads a draft.
	parse func([]byte) (D, error)
	// renew sets version and times.
	renew func(d D, version uint64, issued, expires time.Time)
	// lines is the document for people, notes what somebody should know before publishing it.
	lines func(D) [][2]string
	notes func(D) []string
	// open reaches the network's board.
	open OpenBoard
}

// maxSignedFile bounds a signed document in a file.
const maxSignedFile = 2 * schemas.MaxDocumentSize

// verbs are the verbs that both nouns have.
func (n *noun[T, D]) verbs() []*cobra.Command {
	return []*cobra.Command{n.sign(), n.verify(), n.publish(), n.show(), n.diff()}
}

// read reads a draft or a signed document.
func (n *noun[T, D]) read(cmd *cobra.Command, path string) (D, *schemas.Signed, error) {
	b, err := readLimited(cmd.InOrStdin(), path, maxSignedFile)
	if err != nil {
		return nil, nil, err
	}
	return n.decode(path, b)
}

// decode tells drafts from signed documents by the key that only the latter have.
func (n *noun[T, D]) decode(path string, b []byte) (D, *schemas.Signed, error) {
	signed, err := schemas.ParseSigned([]byte(strings.TrimSpace(string(b))))
	if err != nil {
		if strings.Contains(string(b), `"payloadType"`) {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		d, err := n.parse(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		return d, nil, nil
	}
	if want := D(new(T)).MediaType(); signed.PayloadType != want {
		return nil, nil, schemas.FieldError("payloadType", fmt.Sprintf("%s is %s, not %s", path, signed.PayloadType, want))
	}
	d, err := n.parse(signed.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, signed, nil
}

// sign is `<noun> sign`.
func (n *noun[T, D]) sign() *cobra.Command {
	var keys []string
	var out, renew string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign a draft, or add a signature to a signed " + n.name, Args: cobra.ExactArgs(1),
		Long: `Sign with one or more Ed25519 keys (--key, repeated). A draft is checked, brought into its one canonical spelling and
wrapped into a DSSE envelope. A file that is signed already gets further signatures; each root key holder can run
this on the file that the one before has sent.`,
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringSliceVar(&keys, "key", nil, "file with an Ed25519 private key: 64 hex digits, or PKCS#8 in PEM")
	cmd.Flags().StringVar(&out, "out", "", "file to write (default: FILE with .signed.json for drafts, FILE itself for signed ones)")
	cmd.Flags().StringVar(&renew, "renew", "", "before signing a draft: count its version up and let it run from now for this long, such as 90d")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(keys) == 0 {
			return cli.Usagef("--key is required")
		}
		d, signed, err := n.read(cmd, args[0])
		if err != nil {
			return err
		}
		if signed == nil {
			if signed, err = n.wrap(d, renew); err != nil {
				return err
			}
		} else if renew != "" {
			return cli.Usagef("--renew changes the document: it needs a draft, not signatures")
		}
		for _, path := range keys {
			key, err := ReadSigningKey(path)
			if err != nil {
				return err
			}
			if err := signed.Sign(key); err != nil {
				return err
			}
		}
		return n.write(format, d, signed, outputPath(args[0], out))
	}
	return cmd
}

// wrap renews a draft if asked to and wraps it without a signature.
func (n *noun[T, D]) wrap(d D, renew string) (*schemas.Signed, error) {
	if renew != "" {
		term, err := parseTerm(renew)
		if err != nil {
			return nil, err
		}
		now := time.Now().UTC().Truncate(time.Second)
		n.renew(d, d.Head().Version+1, now, now.Add(term))
	}
	return schemas.SignDocument(d)
}

// outputPath is where a signed document goes.
func outputPath(in, out string) string {
	switch {
	case out != "":
		return out
	case strings.HasSuffix(in, ".signed.json"):
		return in
	}
	return strings.TrimSuffix(in, ".json") + ".signed.json"
}

// standing is a signed document in short.
type standing struct {
	File        string              `json:"file,omitempty"`
	Version     uint64              `json:"version"`
	Hash        schemas.Hash        `json:"hash"`
	Environment schemas.Environment `json:"environment"`
	Issued      time.Time           `json:"issued"`
	Expires     time.Time           `json:"expires"`
	Signers     []schemas.KeyID     `json:"signers"`
	Notes       []string            `json:"notes"`
}

// standingOf sums a document up. signers are those that count.
func (n *noun[T, D]) standingOf(d D, signed *schemas.Signed, signers []schemas.KeyID) standing {
	h := d.Head()
	s := standing{Version: h.Version, Hash: signed.Hash(), Environment: h.Environment, Issued: h.Issued, Expires: h.Expires, Signers: signers, Notes: n.notes(d)}
	if s.Signers == nil {
		s.Signers = []schemas.KeyID{}
	}
	if s.Notes == nil {
		s.Notes = []string{}
	}
	return s
}

// lines is a standing for people.
func (s standing) lines() [][2]string {
	rows := [][2]string{
		{"version", strconv.FormatUint(s.Version, 10)},
		{"hash", s.Hash.String()},
		{"environment", shout(s.Environment)},
		{"issued", s.Issued.Format(time.RFC3339)},
		{"expires", s.Expires.Format(time.RFC3339)},
	}
	for _, id := range s.Signers {
		rows = append(rows, [2]string{"signed by", string(id)})
	}
	for _, note := range s.Notes {
		rows = append(rows, [2]string{"note", note})
	}
	if s.File != "" {
		rows = append(rows, [2]string{"written to", s.File})
	}
	return rows
}

// write keeps a signed document in a file and prints what it is.
func (n *noun[T, D]) write(format *cli.Output, d D, signed *schemas.Signed, path string) error {
	b, err := signed.Encode()
	if err != nil {
		return err
	}
	if err := writeWhole(path, append(b, '\n'), 0o644); err != nil {
		return err
	}
	var signers []schemas.KeyID
	for _, s := range signed.Signatures {
		signers = append(signers, s.KeyID)
	}
	s := n.standingOf(d, signed, signers)
	s.File = path
	return cli.One(format, s, standing.lines)
}

// verify is `<noun> verify`.
func (n *noun[T, D]) verify() *cobra.Command {
	var trustPath, at string
	var previous uint64
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Verify a signed " + n.name + " as every process does", Args: cobra.ExactArgs(1),
		Long: `Checks that enough different root keys have signed, that the environment is ours, that it has not expired, is not from
the future and not older than --previous. Exit code 5 says that it is well made but not binding.`,
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&trustPath, "trust", "", "file with root keys and environment")
	cmd.Flags().StringVar(&at, "at", "", "verify as of this time (default now)")
	cmd.Flags().Uint64Var(&previous, "previous", 0, "lowest version to accept")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trust, err := readTrust(trustPath)
		if err != nil {
			return err
		}
		now, err := parseMoment(at)
		if err != nil {
			return err
		}
		b, err := readLimited(cmd.InOrStdin(), args[0], maxSignedFile)
		if err != nil {
			return err
		}
		s, err := n.check(b, trust, previous, now)
		if err != nil {
			return err
		}
		return cli.One(format, s, standing.lines)
	}
	return cmd
}

// check verifies a signed document and sums it up.
func (n *noun[T, D]) check(b []byte, trust schemas.Trust, previous uint64, now time.Time) (standing, error) {
	b = []byte(strings.TrimSpace(string(b)))
	d, _, err := schemas.VerifyDocument[T, D](b, trust, previous, now)
	if err != nil {
		return standing{}, err
	}
	signed, err := schemas.ParseSigned(b)
	if err != nil {
		return standing{}, err
	}
	return n.standingOf(d, signed, signed.Signers(trust.Roots)), nil
}

// publish is `<noun> publish`.
func (n *noun[T, D]) publish() *cobra.Command {
	var trustPath string
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Put a signed " + n.name + " into force in a network", Args: cobra.ExactArgs(1),
		Long: `Verifies the file, compares it with what is in force and replaces that. Everybody who follows it takes it up within
seconds. The version must be higher than the one in force; publishing the one in force again changes nothing.`,
	}
	format := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&trustPath, "trust", "", "file with root keys and environment")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		trust, err := readTrust(trustPath)
		if err != nil {
			return err
		}
		b, err := readLimited(cmd.InOrStdin(), args[0], maxSignedFile)
		if err != nil {
			return err
		}
		board, release, err := n.open(cmd, D(new(T)).MediaType())
		if err != nil {
			return err
		}
		defer release()
		s, err := n.post(cmd.Context(), board, []byte(strings.TrimSpace(string(b))), trust)
		if err != nil {
			return err
		}
		return cli.One(format, s, standing.lines)
	}
	return cmd
}

// post verifies a document against what hangs and replaces that.
func (n *noun[T, D]) post(ctx context.Context, board Board, b []byte, trust schemas.Trust) (standing, error) {
	current, mark, err := board.Current(ctx)
	if err != nil && !errors.Is(err, schemas.KindNotFound) {
		return standing{}, err
	}
	var previous uint64
	if err == nil {
		have, signed, err := n.decode("the "+n.name+" in force", current)
		if err != nil {
			return standing{}, err
		}
		if signed != nil {
			previous = have.Head().Version
		}
	}
	s, err := n.check(b, trust, previous, time.Now())
	if err != nil || slices.Equal(b, current) {
		return s, err
	}
	if s.Version == previous {
		return standing{}, &schemas.Error{Kind: schemas.KindPolicy, Field: "version", Message: fmt.Sprintf("%d is in force already, with other content", previous)}
	}
	return s, board.Post(ctx, s.Version, b, mark)
}

// show is `<noun> show`.
func (n *noun[T, D]) show() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show [FILE]", Aliases: []string{"get"}, Short: "Show a " + n.name + ": a draft, a signed one, or without FILE the one in force", Args: cobra.MaximumNArgs(1),
		Long: "With -o json the output is a draft: edit it, then sign it with --renew. Nothing is verified: see verify.",
	}
	format := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := n.readOrFetch(cmd, args, 0)
		if err != nil {
			return err
		}
		return cli.One(format, d, n.lines)
	}
	return cmd
}

// readOrFetch reads the file at an index of args, or what is in force when there is none.
func (n *noun[T, D]) readOrFetch(cmd *cobra.Command, args []string, i int) (D, error) {
	if i < len(args) {
		d, _, err := n.read(cmd, args[i])
		return d, err
	}
	board, release, err := n.open(cmd, D(new(T)).MediaType())
	if err != nil {
		return nil, err
	}
	defer release()
	b, _, err := board.Current(cmd.Context())
	if err != nil {
		return nil, err
	}
	d, _, err := n.decode("the "+n.name+" in force", b)
	return d, err
}

// diff is `<noun> diff`.
func (n *noun[T, D]) diff() *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff OLD [NEW]", Short: "Show what changes between two; without NEW, between OLD and the one in force", Args: cobra.RangeArgs(1, 2),
	}
	format := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		old, err := n.readOrFetch(cmd, args, 0)
		if err != nil {
			return err
		}
		other, err := n.readOrFetch(cmd, args, 1)
		if err != nil {
			return err
		}
		changes, err := differences(old, other)
		if err != nil {
			return err
		}
		return cli.List(format, changes, changesTable)
	}
	return cmd
}

// edit changes a draft in a file: it must still pass its check.
func (n *noun[T, D]) edit(cmd *cobra.Command, path string, change func(D) error) error {
	d, signed, err := n.read(cmd, path)
	if err != nil {
		return err
	}
	if signed != nil {
		return cli.Usagef("%s is signed: changes go into a draft (cocoon %s show %s -o json)", path, n.name, path)
	}
	if err := change(d); err != nil {
		return err
	}
	return n.keep(d, path)
}

// keep checks a draft and writes it.
func (n *noun[T, D]) keep(d D, path string) error {
	if err := d.Check(); err != nil {
		return err
	}
	b, err := indented(d)
	if err != nil {
		return err
	}
	return writeWhole(path, b, 0o644)
}

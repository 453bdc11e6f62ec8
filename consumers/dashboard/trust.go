package dashboard

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// readTrust verifies the signed documents again, with the same code as everybody, and lists the keys in force.
func (d *Dashboard) readTrust(ctx context.Context, now time.Time) (Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	t := Trust{
		Environment: d.conf.Trust.Environment, Roots: d.conf.Trust.Roots.Hash(),
		Measurements: []MeasurementRow{}, Keys: []KeyRow{}, Brokers: []BrokerRow{}, Rules: []RuleRow{},
	}
	// The catalogue comes first: the network page needs it, whatever is wrong with the policy.
	catalogue, row, err := document[schemas.Catalogue](ctx, d, streams.BucketCatalogue, now)
	if err != nil {
		return Trust{}, err
	}
	t.Catalogue, d.catalogue = row, catalogue
	d.prices.Store(catalogue)
	policy, row, err := document[schemas.Policy](ctx, d, streams.BucketPolicy, now)
	if err != nil {
		return Trust{}, err
	}
	t.Policy = row
	for _, m := range policy.Measurements {
		t.Measurements = append(t.Measurements, MeasurementRow{m.Name, m.Role, m.MRTD, m.RTMR0, m.RTMR1, m.RTMR2, len(m.Configs), m.NotAfter})
	}
	t.Rules = rules(policy)
	keys, err := d.conf.Bus.Bucket(streams.BucketKeys).List(ctx, "")
	if err != nil {
		return Trust{}, err
	}
	for _, e := range keys {
		if k, ok := keyRow(e.Value); ok {
			t.Keys = append(t.Keys, k)
		}
	}
	t.Brokers = brokers(t.Keys)
	return t, nil
}

// rules spells what a policy demands.
func rules(p *schemas.Policy) []RuleRow {
	statuses := make([]string, len(p.TDX.AcceptStatus))
	for i, s := range p.TDX.AcceptStatus {
		statuses[i] = string(s)
	}
	firmware := make([]string, len(p.GPU.Golden))
	for i, g := range p.GPU.Golden {
		firmware[i] = fmt.Sprintf("driver %s with VBIOS %s (%d values)", g.Driver, g.VBIOS, len(g.Values))
	}
	revocation := "not demanded"
	if p.GPU.OCSPMaxAgeHours > 0 {
		revocation = fmt.Sprintf("answers at most %d h old", p.GPU.OCSPMaxAgeHours)
	}
	machines := "any"
	if p.TDX.Platforms.Mode != schemas.PlatformsAny {
		machines = fmt.Sprintf("only %d listed", len(p.TDX.Platforms.Listed))
	}
	return []RuleRow{
		{"Evidence lives", fmt.Sprintf("%d min", p.EvidenceMinutes)},
		{"TCB accepted", cmp.Or(strings.Join(statuses, ", "), "none")},
		{"TCB age at most", fmt.Sprintf("%d days", p.TDX.MaxTCBAgeDays)},
		{"TDX modules", fmt.Sprintf("%d admitted", len(p.TDX.Modules))},
		{"Machines", fmt.Sprintf("%s, %d blocked", machines, len(p.TDX.Platforms.Blocked))},
		{"GPUs", cmp.Or(strings.Join(p.GPU.Architectures, ", "), "none")},
		{"GPU firmware", cmp.Or(strings.Join(firmware, "; "), "none")},
		{"GPU revocation", revocation},
		{"Models", fmt.Sprintf("%d admitted", len(p.Models))},
	}
}

// brokers gathers the keys of each broker group.
func brokers(keys []KeyRow) []BrokerRow {
	list := []BrokerRow{}
	for _, k := range keys {
		i := slices.IndexFunc(list, func(b BrokerRow) bool { return b.Broker == k.Broker })
		if i < 0 {
			list = append(list, BrokerRow{Broker: k.Broker, FirstEpoch: k.Epoch, LastEpoch: k.Epoch, NextChange: k.ActiveUntil})
			i = len(list) - 1
		}
		b := &list[i]
		b.Keys++
		b.FirstEpoch, b.LastEpoch = min(b.FirstEpoch, k.Epoch), max(b.LastEpoch, k.Epoch)
		if k.ActiveUntil.Before(b.NextChange) {
			b.NextChange = k.ActiveUntil
		}
	}
	return list
}

// document reads and verifies the version in force of a signed document.
func document[T any, D interface {
	*T
	schemas.Document
}](ctx context.Context, d *Dashboard, bucket streams.BucketName, now time.Time) (D, DocumentRow, error) {
	entry, err := d.conf.Bus.Bucket(bucket).Get(ctx, "current")
	if err != nil {
		return nil, DocumentRow{}, err
	}
	doc, hash, err := schemas.VerifyDocument[T, D](entry.Value, d.conf.Trust, 0, now)
	if err != nil {
		return nil, DocumentRow{}, err
	}
	signed, err := schemas.ParseSigned(entry.Value)
	if err != nil {
		return nil, DocumentRow{}, err
	}
	head := doc.Head()
	return doc, DocumentRow{
		Version: head.Version, Hash: hash, Issued: head.Issued, Expires: head.Expires,
		Signers: len(signed.Signers(d.conf.Trust.Roots)),
	}, nil
}

// keyRow reads a published key for display; producers verify it, a page only shows it.
func keyRow(value []byte) (KeyRow, bool) {
	published, _, err := schemas.ParsePublishedKey(value)
	if err != nil {
		return KeyRow{}, false
	}
	var bundle schemas.KeyBundle
	if !statedPayload(published.Bundle, &bundle) || bundle.Model == "" { // without a model it is the key of weights
		return KeyRow{}, false
	}
	return KeyRow{
		Model: bundle.Model, Key: bundle.Key, Epoch: bundle.Epoch, ActiveUntil: bundle.ActiveUntil,
		Broker: schemas.KeyIDOf(bundle.Broker),
	}, true
}

// statedPayload reads the payload of a compact JWS without verifying it: what is shown is what the signer states.
// Settlement verifies every receipt before it books anything.
func statedPayload(jws string, v any) bool {
	_, rest, ok := strings.Cut(jws, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(payload)
	return err == nil && json.Unmarshal(b, v) == nil
}

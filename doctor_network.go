//go:build !worker

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/streams"
)

// staleChain is the age of the newest proven block above which payouts wait noticeably.
const staleChain = time.Minute

// networkChecks look at the message system and the chain, where they are named.
func networkChecks(o doctorOptions) []check {
	return []check{
		{"message system", func(ctx context.Context) finding { return checkNATS(ctx, o) }},
		{"policy", func(ctx context.Context) finding { return onBus(ctx, o, checkPolicy) }},
		{"refused hosts", func(ctx context.Context) finding { return onBus(ctx, o, checkRefused) }},
		{"TON chain", func(ctx context.Context) finding { return checkTON(ctx, o.TON) }},
	}
}

// named reports whether a message system is named.
func named(o doctorOptions) bool {
	return o.NATS != "" || os.Getenv("NATS_URL") != "" || os.Getenv("NATS_CONTEXT") != ""
}

// onBus runs a check on a network.
func onBus(ctx context.Context, o doctorOptions, check func(context.Context, *streams.Bus) finding) finding {
	if !named(o) {
		return notApplicable("no server named: use --nats or NATS_URL")
	}
	bus, err := streams.Connect(ctx, streams.Config{URL: o.NATS, Creds: o.Creds, Name: "cocoon doctor"})
	if err != nil {
		return notApplicable("the message system cannot be reached")
	}
	defer bus.Close(context.WithoutCancel(ctx))
	return check(ctx, bus)
}

// policyWarning is the time before a policy's end from which on doctor warns.
const policyWarning = 7 * 24 * time.Hour

// checkPolicy says until when the policy in force admits anybody. Whose signatures it has is not looked at: this program does
// not know whom its user believes.
func checkPolicy(ctx context.Context, bus *streams.Bus) finding {
	entry, err := bus.Bucket(streams.BucketPolicy).Get(ctx, "current")
	if errors.Is(err, schemas.KindNotFound) {
		return refusal(&schemas.Error{Kind: schemas.KindUnavailable, Field: "policy", Message: "none is published: no worker and no broker is admitted"})
	}
	if err != nil {
		return warn("run doctor with credentials that may read the policy", "%v", err)
	}
	signed, err := schemas.ParseSigned(entry.Value)
	if err != nil {
		return fail("publish it again: cocoon policy publish", "%v", err)
	}
	policy, err := schemas.ParsePolicy(signed.Payload)
	if err != nil {
		return fail("publish it again: cocoon policy publish", "%v", err)
	}
	left := time.Until(policy.Expires)
	switch {
	case left <= 0:
		return refusal(&schemas.Error{Kind: schemas.KindPolicy, Field: "policy", Message: "policy expired at " + policy.Expires.Format(time.RFC3339) + ": nobody is admitted"})
	case left < policyWarning:
		return warn("sign and publish the next version: cocoon policy publish", "version %d expires at %s", policy.Version, policy.Expires.Format(time.RFC3339))
	}
	return ok("version %d, %s, admits %d images until %s", policy.Version, policy.Environment, len(policy.Measurements), policy.Expires.Format(time.DateOnly))
}

// refusal is the finding about something that a verifier refuses, with what to do.
func refusal(err *schemas.Error) finding {
	return fail(attest.Advice(err), "%s", err.Message)
}

// shownRefused bounds the refused hosts that doctor names.
const shownRefused = 5

// checkRefused says which hosts brokers have refused lately, why, and what to do, the newest first.
func checkRefused(ctx context.Context, bus *streams.Bus) finding {
	entries, err := bus.Bucket(streams.BucketEvidence).List(ctx, streams.PrefixRefused+"*")
	if err != nil {
		return warn("run doctor with an operator's credentials", "%v", err)
	}
	slices.SortFunc(entries, func(a, b streams.Entry) int { return b.Updated.Compare(a.Updated) })
	var seen, fixes []string
	for _, e := range entries {
		f, err := streams.ParseFinding(e.Value)
		if err != nil || admittedSince(ctx, bus, &f) {
			continue
		}
		if len(seen) == shownRefused {
			seen = append(seen, "and more: the dashboard's page of workers lists them")
			break
		}
		seen = append(seen, refusedLine(&f))
		if !slices.Contains(fixes, f.Advice) {
			fixes = append(fixes, f.Advice)
		}
	}
	if len(seen) == 0 {
		return ok("none in the last two hours")
	}
	return warn(strings.Join(fixes, "\n→ "), "%s", strings.Join(seen, "\n"))
}

// admittedSince reports whether a refused worker was admitted later.
func admittedSince(ctx context.Context, bus *streams.Bus, f *schemas.Finding) bool {
	entry, err := bus.Bucket(streams.BucketEvidence).Get(ctx, streams.PrefixAdmitted+string(f.Worker))
	return err == nil && entry.Updated.After(f.Time)
}

// refusedLine describes a refused host.
func refusedLine(f *schemas.Finding) string {
	line := fmt.Sprintf("%s (stated) at %s: %s", f.Worker, f.Time.Format(time.TimeOnly), f.Message)
	if f.Field != "" {
		line = fmt.Sprintf("%s (stated) at %s: %s: %s", f.Worker, f.Time.Format(time.TimeOnly), f.Field, f.Message)
	}
	return line
}

// checkNATS connects and reads what the server says about its version and durability.
func checkNATS(ctx context.Context, o doctorOptions) finding {
	if !named(o) {
		return notApplicable("no server named: use --nats or NATS_URL")
	}
	bus, err := streams.Connect(ctx, streams.Config{URL: o.NATS, Creds: o.Creds, Name: "cocoon doctor"})
	if err != nil {
		return fail("check address, credentials and whether the server runs", "%v", err)
	}
	defer bus.Close(context.WithoutCancel(ctx))
	version := bus.Conn().ConnectedServerVersion()
	if err := streams.CheckServer(version); err != nil {
		return fail("upgrade nats-server", "%v", err)
	}
	weaknesses, err := bus.Weaknesses(ctx)
	if err != nil {
		return warn("run doctor with an operator's credentials", "nats-server %s; its streams cannot be read: %v", version, err)
	}
	if len(weaknesses) > 0 {
		return warn("cocoon topology diff shows the settings; --sync always or three replicas survive a power loss", "nats-server %s: %s", version, weaknesses[0])
	}
	return ok("nats-server %s, streams as they should be", version)
}

// checkTON proves the newest block of a chain.
func checkTON(ctx context.Context, path string) finding {
	if path == "" {
		return notApplicable("no chain named: use --ton-config with a global config file")
	}
	config, err := os.ReadFile(path)
	if err != nil {
		return fail("name a readable global config file", "%v", err)
	}
	chain, err := ton.Connect(ctx, ton.Config{GlobalConfig: config})
	if err != nil {
		return fail("check the file and the network; payouts wait meanwhile, jobs do not", "%v", err)
	}
	defer chain.Close()
	now, err := chain.Now(ctx)
	if err != nil {
		return fail("check the liteservers; payouts wait meanwhile, jobs do not", "%v", err)
	}
	if age := time.Since(now.Time); age > staleChain {
		return warn("use other liteservers: these lag", "newest proven block %d is %s old", now.Seqno, age.Round(time.Second))
	}
	return ok("newest proven block %d", now.Seqno)
}

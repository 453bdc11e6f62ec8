//go:build !worker

package main

import (
	"context"
	"os"
	"time"

	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/streams"
)

// staleChain is the age of the newest proven block above which payouts wait noticeably.
const staleChain = time.Minute

// networkChecks look at the message system and the chain, where they are named.
func networkChecks(o doctorOptions) []check {
	return []check{
		{"message system", func(ctx context.Context) finding { return checkNATS(ctx, o) }},
		{"TON chain", func(ctx context.Context) finding { return checkTON(ctx, o.TON) }},
	}
}

// checkNATS connects and reads what the server says about its version and durability.
func checkNATS(ctx context.Context, o doctorOptions) finding {
	if o.NATS == "" && os.Getenv("NATS_URL") == "" && os.Getenv("NATS_CONTEXT") == "" {
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

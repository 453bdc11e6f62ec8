//go:build !worker

package cli

import (
	"context"
	"fmt"

	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/enginebench"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// BenchEngine is `cocoon bench engine`: the embedded engine with one and with 16 slots, and fed directly beside through the
// network, on a random model of 15 million parameters. With the path of a llama-server, that one runs beside ours as well;
// empty leaves it out. quick takes one round instead of three.
func BenchEngine(ctx context.Context, quick bool, llamaServer string) (cli.BenchResult, error) {
	plan := enginebench.Plan{}
	through := throughPlan{rounds: 3, perLevel: 32, tokens: 48, singles: 100, levels: []int{1, 4, 16, 64}}
	if quick {
		plan.Rounds = 1
		through = throughPlan{rounds: 1, perLevel: 16, tokens: 32, singles: 20, levels: []int{1, 64}}
	}
	f, err := enginebench.Run(ctx, plan)
	if err != nil {
		return cli.BenchResult{}, err
	}
	const gain, first, overload = 1.8, 10, 0.85
	r := cli.BenchResult{
		Bench: "engine",
		Figures: []cli.Figure{
			cli.AtLeast("batching_gain", "ratio", f.BatchingGain, gain),
			cli.AtLeast("ttft_gain", "ratio", f.TTFTGain, first),
			cli.AtLeast("overload", "ratio", f.Overload, overload),
			cli.Reported("greedy_same", "share", f.GreedySame),
			cli.Reported("sequential", "tokens/cpu-s", f.Sequential),
			cli.Reported("batched", "tokens/cpu-s", f.Batched),
			cli.Reported("ttft_p50_batched", "ms", f.FirstBatched.Seconds()*1000),
		},
		Notes: []string{
			fmt.Sprintf("%s, 1 thread, random llama model of 15.2 M parameters", ggml.Build()),
			"greedy_same below 1 comes from near ties: rounding depends on the shape of the batch",
			"through_network_N: throughput behind a worker beside the engine fed directly, N requests under way",
		},
	}
	ways, err := benchThrough(ctx, through)
	if err != nil {
		return cli.BenchResult{}, err
	}
	r.Figures = append(r.Figures, ways...)
	if llamaServer == "" {
		return r, nil
	}
	rival, err := benchRival(ctx, plan, "", llamaServer)
	r.Figures = append(r.Figures, rival...)
	r.Notes = append(r.Notes, "vs_llama_server: both as servers in processes of their own, 16 slots and 1 thread each, the same model file")
	return r, err
}

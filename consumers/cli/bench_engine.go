package cli

import (
	"context"
	"fmt"

	"github.com/cocoon-network/cocoon/consumers/ggml"
	"github.com/cocoon-network/cocoon/consumers/ggml/enginebench"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// BenchEngine is `cocoon bench engine`: the embedded engine with one and with 16 slots, side by side on a random model of
// 15 million parameters. quick takes one round instead of three.
func BenchEngine(ctx context.Context, quick bool) (cli.BenchResult, error) {
	plan := enginebench.Plan{}
	if quick {
		plan.Rounds = 1
	}
	f, err := enginebench.Run(ctx, plan)
	if err != nil {
		return cli.BenchResult{}, err
	}
	const gain, first, overload = 1.8, 10, 0.85
	return cli.BenchResult{
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
		},
	}, nil
}

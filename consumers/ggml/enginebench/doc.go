// Package enginebench measures the embedded engine: what continuous batching gains, and what it costs when memory is short.
//
// [Run] makes a random model of 15 million parameters in memory, which computes as a real one would and says nothing, and
// asks it greedily, with prompts and answers of different lengths. All figures of a comparison come from one run that
// takes turns, and count CPU time of the process where they are about throughput: a busy machine slows all of them alike.
//
//   - batching_gain: generated tokens per CPU-second with 16 slots over those with one, same engine.
//   - ttft_gain: median time to the first token of 16 requests that arrive together, one slot over 16 slots.
//   - greedy_same: answers with 4 and 16 slots that equal those with one, as a share. Differences are near ties: rounding
//     depends on the batch's shape.
//   - overload: throughput of four times as many requests, 16 at a time, with key-value memory for a quarter of their
//     work, over that with memory for all of it. Every request must be answered in full.
package enginebench

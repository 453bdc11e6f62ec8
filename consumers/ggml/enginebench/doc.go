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
//
// [Plan.Drive] asks the same of any engine. `cocoon bench engine --llama-server PATH` compares ours with llama-server that way;
// its sources are in the npm package node-llama-cpp, and CMake builds it in ten minutes of CPU time:
//
//	npm pack node-llama-cpp@3.22.1 && tar xzf node-llama-cpp-3.22.1.tgz
//	git clone package/llama/gitRelease.bundle llama.cpp && cd llama.cpp
//	cmake -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
//	      -DLLAMA_BUILD_EXAMPLES=OFF -DBUILD_SHARED_LIBS=OFF
//	cmake --build build --target llama-server
package enginebench

// Package stub is an engine without a model, for benchmarks of everything around an engine and for tests.
//
// [Engine] keeps the whole contract of consumers.Engine (slots, refusal when full, streaming, cancel at the next step,
// drain, usage) and answers with fixed text after a fixed time. With its zero options it is the stub that the figures
// of the pipeline are stated for: 50 chunks of 128 bytes, whose text adds up to the answer, and a usage of 34 prompt
// tokens (11 of them cached) and 100 answered tokens (10 of them reasoning), as fast as it is asked.
//
// Options.Script changes single requests: they can fail with any kind, hang without a step until they are cancelled,
// answer without a usage, or take longer, which is how the tests play broken engines.
//
// It is no model and says so: its Info names the flavour "stub" and the fingerprint "stub", which every result
// carries. Done.UsageExact is true only because the numbers are fixed. `cocoon worker` cannot be configured to use it.
package stub

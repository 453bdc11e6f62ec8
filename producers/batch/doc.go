// Package batch runs a file of requests: OpenAI's batch lines in, OpenAI's or vLLM's result lines out.
//
// Start with [Run]: it checks a file, submits it, waits and leaves a folder with everything that happened; called again
// on the same folder it continues where it stopped, whatever stopped it. [Validate] only checks, [Estimate] only
// prices. [Create], [Open] and [List] give the [Batch] behind a folder, which can be run, watched, cancelled, retried
// and read.
//
// What a batch promises:
//
//   - A line is paid once. Its job id is derived from the tenant's secret, the batch and the line, so doing it again is
//     the same job. Sealed lines are in the journal before they are published, and the same bytes are published again
//     when it is not known whether they arrived.
//   - kill -9 loses nothing that was answered: the journal is appended and synced before anything depends on it, and
//     read back through the same code that wrote it. Half a record at its end is cut off.
//   - Every line that was answered is kept, downloadable and accounted for, also when the batch was cancelled, expired
//     or ran out of budget. The others say which of these it was.
//   - The cost has a lid: with Options.MaxCost the lines in flight can never together cost more than what is left of it.
//   - Everything wrong with a file is said at once, with line numbers, before anything is sealed or paid. Input is
//     streamed: memory depends on the longest line and the number of lines, never on the size of the file.
//
// The folder of a batch:
//
//	batch.json      what it is: input, its SHA-256, options; written once
//	journal         what happened: sealed blocks, outcomes, cancellation; appended
//	results.jsonl   the result lines as they came; appended, a torn last line is cut off
//
// It holds answers in the clear, as the input file holds the questions: keep it where you keep that.
package batch

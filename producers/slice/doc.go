// Package slice cuts a long document into bite-sized pieces, has a model answer a prompt over each of them, and reduces
// the answers to one: map and reduce over ordinary jobs.
//
// Start with [Run]: it cuts, maps, reduces and returns the answer. [Cut] only cuts, and [Lines] writes the map step as
// batch lines, for `cocoon batch split`.
//
// Every piece is an ordinary job with an idempotency key derived from Options.Key, the piece and the prompt. So a run that
// stopped can be started again with the same options: pieces that were answered are not run again, and nothing is paid
// twice. Pieces are answered in parallel, at most Options.Parallel at a time; their order is kept.
//
// Cutting never splits a character, and prefers, in this order, the end of a paragraph, of a line, of a sentence, and a
// space. Pieces may overlap, so that what is said across a border is seen once whole. Reducing goes on in rounds until
// one answer is left: each round puts as many answers as fit one request together.
package slice

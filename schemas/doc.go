// Package schemas is the vocabulary of Cocoon: the ids, amounts, message types and error kinds that every other
// package speaks, with one strict codec for each form that crosses a process border.
//
// Start with [Attributes], the public face of a job: the CloudEvents attributes that travel as ce-* headers and are
// bound into everything sealed. [Envelope] is the sealed job itself, [Outcome] the one final message of a job, and
// [Grant] and [Receipt] are the two signed statements from which money is made. [Catalogue] and [Policy] are the two
// signed documents that say what may run and what it costs.
//
// The package holds no keys and speaks no protocol: enclave seals and signs these forms, streams carries them, and the
// layers above decide. It imports the standard library and a CBOR codec, nothing else, so that an SDK which only
// wants the words pays for nothing more.
//
// Rules that hold for every form here:
//
//   - Decoding is strict and canonical. Unknown fields, duplicate keys, trailing bytes, wrong lengths and any second
//     spelling of the same value are refused, so that bytes which parse encode again to the same bytes.
//   - A refusal is an [*Error] with a [Kind] and, where there is one, the name of the field.
//   - Every size has a named limit, and it is checked before memory is taken for it.
//   - Money is an integer number of nanoTON ([NanoTON]); it is never a float and never negative on the wire.
//   - Times on the wire are UTC with whole seconds.
//   - Ids are types of their own. A value that reaches a NATS subject has passed [ValidToken].
//
// The normative description of every form, with byte tables and examples, lies in schemas/spec; the golden and
// negative cases that any implementation must agree with lie in schemas/testdata/vectors.
package schemas

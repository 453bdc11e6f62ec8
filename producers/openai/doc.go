// Package openai knows the OpenAI forms as far as a producer needs them: it checks a request body without decoding
// it, reads the few fields that decide where a job goes and what it may cost, spells refusals as OpenAI error objects,
// and puts a streamed answer together.
//
// Start with [ParseCall]: it takes the endpoint's path and the body a user wrote and returns a [Call] whose Body is what
// the engine gets. Fields that belong to Cocoon and not to OpenAI (max_coefficient, timeout, enable_debug,
// request_guid) are read and removed; every other field, known or not, passes through byte for byte, and
// [Call.Unknown] records the names that OpenAI's API does not have. For anything else that must be read from JSON
// without trusting it, [ParseObject] takes one object apart. [ErrorOf] and [ErrorBody] turn an error into the HTTP
// answer that OpenAI's clients understand. [Assembler] follows the chunks of a stream and, when some were lost, makes
// the chunks that bring the reader to the finished answer.
//
// The checks hold for every body:
//
//   - It is one JSON value in UTF-8, nothing before or after it, nested at most [MaxDepth] deep.
//   - No object has a key twice, also not in two spellings; which value would win differs between readers.
//   - Every number fits a float64 (1e999 does not), every \u escape is a character (a lone surrogate is not).
//   - A failure is a [*schemas.Error] that names the field as a path, such as messages[3].content.
//
// Checking is one pass over the bytes and takes memory only for the keys of the objects that are open, so that a batch
// file is checked at the speed of its disk.
//
// The package imports schemas and nothing else of this module.
package openai

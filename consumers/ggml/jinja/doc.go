// Package jinja runs the chat templates of model files: the part of Jinja that they use, and no more.
//
// [Parse] compiles a template once, [Template.Render] turns a conversation into a prompt. Whitespace is treated as the
// transformers library does it (trim_blocks and lstrip_blocks on), since that is what templates are written for.
//
// There is: output, comments, if/elif/else, for with loop variables, else, break and continue, set of names, tuples and
// namespace attributes; the operators of Jinja with its precedence, slices, conditional expressions, tests and the
// filters, methods and functions in builtins.go. There are no macros, imports, includes or inheritance: a template that
// uses one of them does not parse, with KindUnsupported, and the model is served without chat.
//
// A template comes from a model file and is therefore untrusted. It cannot reach anything but the variables it is given,
// it cannot call Go code, and it runs within [MaxSteps] steps, [MaxOutput] bytes and [maxDepth] levels of nesting.
// A template that gives up with raise_exception, as many do for conversations they do not like, gives a [*Refusal].
//
// Why not a library: gonja v2.9.1 renders the same templates, but two nested loops keep it busy for ever; it has no way
// to bound or cancel an execution, and it would let a model file stop a worker.
package jinja

// Package batcher is the continuous batcher of the embedded engine: it decides, before every forward pass, which tokens
// of which requests go into it. Requests join and leave between any two passes.
//
// Start with [New] and [Batcher.Run]; hand requests in with [Batcher.Submit] and read the [Ticket]. The package knows
// nothing of ggml, OpenAI or tokenizers: a [Model] computes logits for token numbers, and that is all it sees. So the
// scheduling can be tested with a model of ten lines and a fake clock.
//
// The rules, in the order in which a step applies them:
//
//  1. Requests that were cancelled or have passed their deadline leave.
//  2. Waiting requests are admitted while there is a slot and key-value memory for what they are expected to need: the
//     prompt and a share of their token limit that follows what requests really used. Higher priority goes first; among
//     equals, the tenant that was served least; within a tenant, the order of arrival. Nothing overtakes the request
//     whose turn it is, so a large one cannot starve.
//  3. A step has a budget of tokens. Every sequence that is generating gets its one token first; what is left goes to
//     the prompts, in chunks, oldest first.
//  4. When the memory runs out all the same, kept prefixes are dropped, then the youngest sequence of the lowest
//     priority is preempted: it waits at the front again and is computed anew, with what it had already generated. Its
//     stream only sees a pause. The oldest sequence of the highest priority is never preempted, so somebody always
//     gets on.
//  5. A prompt that begins like another of the same tenant shares its memory instead of computing it again. Between
//     tenants nothing is ever shared.
//
// Memory that held a tenant's keys and values is overwritten once the tenant has nothing left in it: at once on drain,
// within [Config.WipeEvery] otherwise.
//
// A step that fails does not end the requests in it. The model is reset, each suspect is tried alone, and only one that
// fails alone is given up; see recover.go.
package batcher

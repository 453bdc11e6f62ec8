// Package enginetest holds engines to the contract of consumers.Engine. Every implementation runs [Run] in its tests: the
// embedded engine, the embedded engine behind `cocoon engine`, and the HTTP engine against a scripted server.
//
// The suite asks a [Subject]: an engine, a question with the answer it must give, and how many tokens that takes. What
// the suite checks does not depend on the model otherwise. It covers
//
//   - answers with and without streaming, and that both say the same,
//   - usage that is exact, disjoint and the same in Done and in the body,
//   - stop strings, token limits, text in many scripts,
//   - cancelling by Close and by context, deadlines,
//   - more requests than slots, the capacity while they run and after, the Watch signal,
//   - refusals: kind and field of everything that is wrong with a request, before any work,
//   - counting, draining and closing.
//
// [Body] makes request bodies, [Read] collects an answer; other tests of engines may use them as well.
package enginetest

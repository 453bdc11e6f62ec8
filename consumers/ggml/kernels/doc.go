// Package kernels makes ggml fast in a plain `go build`.
//
// Go compiles the C of a dependency for the oldest processor of an architecture. For ggml on amd64 that means no vector
// instructions wider than SSE2 and no 16-bit floats: five to ten times slower than the machine could be. Setting
// CGO_CFLAGS="-O3 -march=x86-64-v3" fixes that for a build that only runs on newer machines, but nobody types it for
// `go run`, and it turns older machines into an illegal instruction.
//
// So this package holds the inner loops that nearly all the time goes to, the products of 16- and 32-bit float rows,
// compiled for AVX2 with FMA and F16C, and lets the linker put them in the place of ggml's own (--wrap). At run time
// they look at the processor once and hand back to ggml's code where it lacks the instructions. The program stays
// portable and reaches the speed of a build for x86-64-v3, which these kernels serve as well.
//
// Import it for its effect, beside ggml. [ISA] says what is in use. Quantised weights still go through ggml's own code:
// for those the compiler flags remain worthwhile, and [Baseline] tells whether a build has them.
//
// On other architectures than amd64 the package does nothing: arm64 has what it needs in its base.
package kernels

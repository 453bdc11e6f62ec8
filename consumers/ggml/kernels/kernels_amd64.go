package kernels

// #cgo CFLAGS: -O3 -Wall -Werror
// #cgo LDFLAGS: -Wl,-wrap=llamafile_sgemm -Wl,-wrap=ggml_vec_dot_f16 -Wl,-wrap=ggml_vec_dot_f32
// #include "kernels_amd64.h"
// int ggml_cpu_has_avx2(void);
import "C"

import (
	_ "github.com/ollama/ollama/ml/backend/ggml" // the functions that are replaced
)

// ISA is the instruction set that the kernels use: "avx2", or "" on a processor that lacks it.
func ISA() string {
	if C.kernels_usable() != 0 {
		return "avx2"
	}
	return ""
}

// Baseline reports whether ggml's own code was compiled without AVX2, as a plain build does.
func Baseline() bool { return C.ggml_cpu_has_avx2() == 0 }

// dotF16 and dotF32 are the dot products, for tests.
func dotF16(x, y []uint16) (s float32) {
	C.__wrap_ggml_vec_dot_f16(C.int(len(x)), (*C.float)(&s), 0, (*C.uint16_t)(&x[0]), 0, (*C.uint16_t)(&y[0]), 0, 1)
	return s
}

func dotF32(x, y []float32) (s float32) {
	C.__wrap_ggml_vec_dot_f32(C.int(len(x)), (*C.float)(&s), 0, (*C.float)(&x[0]), 0, (*C.float)(&y[0]), 0, 1)
	return s
}

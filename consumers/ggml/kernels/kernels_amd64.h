// Replacements for three functions of ggml's CPU backend. The linker gives calls of NAME to __wrap_NAME, and ggml's own
// function the name __real_NAME.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The beginning of ggml_compute_params: which of how many threads this is.
struct share { int ith, nth; };

// C[j*ldc+i] = sum over l < k of A[i*lda+l] * B[j*ldb+l], for i < m, j < n. The types are ggml's numbers: 0 is float, 1
// is a 16-bit float. false: not computed, the caller has to find another way.
bool __wrap_llamafile_sgemm(const struct share *s, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda,
                            const void *B, int64_t ldb, void *C, int64_t ldc, int atype, int btype, int ctype);
bool __real_llamafile_sgemm(const struct share *s, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda,
                            const void *B, int64_t ldb, void *C, int64_t ldc, int atype, int btype, int ctype);

// *s = sum over i < n of x[i] * y[i]. The strides and nrc are always 0 and 1 here.
void __wrap_ggml_vec_dot_f16(int n, float *s, size_t bs, const uint16_t *x, size_t bx, const uint16_t *y, size_t by, int nrc);
void __real_ggml_vec_dot_f16(int n, float *s, size_t bs, const uint16_t *x, size_t bx, const uint16_t *y, size_t by, int nrc);
void __wrap_ggml_vec_dot_f32(int n, float *s, size_t bs, const float *x, size_t bx, const float *y, size_t by, int nrc);
void __real_ggml_vec_dot_f32(int n, float *s, size_t bs, const float *x, size_t bx, const float *y, size_t by, int nrc);

// Whether the processor has what the kernels need.
int kernels_usable(void);

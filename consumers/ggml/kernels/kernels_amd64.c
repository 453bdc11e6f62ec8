#include "kernels_amd64.h"

#include <immintrin.h>

// FAST marks code for AVX2, FMA and F16C. It is only reached when usable is set.
#define FAST __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline))

enum { F32 = 0, F16 = 1 }; // ggml's numbers

static int usable;

__attribute__((constructor)) static void look(void) {
	__builtin_cpu_init();
	usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

int kernels_usable(void) { return usable; }

// total adds up the eight numbers of v.
FAST INLINE float total(__m256 v) {
	__m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	a = _mm_add_ps(a, _mm_movehl_ps(a, a));
	return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

// Eight numbers, or one, from memory.
FAST INLINE __m256 eight_f32(const float *p) { return _mm256_loadu_ps(p); }
FAST INLINE __m256 eight_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
FAST INLINE float one_f32(const float *p) { return *p; }
FAST INLINE float one_f16(const uint16_t *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*p))); }

// DOT defines a dot product of two rows of one type. Four sums hide the latency of an addition.
#define DOT(NAME, T, EIGHT, ONE)                                                        \
	FAST static float NAME(int n, const T *x, const T *y) {                             \
		__m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()}; \
		int i = 0;                                                                      \
		for (; i + 32 <= n; i += 32)                                                    \
			for (int j = 0; j < 4; j++)                                                 \
				s[j] = _mm256_fmadd_ps(EIGHT(x + i + 8 * j), EIGHT(y + i + 8 * j), s[j]); \
		for (; i + 8 <= n; i += 8) s[0] = _mm256_fmadd_ps(EIGHT(x + i), EIGHT(y + i), s[0]); \
		float sum = total(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]))); \
		for (; i < n; i++) sum += ONE(x + i) * ONE(y + i);                              \
		return sum;                                                                     \
	}

DOT(dot_f32, float, eight_f32, one_f32)
DOT(dot_f16, uint16_t, eight_f16, one_f16)

// PRODUCT defines a matrix product for rows m0 to m1 of A, of type T, with B and C of float. k is a multiple of 8. A tile
// of four rows of A and three of B stays in the registers: each row of A is read, and converted, once for three of B.
#define PRODUCT(NAME, T, EIGHT)                                                         \
	FAST INLINE void NAME##_tile(int rows, int cols, int64_t k, const T *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc) { \
		__m256 sum[4][3];                                                               \
		for (int i = 0; i < rows; i++)                                                  \
			for (int j = 0; j < cols; j++) sum[i][j] = _mm256_setzero_ps();             \
		for (int64_t l = 0; l < k; l += 8) {                                            \
			__m256 b[3];                                                                \
			for (int j = 0; j < cols; j++) b[j] = _mm256_loadu_ps(B + j * ldb + l);     \
			for (int i = 0; i < rows; i++) {                                            \
				__m256 a = EIGHT(A + i * lda + l);                                      \
				for (int j = 0; j < cols; j++) sum[i][j] = _mm256_fmadd_ps(a, b[j], sum[i][j]); \
			}                                                                           \
		}                                                                               \
		for (int i = 0; i < rows; i++)                                                  \
			for (int j = 0; j < cols; j++) C[j * ldc + i] = total(sum[i][j]);           \
	}                                                                                   \
	FAST static void NAME(int64_t m0, int64_t m1, int64_t n, int64_t k, const T *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc) { \
		int64_t i = m0;                                                                 \
		for (; i + 4 <= m1; i += 4) {                                                   \
			const T *a = A + i * lda;                                                   \
			int64_t j = 0;                                                              \
			for (; j + 3 <= n; j += 3) NAME##_tile(4, 3, k, a, lda, B + j * ldb, ldb, C + j * ldc + i, ldc); \
			if (n - j == 2) NAME##_tile(4, 2, k, a, lda, B + j * ldb, ldb, C + j * ldc + i, ldc); \
			if (n - j == 1) NAME##_tile(4, 1, k, a, lda, B + j * ldb, ldb, C + j * ldc + i, ldc); \
		}                                                                               \
		for (; i < m1; i++)                                                             \
			for (int64_t j = 0; j < n; j++) NAME##_tile(1, 1, k, A + i * lda, lda, B + j * ldb, ldb, C + j * ldc + i, ldc); \
	}

PRODUCT(product_f32, float, eight_f32)
PRODUCT(product_f16, uint16_t, eight_f16)

bool __wrap_llamafile_sgemm(const struct share *s, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda,
                            const void *B, int64_t ldb, void *C, int64_t ldc, int atype, int btype, int ctype) {
	if (!usable || (atype != F32 && atype != F16) || btype != F32 || ctype != F32 || k % 8 != 0)
		return __real_llamafile_sgemm(s, m, n, k, A, lda, B, ldb, C, ldc, atype, btype, ctype);
	const int64_t rows = (m + 4 * s->nth - 1) / (4 * s->nth) * 4; // of A for each thread, in whole tiles
	const int64_t m0 = rows * s->ith, m1 = m0 + rows < m ? m0 + rows : m;
	if (m0 >= m1) return true;
	if (atype == F16) product_f16(m0, m1, n, k, A, lda, B, ldb, C, ldc);
	else product_f32(m0, m1, n, k, A, lda, B, ldb, C, ldc);
	return true;
}

void __wrap_ggml_vec_dot_f16(int n, float *s, size_t bs, const uint16_t *x, size_t bx, const uint16_t *y, size_t by, int nrc) {
	if (usable) *s = dot_f16(n, x, y);
	else __real_ggml_vec_dot_f16(n, s, bs, x, bx, y, by, nrc);
}

void __wrap_ggml_vec_dot_f32(int n, float *s, size_t bs, const float *x, size_t bx, const float *y, size_t by, int nrc) {
	if (usable) *s = dot_f32(n, x, y);
	else __real_ggml_vec_dot_f32(n, s, bs, x, bx, y, by, nrc);
}

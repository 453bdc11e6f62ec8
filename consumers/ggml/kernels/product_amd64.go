package kernels

// #include "kernels_amd64.h"
import "C"

import "unsafe"

// product is one thread's share of a matrix product, for tests. A is float32 or 16-bit floats; false: not computed.
func product[T float32 | uint16](thread, threads, m, n, k int, a []T, lda int, b []float32, ldb int, c []float32, ldc int) bool {
	kind := 0
	if unsafe.Sizeof(a[0]) == 2 {
		kind = 1
	}
	share := C.struct_share{ith: C.int(thread), nth: C.int(threads)}
	return bool(C.__wrap_llamafile_sgemm(&share, C.int64_t(m), C.int64_t(n), C.int64_t(k),
		unsafe.Pointer(&a[0]), C.int64_t(lda), unsafe.Pointer(&b[0]), C.int64_t(ldb), unsafe.Pointer(&c[0]), C.int64_t(ldc),
		C.int(kind), 0, 0))
}

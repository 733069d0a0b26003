/*
 * Template: the block of a matrix product that fits in registers. What c held is added last, so
 * that it rounds once and not at every step.
 */
#define UE_VECS (UE_PANEL / UE_WIDTH)

UE_TARGET static UE_INLINE void UE_NAME(tile_of)(const size_t rows, size_t depth, const float *a,
                                                 size_t lda, const float *b, size_t ldb,
                                                 float *const *c, bool accumulate) {
    UE_VEC sums[UE_ROWS][UE_VECS];
    UE_UNROLL for (size_t i = 0; i < rows; i++) {
        UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
            sums[i][v] = vzero();
        }
    }
    for (size_t k = 0; k < depth; k++) {
        UE_VEC panel[UE_VECS];
        UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
            panel[v] = vload(b + k * ldb + v * UE_WIDTH);
        }
        UE_UNROLL for (size_t i = 0; i < rows; i++) {
            const UE_VEC left = vsplat(a[i * lda + k]);
            UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
                sums[i][v] = vfma(left, panel[v], sums[i][v]);
            }
        }
    }
    UE_UNROLL for (size_t i = 0; i < rows; i++) {
        UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
            float *to = c[i] + v * UE_WIDTH;
            vstore(to, accumulate ? vadd(vload(to), sums[i][v]) : sums[i][v]);
        }
    }
}

#define UE_CASE(n)                                                                    \
    case n:                                                                           \
        UE_NAME(tile_of)(n <= UE_ROWS ? n : 1, depth, a, lda, b, ldb, c, accumulate); \
        break;

UE_TARGET static void UE_NAME(tile)(size_t rows, size_t depth, const float *a, size_t lda,
                                    const float *b, size_t ldb, float *const *c, bool accumulate) {
    switch (rows) {
        UE_CASE(1)
        UE_CASE(2)
        UE_CASE(3)
        UE_CASE(4)
        UE_CASE(5)
        UE_CASE(6)
        UE_CASE(7)
        UE_CASE(8)
        UE_CASE(9)
        UE_CASE(10)
        UE_CASE(11)
        UE_CASE(12)
    default:
        break;
    }
}

#undef UE_CASE
#undef UE_VECS

/*
 * Template: the block of a matrix product that fits in registers. What c held is added last, so
 * that it rounds once and not at every step; it is called for early, since rows of c may lie
 * anywhere.
 */
#define UE_VECS (UE_PANEL / UE_WIDTH)
#define UE_NARROW_VECS (UE_VECS > 1 ? UE_VECS / 2 : 1)
#define UE_NARROW_ROWS (UE_ROWS * UE_VECS / UE_NARROW_VECS)

UE_TARGET static UE_INLINE void UE_NAME(tile_of)(const size_t rows, const size_t vecs, size_t depth,
                                                 const float *a, size_t lda, const float *b,
                                                 size_t ldb, float *const *c, bool accumulate) {
    UE_VEC sums[UE_NARROW_ROWS][UE_VECS];
    UE_UNROLL for (size_t i = 0; i < rows; i++) {
        if (accumulate)
            UE_PREFETCH(c[i]);
        UE_UNROLL for (size_t v = 0; v < vecs; v++) sums[i][v] = vzero();
    }
    for (size_t k = 0; k < depth; k++) {
        UE_VEC panel[UE_VECS];
        UE_UNROLL for (size_t v = 0; v < vecs; v++) panel[v] = vload(b + k * ldb + v * UE_WIDTH);
        UE_UNROLL for (size_t i = 0; i < rows; i++) {
            const UE_VEC left = vsplat(a[i * lda + k]);
            UE_UNROLL for (size_t v = 0; v < vecs; v++) {
                sums[i][v] = vfma(left, panel[v], sums[i][v]);
            }
        }
    }
    UE_UNROLL for (size_t i = 0; i < rows; i++) {
        UE_UNROLL for (size_t v = 0; v < vecs; v++) {
            float *to = c[i] + v * UE_WIDTH;
            vstore(to, accumulate ? vadd(vload(to), sums[i][v]) : sums[i][v]);
        }
    }
}

/* One function a height, chosen at run time. */
#define UE_CASE(n, most, vecs)                                                           \
    case n:                                                                              \
        UE_NAME(tile_of)(n <= most ? n : 1, vecs, depth, a, lda, b, ldb, c, accumulate); \
        break;
#define UE_TILE(name, most, vecs)                                                              \
    UE_TARGET static void UE_NAME(name)(size_t rows, size_t depth, const float *a, size_t lda, \
                                        const float *b, size_t ldb, float *const *c,           \
                                        bool accumulate) {                                     \
        switch (rows) {                                                                        \
            UE_CASE(1, most, vecs)                                                             \
            UE_CASE(2, most, vecs)                                                             \
            UE_CASE(3, most, vecs)                                                             \
            UE_CASE(4, most, vecs)                                                             \
            UE_CASE(5, most, vecs)                                                             \
            UE_CASE(6, most, vecs)                                                             \
            UE_CASE(7, most, vecs)                                                             \
            UE_CASE(8, most, vecs)                                                             \
            UE_CASE(9, most, vecs)                                                             \
            UE_CASE(10, most, vecs)                                                            \
            UE_CASE(11, most, vecs)                                                            \
            UE_CASE(12, most, vecs)                                                            \
        default:                                                                               \
            break;                                                                             \
        }                                                                                      \
    }

UE_TILE(tile, UE_ROWS, UE_VECS)
UE_TILE(narrow_tile, UE_NARROW_ROWS, UE_NARROW_VECS)

enum { UE_NAME(NARROW_ROWS) = UE_NARROW_ROWS, UE_NAME(NARROW_COLUMNS) = UE_NARROW_VECS * UE_WIDTH };

#undef UE_TILE
#undef UE_CASE
#undef UE_NARROW_ROWS
#undef UE_NARROW_VECS
#undef UE_VECS

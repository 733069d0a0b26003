/*
 * Template: rows of a stored matrix times vectors. Every number of the matrix is read once, in the
 * order in which it lies in memory; what is computed on the way has to hide behind that.
 */
#define vload_f32(p, i) vload((const float *)(p) + (i))

/*
 * One row times `vectors` vectors. Each product is four sums, of every fourth vector of numbers, to
 * hide the latency of an addition; the same four whatever `vectors` is, so that bits stay the same.
 */
#define UE_DOTS(name, kind, bytes)                                                              \
    UE_TARGET static UE_INLINE void UE_NAME(dots_of_##name)(                                    \
        const size_t vectors, const char *row, size_t depth, const float *const *x, float *y) { \
        UE_VEC sums[2][4];                                                                      \
        UE_UNROLL for (size_t i = 0; i < 4 * vectors; i++) sums[i / 4][i % 4] = vzero();        \
        size_t k = 0;                                                                           \
        for (; k + 4 * UE_WIDTH <= depth; k += 4 * UE_WIDTH) {                                  \
            UE_UNROLL for (size_t p = 0; p < 4; p++) {                                          \
                const size_t at = k + p * UE_WIDTH;                                             \
                const UE_VEC stored = vload_##name(row, at);                                    \
                UE_UNROLL for (size_t v = 0; v < vectors; v++) {                                \
                    sums[v][p] = vfma(stored, vload(x[v] + at), sums[v][p]);                    \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
        for (size_t v = 0; v < vectors; v++) {                                                  \
            y[v] = vsum(vadd(vadd(sums[v][0], sums[v][1]), vadd(sums[v][2], sums[v][3])));      \
            for (size_t rest = k; rest < depth; rest++)                                         \
                y[v] += ue_stored(row, rest, kind) * x[v][rest];                                \
        }                                                                                       \
    }                                                                                           \
                                                                                                \
    UE_TARGET static void UE_NAME(dots_##name)(const char *matrix, size_t rows, size_t depth,   \
                                               const float *const *x, size_t vectors,           \
                                               float *const *y) {                               \
        float pair[2];                                                                          \
        for (size_t r = 0; r < rows; r++, matrix += depth * bytes) {                            \
            size_t v = 0;                                                                       \
            for (; v + 2 <= vectors; v += 2) {                                                  \
                UE_NAME(dots_of_##name)(2, matrix, depth, x + v, pair);                         \
                y[v][r] = pair[0];                                                              \
                y[v + 1][r] = pair[1];                                                          \
            }                                                                                   \
            if (v < vectors)                                                                    \
                UE_NAME(dots_of_##name)(1, matrix, depth, x + v, y[v] + r);                     \
        }                                                                                       \
    }

UE_DOTS(f32, UE_STORED_F32, 4)
UE_DOTS(f16, UE_STORED_F16, 2)
UE_DOTS(bf16, UE_STORED_BF16, 2)
UE_DOTS(i8, UE_STORED_I8, 1)

UE_TARGET static void UE_NAME(dots)(const struct ue_matrix *matrix, size_t first, size_t rows,
                                    size_t depth, const float *const *x, size_t vectors,
                                    float *const *y) {
    static void (*const by_storage[UE_STORAGES])(const char *, size_t, size_t, const float *const *,
                                                 size_t, float *const *) = {
        UE_NAME(dots_f32), UE_NAME(dots_f16), UE_NAME(dots_bf16), UE_NAME(dots_i8)};
    static const size_t bytes[UE_STORAGES] = {4, 2, 2, 1};
    const char *from = (const char *)matrix->data + first * depth * bytes[matrix->storage];
    by_storage[matrix->storage](from, rows, depth, x, vectors, y);
    for (size_t v = 0; matrix->scale && v < vectors; v++)
        for (size_t r = 0; r < rows; r++)
            y[v][r] *= matrix->scale[first + r];
}

#undef UE_DOTS
#undef vload_f32

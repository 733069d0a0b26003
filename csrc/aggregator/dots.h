/*
 * Template: rows of a stored matrix times vectors. Every number of the matrix is read once, in the
 * order in which it lies in memory; what is computed on the way has to hide behind that.
 */
#define vload_f32(p, i) vload((const float *)(p) + (i))

#define UE_DOTS(name, kind, bytes)                                                               \
    UE_TARGET static UE_INLINE void UE_NAME(dots_of_##name)(                                     \
        const size_t rows, const size_t vectors, const char *matrix, size_t depth,               \
        const float *const *x, float *const *y) {                                                \
        UE_VEC sums[4][4];                                                                       \
        UE_UNROLL for (size_t r = 0; r < rows; r++) {                                            \
            UE_UNROLL for (size_t v = 0; v < vectors; v++) sums[r][v] = vzero();                 \
        }                                                                                        \
        size_t k = 0;                                                                            \
        for (; k + UE_WIDTH <= depth; k += UE_WIDTH) {                                           \
            UE_UNROLL for (size_t r = 0; r < rows; r++) {                                        \
                const UE_VEC stored = vload_##name(matrix + r * depth * bytes, k);               \
                UE_UNROLL for (size_t v = 0; v < vectors; v++) {                                 \
                    sums[r][v] = vfma(stored, vload(x[v] + k), sums[r][v]);                      \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        for (size_t r = 0; r < rows; r++) {                                                      \
            for (size_t v = 0; v < vectors; v++) {                                               \
                float sum = vsum(sums[r][v]);                                                    \
                for (size_t rest = k; rest < depth; rest++)                                      \
                    sum += ue_widen(matrix + r * depth * bytes, rest, kind) * x[v][rest];        \
                y[v][r] = sum;                                                                   \
            }                                                                                    \
        }                                                                                        \
    }                                                                                            \
                                                                                                 \
    UE_TARGET static void UE_NAME(rows_of_##name)(const char *matrix, size_t rows, size_t depth, \
                                                  const float *const *x, size_t vectors,         \
                                                  float *const *y) {                             \
        float *at[4];                                                                            \
        for (size_t r = 0; r < rows;) {                                                          \
            const size_t step = vectors == 1 && rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;       \
            const char *row = matrix + r * depth * bytes;                                        \
            for (size_t v = 0; v < vectors; v++)                                                 \
                at[v] = y[v] + r;                                                                \
            if (step == 4)                                                                       \
                UE_NAME(dots_of_##name)(4, 1, row, depth, x, at);                                \
            else if (vectors == 4 && step == 2)                                                  \
                UE_NAME(dots_of_##name)(2, 4, row, depth, x, at);                                \
            else if (vectors == 4)                                                               \
                UE_NAME(dots_of_##name)(1, 4, row, depth, x, at);                                \
            else if (step == 2)                                                                  \
                UE_NAME(dots_of_##name)(2, 1, row, depth, x, at);                                \
            else                                                                                 \
                UE_NAME(dots_of_##name)(1, 1, row, depth, x, at);                                \
            r += step;                                                                           \
        }                                                                                        \
    }                                                                                            \
                                                                                                 \
    UE_TARGET static void UE_NAME(dots_##name)(const char *matrix, size_t rows, size_t depth,    \
                                               const float *const *x, size_t vectors,            \
                                               float *const *y) {                                \
        for (size_t v = 0; v < vectors;) {                                                       \
            const size_t step = vectors - v >= 4 ? 4 : 1;                                        \
            UE_NAME(rows_of_##name)(matrix, rows, depth, x + v, step, y + v);                    \
            v += step;                                                                           \
        }                                                                                        \
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

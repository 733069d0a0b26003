/*
 * Template: rows of a stored matrix times vectors. Every number of the matrix is read once, in the
 * order in which it lies in memory; what is computed on the way has to hide behind that.
 */
#define vload_f32(p, i) vload((const float *)(p) + (i))

/*
 * `rows` x `vectors` dot products, each as `parts` sums of every parts-th vector of numbers: enough
 * sums in flight to hide the latency of an addition.
 */
#define UE_DOTS(name, kind, bytes)                                                                \
    UE_TARGET static UE_INLINE void UE_NAME(dots_of_##name)(                                      \
        const size_t rows, const size_t vectors, const size_t parts, const char *matrix,          \
        size_t depth, const float *const *x, float *const *y, size_t row) {                       \
        UE_VEC sums[2][4][4];                                                                     \
        UE_UNROLL for (size_t i = 0; i < rows * vectors * parts; i++)                             \
            sums[i / parts / vectors][i / parts % vectors][i % parts] = vzero();                  \
        size_t k = 0;                                                                             \
        for (; k + parts * UE_WIDTH <= depth; k += parts * UE_WIDTH) {                            \
            UE_UNROLL for (size_t r = 0; r < rows; r++) {                                         \
                UE_UNROLL for (size_t p = 0; p < parts; p++) {                                    \
                    const size_t at = k + p * UE_WIDTH;                                           \
                    const UE_VEC stored = vload_##name(matrix + r * depth * bytes, at);           \
                    UE_UNROLL for (size_t v = 0; v < vectors; v++) {                              \
                        sums[r][v][p] = vfma(stored, vload(x[v] + at), sums[r][v][p]);            \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        for (size_t r = 0; r < rows; r++) {                                                       \
            for (size_t v = 0; v < vectors; v++) {                                                \
                float sum = 0.0f;                                                                 \
                for (size_t p = 0; p < parts; p++)                                                \
                    sum += vsum(sums[r][v][p]);                                                   \
                for (size_t rest = k; rest < depth; rest++)                                       \
                    sum += ue_widen(matrix + r * depth * bytes, rest, kind) * x[v][rest];         \
                y[v][row + r] = sum;                                                              \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    UE_TARGET static void UE_NAME(dots_##name)(const char *matrix, size_t rows, size_t depth,     \
                                               const float *const *x, size_t vectors,             \
                                               float *const *y) {                                 \
        const size_t fours = vectors / 4 * 4;                                                     \
        for (size_t v = 0; v < fours; v += 4)                                                     \
            for (size_t r = 0; r < rows; r += 2) {                                                \
                const char *from = matrix + r * depth * bytes;                                    \
                if (r + 1 < rows)                                                                 \
                    UE_NAME(dots_of_##name)(2, 4, 1, from, depth, x + v, y + v, r);               \
                else                                                                              \
                    UE_NAME(dots_of_##name)(1, 4, 1, from, depth, x + v, y + v, r);               \
            }                                                                                     \
        for (size_t v = fours; v < vectors; v++)                                                  \
            for (size_t r = 0; r < rows; r++)                                                     \
                UE_NAME(dots_of_##name)(1, 1, 4, matrix + r * depth * bytes, depth, x + v, y + v, \
                                        r);                                                       \
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

/* Floats of a file, which may lie at any address, to aligned float32. */
#ifndef UE_WIDEN_H
#define UE_WIDEN_H

#include <stdbool.h>
#include <stddef.h>

/* Exact; `dtype` is UE_DTYPE_F32, UE_DTYPE_F16 or UE_DTYPE_BF16, `bytes` little-endian. */
void ue_widen(float *out, const unsigned char *bytes, size_t count, unsigned dtype);

/* Whether `count` little-endian float32 are above 0, and neither infinite nor NaN. */
bool ue_all_positive(const unsigned char *bytes, size_t count);

#endif

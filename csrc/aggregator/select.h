/* The m largest of N scores, by selection. */
#ifndef UE_SELECT_H
#define UE_SELECT_H

#include <stddef.h>
#include <stdint.h>

enum { UE_SELECT_BINS = 2048 };

/* Bytes that selecting from `count` scores needs. */
static inline size_t ue_select_scratch(size_t count) {
    return (UE_SELECT_BINS + count) * sizeof(uint32_t);
}

/*
 * Write the indices of the `m` <= `count` largest scores to `kept`, ascending. Of equal scores (0
 * and -0 are equal) the lowest indices are taken. Time is linear in `count` for any scores; NaNs
 * count as beyond infinity, by sign. `scratch` has ue_select_scratch(count) bytes, aligned to 4.
 */
void ue_top_m(const float *scores, size_t count, size_t m, uint32_t *kept, void *scratch);

#endif

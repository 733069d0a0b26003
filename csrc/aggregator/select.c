#include "select.h"

#include <stdbool.h>
#include <string.h>

/* Unsigned integers in the order of the floats: negative ones turned over, positive ones on top. */
static inline uint32_t key_of(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
}

/* The m-th largest key, and how many that equal it belong to the m largest. */
struct cut {
    uint32_t key;
    size_t ties;
};

/*
 * Radix selection: 11, 11 and 10 bits from the top. After the first look the keys that share the
 * first bits of the cut are set apart, and only they are looked at again.
 */
static struct cut find_cut(const float *scores, size_t count, size_t m, uint32_t *counts) {
    static const unsigned shifts[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    uint32_t *keys = counts + UE_SELECT_BINS;
    struct cut cut = {0, m};
    for (size_t j = 0; j < count; j++)
        keys[j] = key_of(scores[j]);
    for (int level = 0; level < 3; level++) {
        const uint32_t last = (1u << bits[level]) - 1;
        uint32_t bin = last;
        size_t left = 0;
        memset(counts, 0, (last + 1) * sizeof *counts);
        for (size_t j = 0; j < count; j++)
            counts[keys[j] >> shifts[level] & last]++;
        for (; cut.ties > counts[bin]; bin--)
            cut.ties -= counts[bin];
        cut.key |= bin << shifts[level];
        for (size_t j = 0; j < count; j++) {
            keys[left] = keys[j];
            left += (keys[j] >> shifts[level] & last) == bin;
        }
        count = left;
    }
    return cut;
}

void ue_top_m(const float *scores, size_t count, size_t m, uint32_t *kept, void *scratch) {
    struct cut cut = {0, count}; /* everything */
    if (m < count)
        cut = find_cut(scores, count, m, scratch);
    for (size_t j = 0, found = 0; j < count && found < m; j++) {
        const uint32_t key = key_of(scores[j]);
        const bool tie = key == cut.key && cut.ties;
        kept[found] = (uint32_t)j; /* overwritten unless it counts: no branch to mispredict */
        found += key > cut.key || tie;
        cut.ties -= tie;
    }
}

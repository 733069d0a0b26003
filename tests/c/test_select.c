/* ue_top_m against sorting: random scores, ties, zeros of both signs, infinities, NaNs. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdbool.h>

#include "aggregator/select.h"
#include "check.h"

#ifndef ROUNDS
#define ROUNDS 2000
#endif
enum { MOST = 5000, KINDS = 6 };

struct entry {
    float score;
    uint32_t index;
};

/* Larger scores first; of equal ones (0 and -0 compare equal) the lower index. */
static int by_rank(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int by_index(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    return a->index < b->index ? -1 : a->index > b->index;
}

static float any_bits(void) {
    const uint32_t bits = random_bits();
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float score_of(int kind) {
    static const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e-45f, -1e-45f,
                                    1.0f, -1.0f, 3e38f,    -3e38f,    1e-38f};
    switch (kind) {
    case 0:
        return random_float(1.0f);
    case 1:
        return (float)random_below(5) - 2.0f;
    case 2:
        return special[random_below(sizeof special / sizeof special[0])];
    case 3:
        return 1.0f + (float)random_below(4) * 1.1920929e-7f; /* neighbours in the last bits */
    case 4:
        return random_bits() & 1 ? 0.0f : -0.0f;
    default:
        return any_bits();
    }
}

static void check_ascending(const uint32_t *kept, size_t m, size_t count) {
    for (size_t i = 0; i < m; i++) {
        CHECK(kept[i] < count, "index %u of %zu", (unsigned)kept[i], count);
        CHECK(!i || kept[i] > kept[i - 1], "kept[%zu] is not above its predecessor", i);
    }
}

static void compare(const float *scores, size_t count, size_t m) {
    struct entry *sorted = malloc(count * sizeof *sorted);
    uint32_t *kept = malloc(m * sizeof *kept), *scratch = malloc(ue_select_scratch(count));
    bool nan = false;
    CHECK(sorted && kept && scratch, "memory");
    for (size_t j = 0; j < count; j++) {
        sorted[j] = (struct entry){scores[j], (uint32_t)j};
        nan |= isnan(scores[j]) != 0;
    }
    ue_top_m(scores, count, m, kept, scratch);
    check_ascending(kept, m, count);
    if (!nan) { /* with NaNs there is no order to sort by */
        qsort(sorted, count, sizeof *sorted, by_rank);
        qsort(sorted, m, sizeof *sorted, by_index);
        for (size_t i = 0; i < m; i++)
            CHECK(kept[i] == sorted[i].index, "%zu of %zu: kept[%zu] is %u, not %u", m, count, i,
                  (unsigned)kept[i], (unsigned)sorted[i].index);
    }
    free(sorted);
    free(kept);
    free(scratch);
}

int main(void) {
    for (size_t round = 0; round < ROUNDS; round++) {
        const size_t count = 1 + random_below(round % 20 ? 100 : MOST);
        float *scores = malloc(count * sizeof *scores);
        CHECK(scores, "memory");
        for (int kind = 0; kind < KINDS; kind++) {
            for (size_t j = 0; j < count; j++)
                scores[j] = score_of(kind);
            compare(scores, count, 1);
            compare(scores, count, count);
            compare(scores, count, 1 + random_below(count));
        }
        free(scores);
    }
    return 0;
}

/* Fields by score: the best, or the worst, on top. Of equal ones the lowest number is best. */
#ifndef UE_HEAP_H
#define UE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ue_ranked {
    double score;
    uint32_t field;
};

struct ue_heap {
    struct ue_ranked *entries; /* entries[0] is on top */
    size_t count, room;
    bool best_first;
};

/* Whether `a` ranks before `b`: the canonical order of fields. */
static inline bool ue_better(struct ue_ranked a, struct ue_ranked b) {
    return a.score > b.score || (a.score == b.score && a.field < b.field);
}

/* The same for qsort. */
int ue_by_rank(const void *a, const void *b);

/* Make room for one more; false where memory runs out. */
bool ue_heap_reserve(struct ue_heap *heap);
/* Room must be there. */
void ue_heap_add(struct ue_heap *heap, struct ue_ranked entry);
/* Take the top away; there must be one. */
void ue_heap_pop(struct ue_heap *heap);

#endif

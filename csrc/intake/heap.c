/* A binary heap. */
#include "heap.h"

#include <stdlib.h>

int ue_by_rank(const void *a, const void *b) {
    const struct ue_ranked *left = a, *right = b;
    return ue_better(*left, *right) ? -1 : ue_better(*right, *left) ? 1 : 0;
}

static bool above(const struct ue_heap *heap, struct ue_ranked a, struct ue_ranked b) {
    return heap->best_first ? ue_better(a, b) : ue_better(b, a);
}

bool ue_heap_reserve(struct ue_heap *heap) {
    if (heap->count < heap->room)
        return true;
    const size_t room = heap->room ? 2 * heap->room : 64;
    struct ue_ranked *entries = realloc(heap->entries, room * sizeof *entries);
    if (!entries)
        return false;
    heap->entries = entries;
    heap->room = room;
    return true;
}

void ue_heap_add(struct ue_heap *heap, struct ue_ranked entry) {
    size_t at = heap->count++;
    while (at > 0 && above(heap, entry, heap->entries[(at - 1) / 2])) {
        heap->entries[at] = heap->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->entries[at] = entry;
}

void ue_heap_pop(struct ue_heap *heap) {
    const struct ue_ranked last = heap->entries[--heap->count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < heap->count) {
        if (child + 1 < heap->count && above(heap, heap->entries[child + 1], heap->entries[child]))
            child++;
        if (!above(heap, heap->entries[child], last))
            break;
        heap->entries[at] = heap->entries[child];
        at = child;
    }
    heap->entries[at] = last;
}

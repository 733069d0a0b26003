#include "slots.h"

#include <stdlib.h>

bool ue_slots_open(struct ue_slots *slots, size_t count) {
    slots->slots = calloc(count, sizeof *slots->slots);
    if (!slots->slots || ue_mutex_init(&slots->lock))
        return false;
    slots->usable = !ue_condition_init(&slots->freed);
    if (!slots->usable)
        ue_mutex_destroy(&slots->lock);
    slots->count = slots->usable ? count : 0;
    return slots->usable;
}

void ue_slots_close(struct ue_slots *slots) {
    if (slots->usable) {
        ue_condition_destroy(&slots->freed);
        ue_mutex_destroy(&slots->lock);
    }
    free(slots->slots);
    slots->slots = NULL;
}

static struct ue_slot *idle(const struct ue_slots *slots) {
    for (size_t k = 0; k < slots->count; k++)
        if (!slots->slots[k].busy)
            return &slots->slots[k];
    return NULL;
}

struct ue_slot *ue_slots_take(struct ue_slots *slots, void *handle) {
    struct ue_slot *slot;
    ue_lock(&slots->lock);
    const unsigned long before = slots->interrupts;
    while (!(slot = idle(slots)) && slots->interrupts == before)
        ue_wait(&slots->freed, &slots->lock);
    if (slots->interrupts != before)
        slot = NULL;
    else {
        slot->busy = true;
        slot->ended = false;
        slot->handle = handle ? handle : slot->handle;
    }
    ue_unlock(&slots->lock);
    return slot;
}

bool ue_slots_give(struct ue_slots *slots, struct ue_slot *slot) {
    ue_lock(&slots->lock);
    const bool ended = slot->ended;
    slot->busy = false;
    ue_wake_all(&slots->freed);
    ue_unlock(&slots->lock);
    return ended;
}

void ue_slots_interrupt(struct ue_slots *slots, void (*end)(void *engine, void *handle),
                        void *engine) {
    ue_lock(&slots->lock);
    slots->interrupts++;
    for (size_t k = 0; k < slots->count; k++)
        if (slots->slots[k].busy) {
            slots->slots[k].ended = true;
            end(engine, slots->slots[k].handle);
        }
    ue_wake_all(&slots->freed);
    ue_unlock(&slots->lock);
}

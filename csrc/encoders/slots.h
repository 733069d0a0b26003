/*
 * What runs of a model need each for themselves, a slot for each worker: handed out to threads, and
 * ended all at once by an interrupt.
 */
#ifndef UE_SLOTS_H
#define UE_SLOTS_H

/* Threads of POSIX are not C11's; so this header comes first. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>

#include "system/threads.h"

struct ue_slot {
    void *handle; /* the runtime's own */
    bool busy;
    bool ended; /* an interrupt came while it was busy */
};

struct ue_slots {
    ue_mutex lock;
    ue_condition freed;
    struct ue_slot *slots;
    size_t count;
    unsigned long interrupts; /* so far: whoever waits for a slot ends with it */
    bool usable;
};

/* False where memory runs out; ue_slots_close may be called all the same. */
bool ue_slots_open(struct ue_slots *slots, size_t count);
void ue_slots_close(struct ue_slots *slots);

/*
 * A slot that no other thread has; waits for one. `handle`, if given, is its new one, so that no
 * interrupt of an earlier run reaches this one. NULL: an interrupt came meanwhile.
 */
struct ue_slot *ue_slots_take(struct ue_slots *slots, void *handle);
/* Give it back; whether an interrupt came while it was busy. */
bool ue_slots_give(struct ue_slots *slots, struct ue_slot *slot);

/* Call `end` with the handle of each busy slot; none is given back meanwhile. */
void ue_slots_interrupt(struct ue_slots *slots, void (*end)(void *engine, void *handle),
                        void *engine);

#endif

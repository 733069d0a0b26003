/* Slots of an encoder: no two threads have one, and an interrupt ends whoever has or awaits one. */
#define _DEFAULT_SOURCE
#include "encoders/slots.h"

#include "check.h"

enum { SLOTS = 3, THREADS = 7, ROUNDS = 2000, INTERRUPTS = 200 };

static struct ue_slots slots;
static int used[SLOTS];       /* by whoever has the slot, without a lock: it must be one thread */
static int told[SLOTS];       /* the ends that its runs were told of; under the lock of the slots */
static unsigned long refused; /* under `counting`, as what follows */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static unsigned running = THREADS;

static void count(unsigned long *number) {
    pthread_mutex_lock(&counting);
    ++*number;
    pthread_mutex_unlock(&counting);
}

static void end_run(void *engine, void *handle) {
    CHECK(engine == &slots, "another engine");
    ++*(int *)handle;
}

static void *work(void *unused) {
    for (int round = 0; round < ROUNDS; round++) {
        struct ue_slot *slot = ue_slots_take(&slots, NULL);
        if (!slot) {
            count(&refused);
            continue;
        }
        const size_t which = (size_t)(slot - slots.slots);
        CHECK(slot->handle == &told[which], "another's handle");
        CHECK(used[which]++ == 0, "slot %zu is used twice", which);
        ue_yield();
        used[which]--;
        if (ue_slots_give(&slots, slot))
            count(&refused);
    }
    pthread_mutex_lock(&counting);
    running--;
    pthread_mutex_unlock(&counting);
    return unused;
}

static bool any_running(void) {
    pthread_mutex_lock(&counting);
    const bool any = running > 0;
    pthread_mutex_unlock(&counting);
    return any;
}

static void test_threads_share_them(void) {
    pthread_t threads[THREADS];
    for (size_t k = 0; k < THREADS; k++)
        CHECK(!pthread_create(&threads[k], NULL, work, NULL), "thread %zu", k);
    for (int k = 0; k < INTERRUPTS && any_running(); k++)
        ue_slots_interrupt(&slots, end_run, &slots);
    for (size_t k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
    unsigned long ends = 0;
    for (size_t k = 0; k < SLOTS; k++)
        ends += (unsigned long)told[k];
    CHECK(refused || !ends, "%lu ends, nobody refused", ends);
}

/* An interrupt is for the runs of its time alone, and for all of them. */
static void test_an_interrupt_is_for_the_runs_in_progress(void) {
    int fresh = 0;
    struct ue_slot *before = ue_slots_take(&slots, NULL);
    const int ends = *(int *)before->handle;
    ue_slots_interrupt(&slots, end_run, &slots);
    CHECK(*(int *)before->handle == ends + 1, "not told");
    struct ue_slot *after = ue_slots_take(&slots, &fresh);
    CHECK(before != after && after->handle == &fresh, "the slot is not the thread's own");
    CHECK(!ue_slots_give(&slots, after), "an interrupt of before reached it");
    CHECK(ue_slots_give(&slots, before), "the interrupt is not remembered");
    CHECK(fresh == 0, "told of an end of before");
}

int main(void) {
    CHECK(ue_slots_open(&slots, SLOTS), "no memory");
    for (size_t k = 0; k < SLOTS; k++)
        slots.slots[k].handle = &told[k];
    test_threads_share_them();
    test_an_interrupt_is_for_the_runs_in_progress();
    ue_slots_close(&slots);
    return 0;
}

/* Large aligned blocks. */
#ifndef UE_MEMORY_H
#define UE_MEMORY_H

#include <stddef.h>

enum { UE_ALIGNMENT = 64 };

/* NULL where memory runs out; freed by ue_free alone. */
void *ue_allocate(size_t bytes);
void ue_free(void *memory);

/*
 * A shelf for one block that is not in use, because taking fresh memory from the system costs more
 * than some passes over it. Any number of threads may take and give back at once. A shelf of zeroes
 * is empty.
 */
struct ue_shelf {
#if defined(__STDC_NO_ATOMICS__)
    void *nothing; /* and stays empty */
#else
    _Atomic(void *) block;
#endif
};

/* A block of at least `bytes`: the one on the shelf, if it has no more than twice that. Or NULL. */
void *ue_shelf_take(struct ue_shelf *shelf, size_t bytes);

/* Put a block that was taken there on the shelf; what lay on it is freed. NULL empties the shelf.
 */
void ue_shelf_return(struct ue_shelf *shelf, void *memory);

#endif

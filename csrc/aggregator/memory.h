/* Large aligned blocks, zeroed. */
#ifndef UE_MEMORY_H
#define UE_MEMORY_H

#include <stddef.h>

enum { UE_ALIGNMENT = 64 };

/* NULL where memory runs out; freed by ue_free_zeroed alone. */
void *ue_allocate_zeroed(size_t bytes);
void ue_free_zeroed(void *memory);

#endif

/* Large aligned blocks. */
#ifndef UE_MEMORY_H
#define UE_MEMORY_H

#include <stddef.h>

enum { UE_ALIGNMENT = 64 };

/* NULL where memory runs out; freed by ue_free alone. */
void *ue_allocate(size_t bytes);
void ue_free(void *memory);

#endif

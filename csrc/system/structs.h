/*
 * Structs of programs that were compiled with another version of the headers. Each begins with a
 * size_t, its size as that program knows it; versions add fields at the end.
 */
#ifndef UE_STRUCTS_H
#define UE_STRUCTS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Copy a caller's struct into ours of `size` bytes; what an older one lacks is zero. False for one
 * that is not possible, or newer than this version.
 */
bool ue_struct_read(void *ours, size_t size, const void *given);

/*
 * Copy ours into a caller's, as far as that reaches; its size then says how far that was. False for
 * one that is not possible.
 */
bool ue_struct_write(void *given, const void *ours, size_t size);

#endif

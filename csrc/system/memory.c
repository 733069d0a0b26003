/* posix_memalign and madvise are not C11's. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "memory.h"

#if !defined(__STDC_NO_ATOMICS__)
#include <stdatomic.h>
#endif
#include <stdint.h>
#include <stdlib.h>
#ifdef _WIN32
#include <malloc.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

void *ue_allocate(size_t bytes) {
    void *memory = NULL;
#ifdef _WIN32
    memory = _aligned_malloc(bytes, UE_ALIGNMENT);
#else
    enum { HUGE_PAGE = 2 << 20 };
    const size_t alignment = bytes < 2 * HUGE_PAGE ? UE_ALIGNMENT : HUGE_PAGE;
    if (bytes > SIZE_MAX / 2 || posix_memalign(&memory, alignment, bytes))
        return NULL;
#ifdef MADV_HUGEPAGE
    /* A wish: it fails where the kernel has no huge pages, and nothing is lost. */
    if (alignment == HUGE_PAGE)
        (void)madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
#endif
    return memory;
}

void ue_free(void *memory) {
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}

/* In front of a block of a shelf: its size. */
static size_t *size_of(void *memory) {
    return (size_t *)((char *)memory - UE_ALIGNMENT);
}

static void *exchange(struct ue_shelf *shelf, void *memory) {
#if defined(__STDC_NO_ATOMICS__)
    (void)shelf;
    return memory;
#else
    return atomic_exchange(&shelf->block, memory);
#endif
}

static void free_block(void *memory) {
    if (memory)
        ue_free(size_of(memory));
}

void *ue_shelf_take(struct ue_shelf *shelf, size_t bytes) {
    void *memory = exchange(shelf, NULL);
    if (memory && *size_of(memory) >= bytes && *size_of(memory) / 2 <= bytes)
        return memory;
    free_block(memory);
    memory = bytes < SIZE_MAX - UE_ALIGNMENT ? ue_allocate(bytes + UE_ALIGNMENT) : NULL;
    if (!memory)
        return NULL;
    memory = (char *)memory + UE_ALIGNMENT;
    *size_of(memory) = bytes;
    return memory;
}

void ue_shelf_return(struct ue_shelf *shelf, void *memory) {
    free_block(exchange(shelf, memory));
}

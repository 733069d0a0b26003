/* posix_memalign and madvise are not C11's. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "memory.h"

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
    if (alignment ==
        HUGE_PAGE) /* a wish: it fails where the kernel has none, and nothing is lost */
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

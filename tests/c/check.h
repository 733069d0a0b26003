/* What the C tests share: a failing check ends the program, random numbers, guarded memory. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

static uint64_t random_state = 0x9e3779b97f4a7c15u;

/* xorshift64*: Vigna, ACM TOMS 42(4), 2016. */
static inline uint32_t random_bits(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32);
}

static inline size_t random_below(size_t end) {
    return random_bits() % end;
}

static inline float random_float(float scale) {
    return scale * ((float)random_bits() / 2147483648.0f - 1.0f);
}

/* Bytes between two pages that may not be touched, up against the one or the other. */
struct guarded {
    uint8_t *map, *bytes;
    size_t map_size;
};

static inline struct guarded guarded_alloc(size_t size, int against_end) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (size + page - 1) / page * page;
    struct guarded block = {NULL, NULL, inner + 2 * page};
    block.map = mmap(NULL, block.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(block.map != MAP_FAILED, "mmap of %zu bytes", block.map_size);
    CHECK(mprotect(block.map + page, inner, PROT_READ | PROT_WRITE) == 0, "mprotect");
    block.bytes = block.map + page + (against_end ? inner - size : 0);
    return block;
}

static inline void guarded_free(struct guarded block) {
    munmap(block.map, block.map_size);
}

static inline void fill_random(uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)random_bits();
}

#endif

/* What fuzzers without an engine of their own share: inputs, and changes to them. */
#ifndef MUTATE_H
#define MUTATE_H

#include "check.h"

enum { LARGEST = 1 << 16 };

struct input {
    size_t size;
    uint8_t bytes[LARGEST];
};

/* What one kind of input is made of: words that mean something, and where changes matter. */
struct kind {
    const char *const *words;
    size_t count;
    size_t (*somewhere)(const struct input *input);
};

static inline void read_seed(struct input *seed, const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file, "%s", path);
    seed->size = fread(seed->bytes, 1, LARGEST, file);
    CHECK(seed->size && feof(file), "%s: empty or too large", path);
    fclose(file);
}

static inline void replace(struct input *input, size_t at, size_t cut, const void *with,
                           size_t length) {
    cut = cut > input->size - at ? input->size - at : cut;
    if (input->size - cut + length > LARGEST)
        return;
    memmove(input->bytes + at + length, input->bytes + at + cut, input->size - at - cut);
    memcpy(input->bytes + at, with, length);
    input->size += length - cut;
}

static inline void copy_piece(struct input *input, size_t from, size_t at) {
    uint8_t piece[64];
    const size_t left = input->size - from;
    const size_t length = random_below(left < sizeof piece ? left + 1 : sizeof piece);
    memcpy(piece, input->bytes + from, length);
    replace(input, at, random_below(64), piece, length);
}

static inline void mutate(struct input *input, const struct kind *kind) {
    const size_t at = kind->somewhere(input);
    const char *word = kind->words[random_below(kind->count)];
    switch (random_below(6)) {
    case 0:
        input->bytes[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        input->bytes[at] = (uint8_t)('0' + random_below(10));
        break;
    case 2:
        replace(input, at, random_below(4), word, strlen(word));
        break;
    case 3:
        copy_piece(input, kind->somewhere(input), at);
        break;
    case 4:
        replace(input, at, random_below(16), "", 0);
        break;
    default:
        input->size = random_below(16) ? input->size : at + 1;
    }
    input->size += input->size == 0; /* what is left of it: one byte */
}

#endif

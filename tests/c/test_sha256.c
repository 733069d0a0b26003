/*
 * Answers on standard output what the bytes of each case on standard input hash to: two numbers of
 * eight bytes, how long the case is and how many bytes to hash at once, and the bytes.
 */
#define _DEFAULT_SOURCE

#include "check.h"
#include "formats/sha256.h"

static void answer(const uint8_t *bytes, size_t size, size_t step) {
    struct ue_sha256 hash;
    char hex[UE_SHA256_HEX];
    ue_sha256_start(&hash);
    ue_sha256_add(&hash, NULL, 0);
    for (size_t at = 0; at < size; at += step)
        ue_sha256_add(&hash, bytes + at, size - at < step ? size - at : step);
    ue_sha256_finish(&hash, hex);
    puts(hex);
    fflush(stdout);
}

int main(void) {
    uint64_t head[2];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        CHECK(head[1], "no step");
        uint8_t *bytes = malloc(head[0] ? head[0] : 1); /* of this size: ASan sees one byte more */
        CHECK(bytes && fread(bytes, 1, head[0], stdin) == head[0], "a case is cut short");
        answer(bytes, head[0], head[1]);
        free(bytes);
    }
    return 0;
}

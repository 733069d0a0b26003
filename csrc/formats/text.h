/* A text that grows, and numbers in it: with a point between their digits in any locale. */
#ifndef UE_TEXT_H
#define UE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "system/error.h"

/* Zeroes are an empty text. `bytes` is NULL or ends in a NUL, which `length` does not count. */
struct ue_text {
    char *bytes;
    size_t length, room;
    bool broken; /* memory ran out: what was added since is lost */
};

void ue_text_add(struct ue_text *text, const char *bytes, size_t length);
/* The numbers of the format are whole; for others see below. */
UE_PRINTF(2, 3)
void ue_text_print(struct ue_text *text, const char *format, ...);
void ue_text_free(struct ue_text *text);

/* A number, to be printed as %s. */
struct ue_figure {
    char text[352]; /* the largest double in full has 309 digits */
};

/* As Python's format(value, f".{digits}g") and format(value, f".{digits}f"), at most 17 digits. */
struct ue_figure ue_general(double value, int digits);
struct ue_figure ue_fixed(double value, int digits);
/* The fewest digits that are read as the same double. */
struct ue_figure ue_exact(double value);
/* As format(count, ","). */
struct ue_figure ue_grouped(uint64_t count);

#endif

/* Inside the kernels: what a variant consists of, and how the running one is found. */
#ifndef UE_VARIANTS_H
#define UE_VARIANTS_H

#include <stdbool.h>

#include "score.h"
#include "system/instructions.h"
#include "unicas_edge.h"

/* What an affine map allows to be left out; every kind gives the bits that UE_GENERAL would. */
enum ue_kind {
    UE_GENERAL,
    UE_DIAGONAL, /* each channel from itself alone */
    UE_COPY,     /* the identity: bytes are only taken apart; rows exist for UE_UINT8 alone */
    UE_KINDS
};

enum { UE_DTYPES = 3 };

/* Maps `count` adjacent pixels into three planes that do not overlap them. */
typedef void (*ue_row_fn)(const uint8_t *pixels, size_t count, const float *affine, void *red,
                          void *green, void *blue);

/* Columns that one call of ue_measure_fn sums: few enough to count in 8 bits and sum in 16. */
enum { UE_STRIP = 224 };

/* One row of a strip, taken apart into planes, and the two green rows before it. */
struct ue_strip_row {
    const uint8_t *red, *green, *blue;
    const uint8_t *middle, *above; /* one and two rows up; NULL in the first two rows */
    size_t first, count;           /* pixels to count: the planes may begin one to the left */
    size_t inner_count;            /* pixels of `middle`, from the second, with four neighbours */
    uint8_t cellular_below, dark_below;
};

typedef void (*ue_measure_fn)(const struct ue_strip_row *row, ue_measures *sums);

/* Luma of adjacent pixels; levels of a band's blocks, from its luma [UE_BLOCK_SIDE][UE_BAND]. */
typedef void (*ue_luma_fn)(const uint8_t *pixels, size_t count, uint8_t *luma);
typedef void (*ue_transform_fn)(const uint8_t *luma, const struct ue_divisors *divisors,
                                struct ue_blocks *blocks);

struct ue_variant {
    const char *name;
    bool (*supported)(void);
    ue_row_fn rows[UE_DTYPES][UE_KINDS];
    ue_measure_fn measure;
    ue_luma_fn luma;
    ue_transform_fn transform;
};

/* What a variant is chosen for. */
enum ue_job { UE_MAP, UE_TAKE_APART, UE_MEASURE, UE_SCORE };

/* Normalising by a map of that kind. */
static inline enum ue_job ue_job_of(enum ue_kind kind) {
    return kind == UE_COPY ? UE_TAKE_APART : UE_MAP;
}

/* The variant of that name, or the best for the job for NULL; NULL if no such one runs here. */
const struct ue_variant *ue_find_variant(const char *name, enum ue_job job);

ue_status ue_check_image(const ue_image *image);

#endif

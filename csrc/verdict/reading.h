/* What the tokens of a slide's tiles show: each tile's own, and the slide's. */
#ifndef UE_READING_H
#define UE_READING_H

#include "knowledge.h"

struct ue_reading {
    size_t count;        /* tiles, in the order of their tokens */
    int32_t *kind;       /* [count]: which kind each shows */
    uint8_t *aggregated; /* [count]: whether it may carry a decision */
    double *distance;    /* [count]: Mahalanobis, over the root of the token's width */
    double *cells;       /* [count]: squamous cells; 0 for tiles that are not aggregated */
    double *octaves;     /* [count]: log2 of the um/px that the pixels show over that stated */
    size_t kinds;
    size_t *counts; /* [kinds]: how many tiles show each */
    size_t aggregated_count;
    double slide_distance; /* median of the aggregated tiles, of all if there are none; or NaN */
    double um_px_factor;   /* what to multiply the stated um/px by; NaN: no tile tells */
};

/* Read finite tokens float32 [count][width]; free it in any case. */
ue_status ue_read_tokens(struct ue_reading *reading, const struct ue_knowledge *knowledge,
                         const float *tokens, size_t count, struct ue_error *error);
void ue_reading_free(struct ue_reading *reading);

/* The median of numbers that may be put in another order; NaN for none. */
double ue_median(double *numbers, size_t count);

#endif

/* Inside the colour fit: the sample, and what the modes make of it. */
#ifndef UE_SAMPLE_H
#define UE_SAMPLE_H

#include "system/error.h"
#include "unicas_edge_colour.h"

struct ue_colour_sample {
    uint8_t (*pixels)[3];
    size_t count, room, most; /* pixels, those that memory is there for, at most */
    char warning[160];        /* of the last fit */
    struct ue_error error;
};

static inline uint8_t ue_darkest(const uint8_t rgb[3]) {
    const uint8_t low = rgb[0] < rgb[1] ? rgb[0] : rgb[1];
    return low < rgb[2] ? low : rgb[2];
}

static inline uint8_t ue_brightest(const uint8_t rgb[3]) {
    const uint8_t high = rgb[0] > rgb[1] ? rgb[0] : rgb[1];
    return high > rgb[2] ? high : rgb[2];
}

/* Fewer pixels tell nothing. */
enum { UE_LEAST_PIXELS = 256 };
/* Where a background lies that is bright but not clipped. */
#define UE_WHITE 245.0

/* Fill the matrix and return on how many pixels it was fitted; or 0, with a warning. */
size_t ue_white_balance(ue_colour_sample *sample, double matrix[12]);
size_t ue_reinhard(ue_colour_sample *sample, const double mean[3], const double std[3],
                   double matrix[12]);

#endif

/*
 * unicas_edge_colour.h: how a slide's colours are corrected, fitted on a sample of its pixels.
 *
 *     ue_colour_sample *sample; ue_colour colour = {.struct_size = sizeof colour};
 *     ue_colour_open(0, &sample);
 *     ue_colour_add(sample, &pixels, 256, 256, 4);   (for some 32 tiles from all over the slide)
 *     ue_colour_fit(sample, "reinhard", info.colour_mean, info.colour_std, &colour, NULL);
 *     options.colour = &colour;                      (of ue_session_open, which copies it)
 *     ue_colour_close(sample);
 *
 * `white-balance` makes the background neutral. `reinhard` brings the CIELAB mean and standard
 * deviation of tissue pixels to a target (Reinhard et al., IEEE CG&A 2001), as the least-squares
 * affine map of that correction on tissue, and on glass, which is kept neutral.
 *
 * A sample belongs to one thread at a time. The same pixels in the same order give the same bits on
 * one machine; on another, its C library's pow and cbrt may change the last ones.
 */
#ifndef UNICAS_EDGE_COLOUR_H
#define UNICAS_EDGE_COLOUR_H

#include "unicas_edge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A sample has at most as many pixels, of three bytes each. */
#define UE_MAX_SAMPLE 10000000

/* How a slide's colours are corrected: corrected = matrix [3][4] x (R, G, B, 1), in grey levels. */
typedef struct ue_colour {
    size_t struct_size; /* sizeof(ue_colour) of the caller */
    const char *mode;   /* what the result calls it: none, white-balance, reinhard, ... */
    double matrix[12];
    const char *warning; /* that the result repeats; NULL: none */
} ue_colour;

typedef struct ue_colour_sample ue_colour_sample;

/*
 * A sample for up to `most` pixels; 0: UE_MAX_SAMPLE. Memory is taken as they come. UE_BAD_SIZE for
 * more than that.
 */
UE_API ue_status ue_colour_open(size_t most, ue_colour_sample **sample);
/* NULL is allowed. */
UE_API void ue_colour_close(ue_colour_sample *sample);
/* The sentence of the last failure of a sample, empty where there was none, never NULL. */
UE_API const char *ue_colour_error(const ue_colour_sample *sample);

/*
 * Take in every step-th pixel of an image, along and down, from its corner on. UE_BAD_SIZE where
 * the sample would have too many, or the image none; then none is taken.
 */
UE_API ue_status ue_colour_add(ue_colour_sample *sample, const ue_pixels *pixels, size_t height,
                               size_t width, size_t step);

/*
 * Fill `colour` with the correction of a mode: none, white-balance, reinhard, or icc, which stays
 * what `none` is, for slides whose profile was applied when they were read. `mean` and `std` are
 * the target of reinhard in CIELAB, NULL or of zeros where there is none. A sample that does not
 * tell gives the identity and a warning, which is valid until the sample is closed or fitted again.
 * `used`, if given, is how many pixels were fitted on. UE_BAD_OPTIONS for an unknown mode, and for
 * reinhard without a target.
 */
UE_API ue_status ue_colour_fit(ue_colour_sample *sample, const char *mode, const double mean[3],
                               const double std[3], ue_colour *colour, size_t *used);

#ifdef __cplusplus
}
#endif

#endif

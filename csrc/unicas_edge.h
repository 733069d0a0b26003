/*
 * unicas_edge.h: the kernels of unicas-edge.
 *
 * Pixels: uint8 RGB, interleaved (HWC), origin top left. Rows lie `row_stride` bytes apart; the
 * stride may be larger than 3 * width (a crop of a larger image) or negative (a flipped one).
 *
 * Threads: every function may be called from any thread at any time. Nothing is allocated, printed
 * or aborted; a call that can fail returns a ue_status and then leaves its output untouched.
 *
 * Variants: each kernel exists once per instruction set. The best one that the processor can run is
 * chosen on first use. All variants give the same bits: floating point is multiplied and added in
 * one fixed order with no fused multiply-add, the rest is integer arithmetic. This holds for IEEE
 * 754 machines in the default rounding mode; denormals are not flushed unless the caller's thread
 * says so.
 */
#ifndef UNICAS_EDGE_H
#define UNICAS_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Neither side of an image may be longer: sums then stay far inside 64 bits. */
#define UE_MAX_SIDE 65535

/* Affine coefficients lie inside +-UE_MAX_COEFFICIENT: no result can overflow float32. */
#define UE_MAX_COEFFICIENT 1e30f

typedef enum ue_status {
    UE_OK = 0,
    UE_NULL_POINTER,    /* a pointer that is needed is NULL */
    UE_BAD_SIZE,        /* height or width is 0 or above UE_MAX_SIDE */
    UE_BAD_STRIDE,      /* channel_stride is smaller than height * width, or too large */
    UE_BAD_AFFINE,      /* a coefficient is not finite or too large */
    UE_BAD_DTYPE,       /* not one of ue_dtype */
    UE_MISALIGNED,      /* dst is not aligned to its element size */
    UE_NO_SUCH_VARIANT, /* no variant of that name runs on this processor */
    UE_NO_MEMORY,       /* an allocation failed */
    UE_BAD_OPTIONS,     /* struct_size or a field of an option struct is not possible */
    UE_BAD_FILE,        /* a file cannot be read, or is no safetensors file */
    UE_BAD_CONFIG,      /* the configuration in a file's metadata is missing or not possible */
    UE_BAD_WEIGHTS,     /* tensors do not fit the configuration */
    UE_BAD_TOKENS,      /* no tokens, a token that is not finite, or one that was never pushed */
    UE_OVERFLOW         /* the logits are not finite: tokens too large, or damaged weights */
} ue_status;

typedef enum ue_dtype {
    UE_FLOAT32 = 0,
    UE_FLOAT16 = 1, /* IEEE 754 binary16 bits, round to nearest even; overflow gives infinity */
    UE_UINT8 = 2    /* round to nearest, ties to even; saturated to 0..255 */
} ue_dtype;

/* An image that somebody else owns. */
typedef struct ue_image {
    const uint8_t *pixels; /* top left pixel */
    size_t height;
    size_t width;
    ptrdiff_t row_stride; /* bytes from one row to the next */
} ue_image;

/* What one pass over an image counts; all sums are exact. */
typedef struct ue_measures {
    uint64_t cellular;          /* pixels with min(R, G, B) < cellular_below */
    uint64_t dark;              /* pixels with max(R, G, B) < dark_below */
    uint64_t channel_sum[3];    /* of R, G, B over all pixels */
    int64_t laplacian_sum;      /* of G[y-1,x] + G[y+1,x] + G[y,x-1] + G[y,x+1] - 4 G[y,x] */
    uint64_t laplacian_squares; /* of its square; both over the interior, which is */
    uint64_t laplacian_count;   /* (height - 2) * (width - 2) pixels, 0 for a thin image */
} ue_measures;

/* A short text for a status, never NULL. */
const char *ue_status_text(ue_status status);

/* The name of the index-th variant that runs on this processor, best first; NULL past the last. */
const char *ue_variant_name(size_t index);

/*
 * Model input from pixels: planar (CHW) out, for every pixel and channel c
 *
 *     out[c] = ((affine[4c] * R + affine[4c + 1] * G) + affine[4c + 2] * B) + affine[4c + 3]
 *
 * in float32, each operation rounded, then converted to `dtype`. Coefficients of -0 count as +0, so
 * that zeros may be left out. The caller folds colour matrix M, mean and standard deviation into
 * `affine`: out = (M [R G B 1] / 255 - mean) / std. Nothing is clamped to 0..255 in between; that
 * is what keeps the map affine, and lets a model fold it into its patch embedding instead.
 *
 * `dst` has three planes of height * width elements, `channel_stride` elements apart, and does not
 * overlap the image. `variant` is a name from ue_variant_name, or NULL for the best.
 */
ue_status ue_normalise(const ue_image *image, const float affine[12], ue_dtype dtype, void *dst,
                       size_t channel_stride, const char *variant);

/* Focus and content of an image, in one pass. */
ue_status ue_measure(const ue_image *image, uint8_t cellular_below, uint8_t dark_below,
                     ue_measures *measures, const char *variant);

#ifdef __cplusplus
}
#endif

#endif

/*
 * unicas_edge.h: the kernels of unicas-edge; see unicas_edge_bundle.h for bundles,
 * unicas_edge_encoder.h for encoders.
 *
 * Pixels: uint8 RGB, interleaved (HWC), origin top left. Rows lie `row_stride` bytes apart; the
 * stride may be larger than 3 * width (a crop of a larger image) or negative (a flipped one).
 *
 * Nothing is ever printed or aborted; a call that can fail returns a ue_status. For the aggregator,
 * below, see there. The pixel kernels may be called from any thread at any time; they allocate
 * nothing, and leave their output untouched when they fail.
 *
 * Variants: each kernel exists once per instruction set. The fastest one that the processor can run
 * is chosen, for each kernel by itself. All variants of a pixel kernel give the same bits: floating
 * point is multiplied and added in one fixed order with no fused multiply-add, the rest is integer
 * arithmetic. This holds for IEEE 754 machines in the default rounding mode; denormals are not
 * flushed unless the caller's thread says so.
 */
#ifndef UNICAS_EDGE_H
#define UNICAS_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What a shared library exports: the functions marked with it, and nothing else. Define UE_STATIC
 * where the library is linked statically or compiled in; on Windows it has to be. UE_BUILDING is
 * for the build of the shared library itself.
 */
#if defined(UE_STATIC)
#define UE_API
#elif defined(_WIN32) && defined(UE_BUILDING)
#define UE_API __declspec(dllexport)
#elif defined(_WIN32)
#define UE_API __declspec(dllimport)
#elif defined(__GNUC__)
#define UE_API __attribute__((visibility("default")))
#else
#define UE_API
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
    UE_OVERFLOW,        /* the logits are not finite: tokens too large, or damaged weights */
    UE_BAD_TILE,        /* no tile of the grid, one that came before, or no score */
    UE_BUSY,            /* what is waited for has not happened yet: ask again */
    UE_ENDED,           /* the session is finished, cancelled, or another process's */
    UE_NO_RUNTIME,      /* an encoder's runtime is not installed, or lacks what is needed */
    UE_BAD_MODEL,       /* an encoder's model cannot be loaded, or is not what was expected */
    UE_RUN_FAILED,      /* an encoder's runtime failed to run its model */
    UE_BAD_BUNDLE,      /* a bundle's manifest breaks a rule, or its files are not those named */
    UE_BAD_SLIDE        /* a slide's pixels contradict what is stated of it */
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

/* Pixels of any layout: bytes from one row, pixel and channel to the next. */
typedef struct ue_pixels {
    const uint8_t *red; /* of the top left pixel */
    ptrdiff_t row_stride, pixel_stride, channel_stride;
} ue_pixels;

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
UE_API const char *ue_status_text(ue_status status);

/*
 * The version of unicas-edge, of which this library is a part: major, minor and patch as
 * (major << 16) + (minor << 8) + patch. A minor version only adds functions, and fields at the end
 * of structs. 0 where the sources were compiled by other means than CMakeLists.txt and setup.py and
 * UE_VERSION was not defined as that number.
 */
UE_API uint32_t ue_version(void);

/*
 * How many cores this process may keep busy, at least 1: the hyper-threads of one core count once,
 * the affinity mask and a container's CPU quota (cgroup v2, then v1) count. Where the system does
 * not say (Windows, macOS), every logical processor counts. Asks the system at every call.
 */
UE_API size_t ue_usable_cores(void);

/*
 * The name of the index-th variant that runs on this processor, best first; NULL past the last.
 * Some kernels are faster in a later one: ue_normalise_variant and ue_measure_variant name what
 * runs.
 */
UE_API const char *ue_variant_name(size_t index);

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
UE_API ue_status ue_normalise(const ue_image *image, const float affine[12], ue_dtype dtype,
                              void *dst, size_t channel_stride, const char *variant);

/* The variant that ue_normalise takes for NULL, NULL for a map or dtype that it would refuse. */
UE_API const char *ue_normalise_variant(const float affine[12], ue_dtype dtype);

/* Focus and content of an image, in one pass. */
UE_API ue_status ue_measure(const ue_image *image, uint8_t cellular_below, uint8_t dark_below,
                            ue_measures *measures, const char *variant);

/* The variant that ue_measure takes for NULL. */
UE_API const char *ue_measure_variant(void);

/*
 * The content score of an image: the bytes of its luma, round(0.299 R + 0.587 G + 0.114 B) with
 * halves up, as a baseline JPEG of quality 75 by libjpeg-turbo's fast DCT (ITU-T T.81 with the
 * tables of its Annex K; JFIF header). No JPEG is made. `pixels` may point at the crop of a tile.
 */
UE_API ue_status ue_content_score(const ue_pixels *pixels, size_t height, size_t width,
                                  double *score, const char *variant);

/* ---- the multi-task aggregator ------------------------------------------------------------------
 *
 * A bag of CLS tokens, float32 [n, embed_dim_in], becomes logits, float32 [tasks, most classes],
 * and each tile's share of a task's attention (UniCAS; Jiang et al., Cell Reports Medicine 2026).
 *
 *     ue_aggregator *aggregator; ue_bag *bag;
 *     ue_aggregator_open("aggregator.safetensors", NULL, &aggregator);
 *     ue_aggregator_bag(aggregator, 800, &bag);
 *     ue_aggregator_push(bag, 0, tokens, 8, 1024);   (as often as tokens arrive)
 *     ue_aggregator_arrange(bag, order, n);          (the tiles' canonical order)
 *     ue_aggregator_finish(bag, logits, NULL);
 *     ue_aggregator_free_bag(bag); ue_aggregator_destroy(aggregator);
 *
 * Threads: an aggregator is read-only once made; any number of threads may use it at once. A bag
 * belongs to one thread at a time; different bags may be used at the same time. The aggregator owns
 * a pool of threads; while one call uses it, others work alone, and so does a process made by fork.
 * Destroy an aggregator after its bags. Results do not depend on the number of threads.
 *
 * Variants agree within 1e-5 in every probability; one variant gives the same bits at every run.
 *
 * Errors: the sentence behind the last failure of an opening, or of a bag, is kept on its handle.
 * ue_aggregator_bag, which many threads may call, and a NULL argument leave none.
 *
 * To build: CMakeLists.txt makes a shared and a static library, and installs them with this header,
 * unicas_edge.pc for pkg-config and a package for CMake's find_package. Or compile every C file of
 * csrc into your program: -Icsrc -Icsrc/include -ffp-contract=off -DUE_STATIC, and -lm -pthread.
 */

/* A bag holds at most as many tokens. */
#define UE_MAX_TILES 1000000

typedef struct ue_aggregator ue_aggregator;
typedef struct ue_bag ue_bag;

typedef struct ue_aggregator_options {
    size_t struct_size;  /* sizeof(ue_aggregator_options) of the caller */
    size_t threads;      /* the caller's included; 0: ue_usable_cores() */
    const char *variant; /* of ue_aggregator_describe; NULL: the best that runs here */
} ue_aggregator_options;

typedef struct ue_aggregator_info {
    size_t struct_size; /* in: sizeof(ue_aggregator_info) of the caller */
    size_t embed_dim_in, embed_dim, depth, num_tasks, most_classes, threads;
    const char *variant;     /* of the kernels; valid as long as the aggregator */
    const char *experts;     /* how they are stored: fp32, fp16, bf16, int8, mixed */
    uint64_t stored_bytes;   /* of all weights in the file, which is read into memory */
    uint64_t prepared_bytes; /* of the aggregator's own memory */
} ue_aggregator_info;

/* Where the time of ue_aggregator_finish goes. */
typedef enum ue_aggregator_pass {
    UE_PASS_POSITIONS, /* PPEG */
    UE_PASS_QUERIES,   /* effective queries, and the task rows */
    UE_PASS_SCORES,    /* end of the block before, LayerNorm, scores */
    UE_PASS_SELECT,    /* top m, softmax, gather */
    UE_PASS_PROJECT,   /* values, and the kept rows through the tasks' experts */
    UE_PASS_ROUTE,     /* LayerNorm, slot logits, dispatch */
    UE_PASS_EXPERTS,
    UE_PASSES
} ue_aggregator_pass;

/*
 * An aggregator from a safetensors file, which is read whole (UTF-8 path), or from bytes in memory
 * that stay until it is destroyed. The configuration is the JSON under `config` in the metadata. On
 * failure *aggregator is a handle that ue_aggregator_error explains and ue_aggregator_destroy
 * takes, or NULL where even that could not be had.
 */
UE_API ue_status ue_aggregator_open(const char *path, const ue_aggregator_options *options,
                                    ue_aggregator **aggregator);
UE_API ue_status ue_aggregator_from_memory(const void *bytes, size_t size,
                                           const ue_aggregator_options *options,
                                           ue_aggregator **aggregator);
UE_API void ue_aggregator_destroy(ue_aggregator *aggregator);
UE_API const char *ue_aggregator_error(const ue_aggregator *aggregator);

/* Fill `info` as far as its struct_size reaches. */
UE_API ue_status ue_aggregator_describe(const ue_aggregator *aggregator, ue_aggregator_info *info);

/* The classes of a task, 0 for one that does not exist. */
UE_API size_t ue_aggregator_classes(const ue_aggregator *aggregator, size_t task);

/* The index-th variant of the aggregator's kernels that this processor runs, best first, or NULL.
 */
UE_API const char *ue_aggregator_variant(size_t index);

/*
 * A bag for up to `capacity` tokens. All memory that its passes need is taken here: about
 * 2.1 x capacity x embed_dim x 4 bytes and a constant (ue_aggregator_bag_bytes tells). The memory
 * of the bag freed last is kept for the next one, until the aggregator is destroyed.
 */
UE_API ue_status ue_aggregator_bag(ue_aggregator *aggregator, size_t capacity, ue_bag **bag);
UE_API size_t ue_aggregator_bag_bytes(const ue_bag *bag);
UE_API const char *ue_aggregator_bag_error(const ue_bag *bag);
UE_API void ue_aggregator_free_bag(ue_bag *bag);

/*
 * Put `count` tokens, `stride` floats apart (none is allowed), at the indices from `first` on, and
 * pass them through the first layer. What was there is replaced. A token that is not finite is
 * UE_BAD_TOKENS, and then none of the call's tokens is taken.
 */
UE_API ue_status ue_aggregator_push(ue_bag *bag, size_t first, const float *tokens, size_t count,
                                    size_t stride);

/* Say which `n` pushed tokens are the bag, in the tiles' canonical order; NULL: the first n. */
UE_API ue_status ue_aggregator_arrange(ue_bag *bag, const size_t *order, size_t n);

/*
 * Run the arranged tokens through the blocks. `logits` has [num_tasks][most_classes]; where tasks
 * differ in classes, shorter rows end in -inf. `seconds`, if given, is [UE_PASSES] and is added to.
 * A bag may be pushed to, arranged and finished again.
 */
UE_API ue_status ue_aggregator_finish(ue_bag *bag, float *logits, double *seconds);

/* Several bags of one aggregator at once: the experts' weights are read once for up to 16 bags. */
UE_API ue_status ue_aggregator_finish_many(ue_bag *const *bags, size_t count, float *const *logits,
                                           double *seconds);

/*
 * After finish: `attention` [num_tasks][n], each tile's share of a task's attention mass, averaged
 * over blocks and heads; rows sum to 1.
 */
UE_API ue_status ue_aggregator_explain(ue_bag *bag, float *attention);

/* After finish: the task tokens after each block, [depth][num_tasks][embed_dim]. */
UE_API ue_status ue_aggregator_task_tokens(ue_bag *bag, float *tokens);

#ifdef __cplusplus
}
#endif

#endif

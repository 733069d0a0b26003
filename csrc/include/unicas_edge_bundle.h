/*
 * unicas_edge_bundle.h: a model bundle: a folder with `bundle.json` and the files it names.
 *
 *     ue_bundle *bundle; ue_aggregator *aggregator;
 *     if (ue_bundle_open("model", &bundle))
 *         fputs(ue_bundle_error(bundle), stderr);
 *     ue_bundle_aggregator(bundle, NULL, &aggregator);
 *     ... ue_aggregator_destroy(aggregator); ue_bundle_close(bundle);
 *
 * Nothing in a bundle is executed, and nothing of it is trusted: the manifest has to hold every
 * rule of its schema, and every file the SHA-256 that the manifest says.
 *
 * Threads: a bundle is read-only once opened; any number of threads may use it at once.
 */
#ifndef UNICAS_EDGE_BUNDLE_H
#define UNICAS_EDGE_BUNDLE_H

#include "unicas_edge.h"
#include "unicas_edge_encoder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ue_bundle ue_bundle;

/* What is done to a slide's colours. */
typedef enum ue_bundle_colour {
    UE_COLOUR_NONE,
    UE_COLOUR_WHITE_BALANCE,
    UE_COLOUR_REINHARD /* to the target's mean and standard deviation */
} ue_bundle_colour;

/* Texts are UTF-8, valid as long as the bundle; one with U+0000 in it ends there. */
typedef struct ue_bundle_info {
    size_t struct_size; /* in: sizeof(ue_bundle_info) of the caller */
    const char *name, *version, *licence, *intended_use;
    const char *sha256;                   /* of bundle.json: it names the whole bundle */
    size_t tile_px, crop_px;              /* sides of a tile, and of what the encoder sees */
    size_t field_tiles, max_tiles;        /* a field's side; how many of a slide are seen */
    double um_px;                         /* at which tiles are cut */
    double mean[3], std[3];               /* of R, G, B from 0 to 1, before the encoder */
    double colour_mean[3], colour_std[3]; /* of the target in CIELAB; zeros: none */
    ue_dtype dtype;                       /* of what the encoder takes */
    ue_bundle_colour colour;              /* unless the user says otherwise */
    int32_t trained, demonstration;       /* 1 or 0; a demonstration is not for diagnosis */
    size_t width;                         /* numbers in a token */
    size_t tasks;
} ue_bundle_info;

/* A diagnosis. Its probability is that of class `positive` in softmax(logits / temperature). */
typedef struct ue_bundle_task {
    size_t struct_size; /* in: sizeof(ue_bundle_task) of the caller */
    const char *name;
    size_t classes, positive;
    double threshold, temperature; /* positive: a probability of at least `threshold` */
    size_t conformal_slides;       /* that the next three were taken from; 0: there are none */
    double conformal_coverage, positive_from, negative_to;
} ue_bundle_task;

/*
 * Open the bundle in a folder (UTF-8 path). Reads all its files, and keeps the aggregator's in
 * memory. UE_BAD_BUNDLE, naming file and key, where the manifest breaks its schema, and where a
 * file is missing, is no regular file, lies outside the folder, has another hash, or is being
 * written to; UE_BAD_FILE and UE_BAD_CONFIG where the aggregator's file is not what it must be. On
 * failure *bundle is a handle that ue_bundle_error explains and ue_bundle_close takes, or NULL
 * where even that could not be had.
 */
UE_API ue_status ue_bundle_open(const char *folder, ue_bundle **bundle);
/* Empty where it was opened well and is not known to have changed, never NULL. */
UE_API const char *ue_bundle_error(const ue_bundle *bundle);
UE_API void ue_bundle_close(ue_bundle *bundle);

/*
 * UE_BAD_BUNDLE where a file of the bundle changed since it was opened, and from then on always:
 * only a bundle that is opened anew can say what it runs. Looks at sizes and times, and reads a
 * file again only where these differ. Call it before a result is given out.
 */
UE_API ue_status ue_bundle_check_unchanged(const ue_bundle *bundle);

/* UE_BAD_OPTIONS for a struct_size that is not possible, and a bundle that was not opened. */
UE_API ue_status ue_bundle_describe(const ue_bundle *bundle, ue_bundle_info *info);
/* Of the index-th task; UE_BAD_OPTIONS past the last, too. */
UE_API ue_status ue_bundle_describe_task(const ue_bundle *bundle, size_t index,
                                         ue_bundle_task *task);
/* The name of a task's class; NULL past the last. */
UE_API const char *ue_bundle_class(const ue_bundle *bundle, size_t task, size_t index);

/*
 * Its aggregator, as ue_aggregator_from_memory makes one, of the very bytes that were hashed. Close
 * the bundle after it. UE_BAD_BUNDLE, and no handle, for a bundle that was not opened.
 */
UE_API ue_status ue_bundle_aggregator(const ue_bundle *bundle, const ue_aggregator_options *options,
                                      ue_aggregator **aggregator);

/* Which engine is to encode, and what it may take. Zeroes leave all of it open. */
typedef struct ue_bundle_engine {
    size_t struct_size; /* sizeof(ue_bundle_engine) of the caller */
    /*
     * onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt or openvino; fp32, bf16, fp16, int8w or
     * int8. NULL or "auto": the fastest that may screen, by what `unicas-edge doctor --measure`
     * found on this machine, else by what is usual.
     */
    const char *backend, *precision;
    const char *onnxruntime, *openvino; /* their libraries' paths or names; NULL: usual names */
    size_t threads, workers, batch;     /* as in ue_encoder_options */
    /* Bytes that all batches may take while they run; 0: a quarter of what is free, up to 1 GiB. */
    size_t memory;
    const char *speeds;       /* what doctor wrote; NULL: the file in the user's cache folder */
    int32_t allow_unverified; /* 1: take one that did not pass the bundle's gate, too */
} ue_bundle_engine;

/*
 * Open the bundle's encoder in an engine and precision that may screen. The reference, ONNX Runtime
 * in fp32 on the CPU, always may; anything else where the bundle holds evidence, made on a
 * processor of this one's kind, that passes the bundle's gate. A runtime is loaded only if it is
 * chosen, or to see whether it can be.
 *
 * The model's files are hashed again in the memory that they run from. Weights beside a model of
 * over 256 MiB, and those that a runtime takes as a file alone, are read where they lie: they must
 * not be touched while the encoder is open, which ue_bundle_check_unchanged sees.
 *
 * `wanted` NULL leaves everything open. encoder->struct_size as for ue_encoder_open_onnxruntime;
 * encoder->unverified says why it should not screen, where it was allowed all the same. The bundle
 * may be closed before the encoder. On failure the table is empty, and ue_encoder_error has the
 * sentence: UE_BAD_OPTIONS for an engine that there is not, that the bundle has no form for, or
 * that may not screen; UE_NO_RUNTIME for one that is not installed; UE_BAD_BUNDLE for a bundle that
 * was not opened, or whose files changed; UE_BAD_MODEL for a model that cannot be loaded.
 */
UE_API ue_status ue_bundle_encoder(const ue_bundle *bundle, const ue_bundle_engine *wanted,
                                   ue_encoder *encoder);

#ifdef __cplusplus
}
#endif

#endif

/*
 * unicas_edge_encoder.h: what turns tiles into tokens.
 *
 * An encoder is a table of functions. A host may fill one of its own; two are built in, which load
 * their runtime when they are opened and are linked with none: ONNX Runtime (1.18 or newer) and
 * OpenVINO (2025.0 or newer), by their C interfaces.
 *
 *     ue_encoder encoder = {.struct_size = sizeof encoder};
 *     ue_encoder_source source = {.struct_size = sizeof source, .path = "encoder.onnx",
 *                                 .crop = 220, .width = 384, .dtype = UE_FLOAT32,
 *                                 .precision = "fp32"};
 *     ue_encoder_open_onnxruntime(&source, NULL, &encoder);
 *     ue_encoder_encode(&encoder, planes, tokens);   (from up to encoder.workers threads at once)
 *     ue_encoder_close(&encoder);
 *
 * Errors: ue_encoder_error has the sentence of the calling thread's last failure.
 */
#ifndef UNICAS_EDGE_ENCODER_H
#define UNICAS_EDGE_ENCODER_H

#include "unicas_edge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No batch has more tiles, and no token more numbers; no encoder more workers or threads. */
#define UE_MAX_BATCH 4096
#define UE_MAX_TOKEN_WIDTH 65536
#define UE_MAX_WORKERS 1024

typedef struct ue_encoder {
    size_t struct_size; /* sizeof(ue_encoder) of whoever filled it; see the two openings */
    void *self;         /* what the functions below are called with */
    size_t batch;       /* tiles that are encoded together, always as many: pad the last batch */
    size_t crop;        /* side of what is seen of a tile, in pixels */
    size_t width;       /* numbers in a token */
    size_t workers;     /* threads that may encode at once */
    size_t threads;     /* how many it keeps busy in all */
    ue_dtype dtype;     /* of the planes */
    const char *name, *version, *precision, *device;
    const char *unverified; /* why it should not screen; NULL: it may */

    /*
     * Tokens float32 [batch][width] of planes [batch][3][crop][crop]. Called from `workers` threads
     * at once. The same tile gives the same bits in any row of any batch.
     */
    ue_status (*encode)(void *self, const void *planes, float *tokens);
    /* End the runs in progress, which then fail; from any thread. May be NULL. */
    void (*interrupt)(void *self);
    /* The sentence of the calling thread's last failure. May be NULL. */
    const char *(*error)(void *self);
    /* Free it, when no thread encodes any more. May be NULL. */
    void (*destroy)(void *self);
} ue_encoder;

/* A file that a model refers to, in memory: its name as the model has it. */
typedef struct ue_encoder_file {
    const char *name;
    const void *bytes;
    size_t size;
} ue_encoder_file;

/*
 * A model, and what it is expected to be. By its path (UTF-8; `.onnx`, or `.xml` of OpenVINO), and
 * then the runtime reads whatever files the model names beside it. Or from memory, and then it may
 * refer to `weights` alone, which is how to open a file that nobody vouches for. `bytes` are needed
 * until it is opened, `weights` until the encoder is closed.
 */
typedef struct ue_encoder_source {
    size_t struct_size; /* sizeof(ue_encoder_source) of the caller */
    const char *path;   /* with `bytes`: what errors call it; may then be NULL */
    const void *bytes;  /* of the model; NULL: read `path` */
    size_t size;
    const ue_encoder_file *weights; /* beside `bytes`; of an `.xml` exactly one, its `.bin` */
    size_t weights_count;
    size_t crop, width;    /* expected; see ue_encoder */
    ue_dtype dtype;        /* of the planes, expected */
    const char *precision; /* what it is to compute in: fp32, bf16, fp16, int8w or int8 */
} ue_encoder_source;

/* Zeroes stand for what is usual. */
typedef struct ue_encoder_options {
    size_t struct_size;   /* sizeof(ue_encoder_options) of the caller */
    const char *library;  /* the runtime's, a path or a name; NULL: its usual name */
    const char *provider; /* of ONNX Runtime: cpu, cuda, tensorrt or dml; NULL: cpu */
    size_t threads;       /* in all; 0: ue_usable_cores() */
    size_t workers;       /* threads that encode at once; 0: one a thread, as memory allows */
    size_t batch;         /* 0: what the model is made for, else up to 4, or 32 on a GPU */
    size_t memory;        /* bytes that all batches may take while they run; 0: 1 GiB */
} ue_encoder_options;

/*
 * Open a model. encoder->struct_size says how much of the table may be filled: sizeof(ue_encoder)
 * of the caller. On failure the table is empty, and ue_encoder_close may be called all the same.
 *
 * UE_NO_RUNTIME: the library, or its provider, is not there; UE_BAD_MODEL: it cannot load the
 * model, or that is not what was expected. Once loaded, a runtime stays in the process.
 * ONNX Runtime, which would send data from version 1.32 on, is told not to by its environment
 * variable ORT_DISABLE_TELEMETRY, unless the host set that.
 *
 * `unverified` is NULL for ONNX Runtime in fp32 on the CPU, which is the reference; where evidence
 * speaks for another, the host sets it to NULL itself, or lets ue_bundle_encoder weigh what a
 * bundle has (unicas_edge_bundle.h). On a GPU there is one worker.
 */
UE_API ue_status ue_encoder_open_onnxruntime(const ue_encoder_source *source,
                                             const ue_encoder_options *options,
                                             ue_encoder *encoder);

/* On the CPU; bf16 only where the processor has it, and fp16, which would be bf16 in truth, never.
 */
UE_API ue_status ue_encoder_open_openvino(const ue_encoder_source *source,
                                          const ue_encoder_options *options, ue_encoder *encoder);

/*
 * Call encoder->encode, of any table, and look at what it gave. UE_BAD_OPTIONS for a table that is
 * not possible, UE_BAD_TOKENS for a token that is not finite, UE_ENDED after an interrupt.
 */
UE_API ue_status ue_encoder_encode(const ue_encoder *encoder, const void *planes, float *tokens);

/* Destroy it, and empty the table. NULL and an empty table are allowed. */
UE_API void ue_encoder_close(ue_encoder *encoder);

/* The sentence of the calling thread's last failure here, never NULL. */
UE_API const char *ue_encoder_error(void);

#ifdef __cplusplus
}
#endif

#endif

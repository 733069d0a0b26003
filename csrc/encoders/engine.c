#include "engine.h"

#include <stdio.h>
#include <string.h>

#include "system/half.h"
#include "system/structs.h"

/* ---- what is asked for ----------------------------------------------------------------------- */

static const char *const precisions[] = {"fp32", "bf16", "fp16", "int8w", "int8"};

static const char *precision_of(const char *name) {
    for (size_t k = 0; name && k < sizeof precisions / sizeof *precisions; k++)
        if (!strcmp(name, precisions[k]))
            return precisions[k];
    return NULL;
}

static ue_status check_source(const ue_encoder_source *source) {
    if (!source->path && !source->bytes)
        return ue_encoder_fail(UE_NULL_POINTER, "no model: give its path, or its bytes");
    if ((source->bytes && !source->size) || (!source->bytes && source->weights_count) ||
        (source->weights_count && !source->weights))
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "weights go with a model's bytes; none may be empty");
    for (size_t k = 0; k < source->weights_count; k++)
        if (!source->weights[k].name || !source->weights[k].bytes || !source->weights[k].size)
            return ue_encoder_fail(UE_BAD_OPTIONS, "weights %zu have no name or no bytes", k);
    if (!source->crop || source->crop > UE_MAX_SIDE || !source->width ||
        source->width > UE_MAX_TOKEN_WIDTH || source->dtype > UE_UINT8)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "a crop of 1 to %d, a width of 1 to %d and a "
                               "ue_dtype are needed",
                               UE_MAX_SIDE, UE_MAX_TOKEN_WIDTH);
    return precision_of(source->precision)
               ? UE_OK
               : ue_encoder_fail(UE_BAD_OPTIONS,
                                 "the precision must be fp32, bf16, fp16, int8w or int8");
}

ue_status ue_engine_ask(const ue_encoder_source *source, const ue_encoder_options *options,
                        ue_encoder *encoder, struct ue_request *request) {
    const ue_encoder_options usual = {.struct_size = sizeof usual};
    if (!source || !encoder)
        return ue_encoder_fail(UE_NULL_POINTER, "a pointer is NULL");
    if (encoder->struct_size != sizeof *encoder)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "encoder->struct_size is not one that this version knows");
    *encoder = (ue_encoder){.struct_size = sizeof *encoder};
    options = options ? options : &usual;
    if (!ue_struct_read(&request->source, sizeof *source, source) ||
        !ue_struct_read(&request->options, sizeof *options, options))
        return ue_encoder_fail(UE_BAD_OPTIONS, "struct_size of the source or of the options is "
                                               "not one that this version knows");
    return check_source(&request->source);
}

bool ue_engine_is_xml(const ue_encoder_source *source) {
    return *(const char *)source->bytes == '<';
}

/* ---- the plan -------------------------------------------------------------------------------- */

enum { FINEST_PATCH = 14, USUAL_BATCH = 4, USUAL_GPU_BATCH = 32 };

/*
 * About what encoding one tile takes beside the weights: engines/base.py has the same, and says
 * why. In floating point, because no product may wrap.
 */
static double tile_bytes(double size, double width) {
    const double side = (double)(size_t)(size / FINEST_PATCH), tokens = side * side + 1;
    const double heads = width < 128 ? 1 : (double)(size_t)(width / 64);
    return 4 * (2 * 3 * size * size + 16 * tokens * width + 2 * tokens * tokens * heads);
}

static size_t clamp(double value, size_t least, size_t most) {
    return value<(double)least ? least : value>(double) most ? most : (size_t)value;
}

/* One worker a thread, fewer where memory does not hold a batch for each. */
static void plan_batches(struct ue_engine *engine, const ue_encoder_options *options, bool gpu) {
    const size_t threads = options->threads ? options->threads : gpu ? 1 : ue_usable_cores();
    const double memory = options->memory ? (double)options->memory : 1024.0 * 1024 * 1024;
    const double affordable = memory / tile_bytes((double)engine->crop, (double)engine->width);
    const double batches = affordable / (double)(options->batch ? options->batch : 1);
    const size_t most = threads < UE_MAX_WORKERS ? threads : UE_MAX_WORKERS;
    engine->workers = gpu ? 1 : options->workers ? options->workers : clamp(batches, 1, most);
    engine->threads_each = clamp((double)(threads / engine->workers), 1, threads);
    engine->batch = options->batch ? options->batch
                    : gpu          ? USUAL_GPU_BATCH
                                   : clamp(affordable / (double)engine->workers, 1, USUAL_BATCH);
}

ue_status ue_engine_plan(struct ue_engine *engine, const struct ue_request *request, bool gpu) {
    const ue_encoder_source *source = &request->source;
    const ue_encoder_options *options = &request->options;
    if (options->threads > UE_MAX_WORKERS || options->workers > UE_MAX_WORKERS ||
        options->batch > UE_MAX_BATCH)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "at most %d threads, as many workers, and batches "
                               "of %d",
                               UE_MAX_WORKERS, UE_MAX_BATCH);
    snprintf(engine->what, sizeof engine->what, "%s",
             source->path ? source->path : "the model in memory");
    engine->crop = source->crop;
    engine->width = source->width;
    engine->dtype = source->dtype;
    engine->precision = precision_of(source->precision);
    plan_batches(engine, options, gpu);
    const double bytes = 12.0 * (double)UE_MAX_BATCH * (double)engine->crop * (double)engine->crop;
    return bytes < (double)SIZE_MAX / 2
               ? UE_OK
               : ue_encoder_fail(UE_BAD_OPTIONS, "the crop is too large for this machine");
}

static void interrupt(void *self) {
    struct ue_engine *engine = self;
    if (!ue_engine_here(engine))
        ue_slots_interrupt(&engine->slots, engine->end_run, engine);
}

static const char *error(void *self) {
    (void)self;
    return ue_encoder_error();
}

void ue_engine_describe(struct ue_engine *engine, ue_encoder *encoder) {
    encoder->self = engine;
    encoder->interrupt = interrupt;
    encoder->error = error;
    encoder->batch = engine->batch;
    encoder->crop = engine->crop;
    encoder->width = engine->width;
    encoder->workers = engine->workers;
    encoder->threads = engine->workers * engine->threads_each;
    encoder->dtype = engine->dtype;
    encoder->version = engine->version;
    encoder->precision = engine->precision;
}

/* ---- the model ------------------------------------------------------------------------------- */

static const char *const dtypes[] = {"float32", "float16", "uint8"};

/* A port as a reader would write it: float32 [?, 3, 224, 224]. */
static void write_port(const struct ue_port *port, char text[160]) {
    int end = snprintf(text, 160, "%s [", port->dtype < 0 ? "another type" : dtypes[port->dtype]);
    for (size_t k = 0; k < port->rank && k < UE_PORT_DIMS; k++)
        end += port->dims[k] < 0 ? snprintf(text + end, 160 - (size_t)end, "%s?", k ? ", " : "")
                                 : snprintf(text + end, 160 - (size_t)end, "%s%lld", k ? ", " : "",
                                            (long long)port->dims[k]);
    snprintf(text + end, 160 - (size_t)end, port->rank > UE_PORT_DIMS ? ", ...]" : "]");
}

static bool fits(const struct ue_port *port, const size_t *wanted, size_t rank) {
    if (port->rank != rank)
        return false;
    for (size_t k = 1; k < rank; k++)
        if (port->dims[k] >= 0 && (uint64_t)port->dims[k] != wanted[k])
            return false;
    return true;
}

ue_status ue_engine_check(const struct ue_engine *engine, size_t inputs, size_t outputs,
                          const struct ue_port *in, const struct ue_port *out) {
    const size_t pixels[] = {0, 3, engine->crop, engine->crop}, token[] = {0, engine->width};
    char text[160];
    if (inputs != 1 || outputs != 1)
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: %zu inputs and %zu outputs, not one of each; "
                               "export the encoder alone",
                               engine->what, inputs, outputs);
    if (in->dtype != (int)engine->dtype || !fits(in, pixels, 4)) {
        write_port(in, text);
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: takes %s, not %s [batch, 3, %zu, %zu]; correct "
                               "the expected dtype or crop",
                               engine->what, text, dtypes[engine->dtype], engine->crop,
                               engine->crop);
    }
    if ((out->dtype != UE_FLOAT32 && out->dtype != UE_FLOAT16) || !fits(out, token, 2)) {
        write_port(out, text);
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: gives %s, not [batch, %zu]; correct the expected "
                               "width or export the CLS token alone",
                               engine->what, text, engine->width);
    }
    return UE_OK;
}

/* ---- a run ----------------------------------------------------------------------------------- */

ue_status ue_engine_here(const struct ue_engine *engine) {
    return engine->process == ue_process()
               ? UE_OK
               : ue_encoder_fail(UE_ENDED,
                                 "%s: the encoder is another process's; open it anew "
                                 "after the fork",
                                 engine->what);
}

void ue_engine_tokens(const struct ue_engine *engine, const void *given, ue_dtype dtype,
                      float *tokens) {
    const size_t count = engine->batch * engine->width;
    if (dtype == UE_FLOAT32)
        memcpy(tokens, given, count * sizeof *tokens);
    else
        for (size_t k = 0; k < count; k++)
            tokens[k] = ue_from_half(((const uint16_t *)given)[k]);
}

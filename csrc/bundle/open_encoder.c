/*
 * From a bundle and what is asked of the engine to an encoder that runs: engines/choice.py and
 * engines/opening.py do the same. No other file of the library needs this one, so that a program
 * that opens no encoder is not linked with any.
 */
#include <stdlib.h>
#include <string.h>

#include "encoders/find.h"
#include "encoders/said.h"
#include "vouched.h"
#include "model.h"
#include "speeds.h"
#include "system/machine.h"
#include "system/structs.h"

/* An encoder of a bundle: what a table's functions are called with. */
struct opened {
    ue_encoder inner;
    struct ue_model model;
    char unverified[sizeof((struct ue_choice *)0)->text];
};

/* What is asked, and what was found out for it. */
struct request {
    const ue_bundle *bundle;
    ue_bundle_engine wanted; /* whole: fields that the caller's lacks are 0 */
    struct ue_vouched evidence;
    struct ue_machine machine;
    char isa[UE_MACHINE_TEXT];
    struct ue_wish wish;
    struct ue_choice choice;
};

static ue_status no_memory(void) {
    return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
}

/* ---- what is asked --------------------------------------------------------------------------- */

static ue_status read_wanted(const ue_bundle_engine *given, ue_bundle_engine *wanted) {
    const ue_bundle_engine usual = {.struct_size = sizeof usual};
    if (!ue_struct_read(wanted, sizeof *wanted, given ? given : &usual))
        return ue_encoder_fail(UE_BAD_OPTIONS, "struct_size of what is wanted is not one that this "
                                               "version knows");
    return UE_OK;
}

static bool is_open(const char *name) {
    return !name || !strcmp(name, "auto");
}

static ue_status read_wish(const ue_bundle_engine *wanted, struct ue_wish *wish) {
    *wish = (struct ue_wish){UE_ANY, UE_ANY, wanted->allow_unverified != 0};
    if (!is_open(wanted->backend) && (wish->backend = ue_backend_of(wanted->backend)) < 0)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "unknown backend '%.64s'; there are: auto, onnxruntime, openvino, "
                               "onnxruntime-cuda, onnxruntime-tensorrt",
                               wanted->backend);
    if (!is_open(wanted->precision) && (wish->precision = ue_precision_of(wanted->precision)) < 0)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "unknown precision '%.64s'; there are: auto, fp32, bf16, fp16, "
                               "int8w, int8",
                               wanted->precision);
    return UE_OK;
}

static ue_status ask(const ue_bundle *bundle, const ue_bundle_engine *wanted,
                     const ue_encoder *encoder, struct request *request) {
    if (!bundle || !encoder)
        return ue_encoder_fail(UE_NULL_POINTER, "a pointer is NULL");
    if (encoder->struct_size != sizeof *encoder)
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "encoder->struct_size is not one that this version knows");
    if (!bundle->usable)
        return ue_encoder_fail(UE_BAD_BUNDLE, "the bundle was not opened: %s",
                               ue_bundle_error(bundle));
    const ue_status status = read_wanted(wanted, &request->wanted);
    return status ? status : read_wish(&request->wanted, &request->wish);
}

/* ---- the choice ------------------------------------------------------------------------------ */

static const char *provider_of(enum ue_backend backend) {
    return backend == UE_ONNXRUNTIME_CUDA       ? "cuda"
           : backend == UE_ONNXRUNTIME_TENSORRT ? "tensorrt"
                                                : NULL;
}

static ue_status find_runtime(const ue_bundle_engine *wanted, enum ue_backend backend) {
    return backend == UE_OPENVINO ? ue_openvino_find(wanted->openvino)
                                  : ue_onnxruntime_find(wanted->onnxruntime, provider_of(backend));
}

static void see_machine(struct request *request) {
    const struct ue_manifest *manifest = &request->bundle->manifest;
    ue_isa("", request->isa);
    request->machine.isa = request->isa;
    for (int backend = 0; backend < UE_BACKENDS; backend++)
        request->machine.has[backend] = true;
    ue_speeds_read(request->wanted.speeds,
                   ue_manifest_digest(manifest, manifest->encoder.file)->bytes,
                   request->machine.speed);
}

/*
 * Each runtime counts as installed until it would be taken, and is not there: the choice is then
 * made again without it. So what is chosen is the same as if all had been looked for, and none is
 * loaded that would not be.
 */
static ue_status choose_installed(struct request *request) {
    const char *root = request->bundle->shown.text;
    struct ue_choice *choice = &request->choice;
    for (;;) {
        const ue_status status =
            ue_choose(&request->evidence.forms, &request->machine, &request->wish, choice);
        bool *here = &request->machine.has[choice->chosen.backend];
        if (choice->chosen.sha256 && find_runtime(&request->wanted, choice->chosen.backend)) {
            if (!*here)
                return UE_NO_RUNTIME; /* and why was said just now */
            *here = false;
            continue;
        }
        if (!status)
            return UE_OK;
        return ue_encoder_fail(status, "%s: %s%s", root, choice->text,
                               choice->chosen.sha256 ? "; or set allow_unverified" : "");
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

static ue_status encode(void *self, const void *planes, float *tokens) {
    const struct opened *opened = self;
    return opened->inner.encode(opened->inner.self, planes, tokens);
}

static void interrupt(void *self) {
    const struct opened *opened = self;
    opened->inner.interrupt(opened->inner.self);
}

static const char *error(void *self) {
    const struct opened *opened = self;
    return opened->inner.error(opened->inner.self);
}

/* The weights go after the runtime, which may still look at them. */
static void destroy(void *self) {
    struct opened *opened = self;
    ue_encoder_close(&opened->inner);
    ue_model_free(&opened->model);
    free(opened);
}

static void fill(struct opened *opened, ue_encoder *encoder) {
    *encoder = opened->inner;
    encoder->self = opened;
    encoder->encode = encode;
    encoder->interrupt = interrupt;
    encoder->error = error;
    encoder->destroy = destroy;
    encoder->unverified = *opened->unverified ? opened->unverified : NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* As Python plans: a quarter of what is free. */
static size_t memory_of(const ue_bundle_engine *wanted) {
    const uint64_t most = (uint64_t)1 << 30, quarter = ue_available_bytes("") / 4;
    if (wanted->memory)
        return wanted->memory;
    return quarter > most ? (size_t)most : quarter ? (size_t)quarter : 1;
}

static ue_encoder_options options_of(const struct request *request) {
    const ue_bundle_engine *wanted = &request->wanted;
    const enum ue_backend backend = request->choice.chosen.backend;
    return (ue_encoder_options){
        .struct_size = sizeof(ue_encoder_options),
        .library = backend == UE_OPENVINO ? wanted->openvino : wanted->onnxruntime,
        .provider = provider_of(backend),
        .threads = wanted->threads,
        .workers = wanted->workers,
        .batch = wanted->batch,
        .memory = memory_of(wanted),
    };
}

static ue_encoder_source source_of(const struct request *request, const struct ue_model *model) {
    const struct ue_manifest *manifest = &request->bundle->manifest;
    return (ue_encoder_source){
        .struct_size = sizeof(ue_encoder_source),
        .path = model->path,
        .bytes = model->graph.bytes,
        .size = model->graph.size,
        .weights = model->in_place ? NULL : model->beside,
        .weights_count = model->in_place ? 0 : model->count,
        .crop = (size_t)manifest->tile.crop_px,
        .width = (size_t)manifest->encoder.width,
        .dtype = (ue_dtype)manifest->input.dtype,
        .precision = ue_precision_name(request->choice.chosen.precision),
    };
}

/* Let the runtime load the model. Its graph is then the runtime's own, its weights are shared. */
static ue_status load(const struct request *request, struct opened *opened) {
    const ue_encoder_source source = source_of(request, &opened->model);
    const ue_encoder_options options = options_of(request);
    ue_status status = ue_model_check(request->bundle, &opened->model);
    if (status)
        return status;
    status = request->choice.chosen.backend == UE_OPENVINO
                 ? ue_encoder_open_openvino(&source, &options, &opened->inner)
                 : ue_encoder_open_onnxruntime(&source, &options, &opened->inner);
    if (!status)
        status = ue_model_check(request->bundle, &opened->model);
    free(opened->model.graph.bytes);
    opened->model.graph = (struct ue_kept){NULL, 0};
    return status;
}

static ue_status open_chosen(const struct request *request, ue_encoder *encoder) {
    const struct ue_candidate chosen = request->choice.chosen;
    struct opened *opened = calloc(1, sizeof *opened);
    if (!opened)
        return no_memory();
    opened->inner.struct_size = sizeof opened->inner;
    if (request->choice.unverified)
        memcpy(opened->unverified, request->choice.text, sizeof opened->unverified);
    ue_status status = ue_model_read(
        request->bundle, ue_vouched_file(&request->evidence, &request->bundle->manifest, chosen),
        chosen.backend, &opened->model);
    if (!status)
        status = load(request, opened);
    if (status)
        destroy(opened);
    else
        fill(opened, encoder);
    return status;
}

ue_status ue_bundle_encoder(const ue_bundle *bundle, const ue_bundle_engine *wanted,
                            ue_encoder *encoder) {
    struct request *request = calloc(1, sizeof *request); /* too much for a thread's stack */
    if (!request)
        return no_memory();
    ue_status status = ask(bundle, wanted, encoder, request);
    if (!status) {
        *encoder = (ue_encoder){.struct_size = sizeof *encoder};
        request->bundle = bundle;
        ue_vouched_read(&request->evidence, &bundle->manifest);
        see_machine(request);
        status = choose_installed(request);
    }
    if (!status)
        status = open_chosen(request, encoder);
    free(request);
    return status;
}

/*
 * OpenVINO on the CPU: one compiled model serves every worker, each with a stream and a request of
 * its own. engines/openvino/engine.py gives it the same settings, and so gets the same bits.
 */
#include "openvino.h"

#include <stdlib.h>
#include <string.h>

#include "find.h"

static ue_status set_planes(const struct ue_openvino *own, ue_ov_handle *request,
                            const void *planes) {
    const struct ue_engine *engine = &own->engine;
    const int64_t crop = (int64_t)engine->crop;
    int64_t dims[] = {(int64_t)engine->batch, 3, crop, crop};
    ue_ov_handle *tensor = NULL;
    int failed = own->ov.wrap_tensor(own->elements[engine->dtype], (struct ue_ov_shape){4, dims},
                                     (void *)(uintptr_t)planes, &tensor);
    if (!failed)
        failed = own->ov.set_input(request, 0, tensor);
    const ue_status status = ue_openvino_check(own, failed, UE_RUN_FAILED);
    if (tensor)
        own->ov.free_tensor(tensor);
    return status;
}

static ue_status copy_tokens(const struct ue_openvino *own, const ue_ov_handle *tensor,
                             float *tokens) {
    const struct ue_engine *engine = &own->engine;
    size_t size = 0;
    int element = -1;
    void *bytes = NULL;
    int failed = own->ov.tensor_size(tensor, &size);
    if (!failed)
        failed = own->ov.tensor_element(tensor, &element);
    if (!failed)
        failed = own->ov.tensor_bytes(tensor, &bytes);
    const ue_status status = ue_openvino_check(own, failed, UE_RUN_FAILED);
    const ue_dtype dtype = element == own->elements[UE_FLOAT32] ? UE_FLOAT32 : UE_FLOAT16;
    const size_t numbers = size / (dtype == UE_FLOAT32 ? 4 : 2);
    if (!status && numbers != engine->batch * engine->width)
        return ue_encoder_fail(
            UE_BAD_MODEL,
            "%s: returned %zu numbers, not %zu x %zu; correct the expected width "
            "or export it again",
            engine->what, numbers, engine->batch, engine->width);
    if (!status)
        ue_engine_tokens(engine, bytes, dtype, tokens);
    return status;
}

static ue_status run(const struct ue_openvino *own, ue_ov_handle *request, const void *planes,
                     float *tokens) {
    ue_ov_handle *tensor = NULL;
    ue_status status = set_planes(own, request, planes);
    if (!status)
        status = ue_openvino_check(own, own->ov.infer(request), UE_RUN_FAILED);
    if (!status)
        status = ue_openvino_check(own, own->ov.get_output(request, 0, &tensor), UE_RUN_FAILED);
    if (!status)
        status = copy_tokens(own, tensor, tokens);
    if (tensor)
        own->ov.free_tensor(tensor);
    return status;
}

static ue_status encode(void *self, const void *planes, float *tokens) {
    struct ue_openvino *own = self;
    ue_status status = ue_engine_here(&own->engine);
    if (status)
        return status;
    struct ue_slot *slot = ue_slots_take(&own->engine.slots, NULL);
    if (slot)
        status = run(own, slot->handle, planes, tokens);
    if (!slot || ue_slots_give(&own->engine.slots, slot))
        status = ue_encoder_fail(UE_ENDED, "%s: the run was interrupted", own->engine.what);
    return status;
}

/* A request that has not begun is not cancelled; it runs, and its tokens are not given. */
static void end_run(void *engine, void *request) {
    const struct ue_openvino *own = engine;
    own->ov.cancel(request);
}

/* In a fork the runtime's threads are missing, and it would wait for them: it is left alone. */
static void destroy(void *self) {
    struct ue_openvino *own = self;
    if (!own || own->engine.process != ue_process())
        return;
    ue_openvino_release(own);
    free(own);
}

/* OpenVINO keeps no more threads busy than there are cores. */
static size_t threads_of(const struct ue_openvino *own) {
    char *text = NULL;
    const int failed = own->ov.compiled_property(own->compiled, "INFERENCE_NUM_THREADS", &text);
    const size_t threads = failed || !text ? 0 : strtoul(text, NULL, 10);
    if (text)
        own->ov.free_text(text);
    return threads ? threads : own->engine.workers * own->engine.threads_each;
}

static void fill(struct ue_openvino *own, ue_encoder *encoder) {
    own->engine.end_run = end_run;
    ue_engine_describe(&own->engine, encoder);
    encoder->name = "openvino";
    encoder->device = "cpu";
    encoder->threads = threads_of(own);
    encoder->unverified = "it is not the reference, ONNX Runtime in fp32 on the CPU, and no "
                          "evidence was looked at";
    encoder->encode = encode;
    encoder->destroy = destroy;
}

/*
 * Without VNNI a layer of widened int8 weights computes one row alone otherwise than two or more,
 * in the last bits.
 */
static void widen_batch(struct ue_engine *engine) {
    if (engine->batch < 2 && !strcmp(engine->precision, "int8w"))
        engine->batch = 2;
}

static ue_status open_model(struct ue_openvino *own, const struct ue_request *request) {
    const char *provider = request->options.provider;
    if (provider && strcmp(provider, "cpu"))
        return ue_encoder_fail(UE_BAD_OPTIONS, "OpenVINO runs on the CPU alone here");
    ue_status status = ue_engine_plan(&own->engine, request, false);
    if (!status && !strcmp(own->engine.precision, "fp16"))
        status = ue_encoder_fail(UE_BAD_OPTIONS,
                                 "%s: OpenVINO has no fp16 on a CPU, it would be "
                                 "bf16; use fp32 or bf16",
                                 own->engine.what);
    if (status)
        return status;
    widen_batch(&own->engine);
    return ue_openvino_start(own, request);
}

ue_status ue_encoder_open_openvino(const ue_encoder_source *source,
                                   const ue_encoder_options *options, ue_encoder *encoder) {
    struct ue_request request;
    ue_status status = ue_engine_ask(source, options, encoder, &request);
    if (status)
        return status;
    struct ue_openvino *own = calloc(1, sizeof *own);
    if (!own)
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    own->engine.process = ue_process();
    status = open_model(own, &request);
    if (status)
        destroy(own);
    else
        fill(own, encoder);
    return status;
}

ue_status ue_openvino_find(const char *library) {
    struct ue_openvino own = {.core = NULL};
    return ue_openvino_load(&own, library);
}

/*
 * ONNX Runtime: one session serves every worker. engines/onnxruntime.py gives it the same options,
 * and so gets the same bits.
 */
#include "onnxruntime.h"

#include <stdlib.h>
#include <string.h>

#include "find.h"

static const struct ue_provider providers[] = {
    {"cpu", "onnxruntime", "cpu", "CPUExecutionProvider", false},
    {"cuda", "onnxruntime-cuda", "cuda:0", "CUDAExecutionProvider", true},
    {"tensorrt", "onnxruntime-tensorrt", "cuda:0", "TensorrtExecutionProvider", true},
    {"dml", "onnxruntime-dml", "dml:0", "DmlExecutionProvider", true},
};

/* ---- a run ----------------------------------------------------------------------------------- */

static ue_status wrap_planes(const struct ue_onnxruntime *own, const void *planes,
                             ue_ort_handle **value) {
    static const size_t sizes[] = {4, 2, 1};
    static const int elements[] = {UE_ORT_FLOAT, UE_ORT_FLOAT16, UE_ORT_UINT8};
    const struct ue_engine *engine = &own->engine;
    const int64_t crop = (int64_t)engine->crop, dims[] = {(int64_t)engine->batch, 3, crop, crop};
    const size_t size = engine->batch * 3 * engine->crop * engine->crop * sizes[engine->dtype];
    return ue_onnxruntime_check(own,
                                own->ort.create_tensor(own->memory, (void *)(uintptr_t)planes, size,
                                                       dims, 4, elements[engine->dtype], value),
                                UE_RUN_FAILED);
}

static ue_status read_tokens(const struct ue_onnxruntime *own, ue_ort_handle *value,
                             float *tokens) {
    const struct ue_engine *engine = &own->engine;
    const struct ue_ort *ort = &own->ort;
    ue_ort_handle *tensor = NULL;
    struct ue_port port = {.dtype = -1};
    void *bytes = NULL;
    ue_ort_status failed = ort->tensor_of_value(value, &tensor);
    if (!failed)
        failed = ue_onnxruntime_tensor(ort, tensor, &port);
    if (!failed)
        failed = ort->tensor_bytes(value, &bytes);
    if (tensor)
        ort->release_tensor(tensor);
    const ue_status status = ue_onnxruntime_check(own, failed, UE_RUN_FAILED);
    if (status)
        return status;
    if (port.dtype < 0 || port.dtype == UE_UINT8 || port.rank != 2 ||
        port.dims[0] != (int64_t)engine->batch || port.dims[1] != (int64_t)engine->width)
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: returned [%lld, %lld], not floats [%zu, %zu]; correct "
                               "the expected width or export it again",
                               engine->what, (long long)port.dims[0], (long long)port.dims[1],
                               engine->batch, engine->width);
    ue_engine_tokens(engine, bytes, (ue_dtype)port.dtype, tokens);
    return UE_OK;
}

static ue_status run(struct ue_onnxruntime *own, const ue_ort_handle *options, const void *planes,
                     float *tokens) {
    const char *input = own->input, *output = own->output;
    ue_ort_handle *value = NULL, *made = NULL;
    ue_status status = wrap_planes(own, planes, &value);
    if (!status) {
        const ue_ort_handle *given = value;
        status = ue_onnxruntime_check(
            own, own->ort.run(own->session, options, &input, &given, 1, &output, 1, &made),
            UE_RUN_FAILED);
    }
    if (!status)
        status = read_tokens(own, made, tokens);
    if (value)
        own->ort.release_value(value);
    if (made)
        own->ort.release_value(made);
    return status;
}

/* Options of its own for each run: an interrupt marks them for good. */
static ue_status encode(void *self, const void *planes, float *tokens) {
    struct ue_onnxruntime *own = self;
    ue_ort_handle *options = NULL;
    ue_status status = ue_engine_here(&own->engine);
    if (!status)
        status = ue_onnxruntime_check(own, own->ort.create_run_options(&options), UE_RUN_FAILED);
    if (status)
        return status;
    struct ue_slot *slot = ue_slots_take(&own->engine.slots, options);
    if (slot)
        status = run(own, options, planes, tokens);
    if (!slot || ue_slots_give(&own->engine.slots, slot))
        status = ue_encoder_fail(UE_ENDED, "%s: the run was interrupted", own->engine.what);
    own->ort.release_run_options(options);
    return status;
}

static void end_run(void *engine, void *options) {
    const struct ue_onnxruntime *own = engine;
    ue_ort_status failed = own->ort.terminate(options);
    if (failed)
        own->ort.release_status(failed);
}

/* ---- opening and closing --------------------------------------------------------------------- */

/* In a fork the runtime's threads are missing, and it would wait for them: it is left alone. */
static void destroy(void *self) {
    struct ue_onnxruntime *own = self;
    if (!own || own->engine.process != ue_process())
        return;
    ue_onnxruntime_release(own);
    ue_slots_close(&own->engine.slots);
    free(own);
}

static const struct ue_provider *find_provider(const char *name) {
    for (size_t k = 0; k < sizeof providers / sizeof *providers; k++)
        if (!strcmp(name ? name : "cpu", providers[k].name))
            return &providers[k];
    return NULL;
}

static void fill(struct ue_onnxruntime *own, ue_encoder *encoder) {
    const bool reference = !own->provider->gpu && !strcmp(own->engine.precision, "fp32");
    own->engine.end_run = end_run;
    ue_engine_describe(&own->engine, encoder);
    encoder->name = own->provider->encoder;
    encoder->device = own->provider->device;
    encoder->unverified = reference ? NULL
                                    : "it is not the reference, ONNX Runtime in fp32 on the "
                                      "CPU, and no evidence was looked at";
    encoder->encode = encode;
    encoder->destroy = destroy;
}

ue_status ue_encoder_open_onnxruntime(const ue_encoder_source *source,
                                      const ue_encoder_options *options, ue_encoder *encoder) {
    struct ue_request request;
    ue_status status = ue_engine_ask(source, options, encoder, &request);
    if (status)
        return status;
    const struct ue_provider *provider = find_provider(request.options.provider);
    if (!provider)
        return ue_encoder_fail(UE_BAD_OPTIONS, "the provider must be cpu, cuda, tensorrt or dml");
    struct ue_onnxruntime *own = calloc(1, sizeof *own);
    if (!own)
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    own->provider = provider;
    own->engine.process = ue_process();
    status = ue_engine_plan(&own->engine, &request, provider->gpu);
    if (!status)
        status = ue_onnxruntime_start(own, &request);
    if (status)
        destroy(own);
    else
        fill(own, encoder);
    return status;
}

ue_status ue_onnxruntime_find(const char *library, const char *provider) {
    struct ue_onnxruntime own = {.provider = find_provider(provider)};
    return own.provider ? ue_onnxruntime_load(&own, library)
                        : ue_encoder_fail(UE_BAD_OPTIONS, "no such provider");
}

#include "openvino.h"

#include <stdio.h>
#include <string.h>

#include "library.h"
#include "named_files.h"

/* ---- the library ----------------------------------------------------------------------------- */

#if defined(_WIN32)
#define LIBRARY "openvino_c.dll"
#elif defined(__APPLE__)
#define LIBRARY "libopenvino_c.dylib"
#else
#define LIBRARY "libopenvino_c.so"
#endif

static ue_status no_runtime(const char *why) {
    return ue_encoder_fail(
        UE_NO_RUNTIME,
        "openvino: %s; install OpenVINO 2025.0 or newer, or give the path of its C library", why);
}

ue_status ue_openvino_check(const struct ue_openvino *own, int failed, ue_status status) {
    if (!failed)
        return UE_OK;
    const char *message = own->ov.last_message(), *text = message;
    if (!text || !*text)
        text = own->ov.status_text(failed);
    ue_encoder_fail(status, "%s: openvino %s: %s%s", own->engine.what, own->engine.version,
                    text ? text : "it does not say why",
                    status == UE_BAD_MODEL ? "; export it again" : "");
    if (message)
        own->ov.free_text(message);
    return status;
}

static ue_status load(struct ue_openvino *own, const char *name) {
    char why[512] = "";
    void *library = ue_library_open(name ? name : LIBRARY, why, sizeof why);
    if (!library)
        return no_runtime(why);
#define READ(result, name, symbol, arguments)                                            \
    own->ov.name = (result(UE_OV_CALL *) arguments)ue_library_function(library, symbol); \
    if (!own->ov.name)                                                                   \
        return no_runtime("the library is another one, or too old: it has no " symbol);
    UE_OV_FUNCTIONS(READ)
#undef READ
    return UE_OK;
}

/* Of "2026.4.1-12345-abc" what stands before the dash. */
static ue_status read_version(struct ue_openvino *own) {
    struct ue_ov_version found = {NULL, NULL};
    const ue_status status = ue_openvino_check(own, own->ov.version(&found), UE_NO_RUNTIME);
    if (!status && found.build)
        snprintf(own->engine.version, sizeof own->engine.version, "%.*s",
                 (int)strcspn(found.build, "-"), found.build);
    if (!status)
        own->ov.free_version(&found);
    return status;
}

ue_status ue_openvino_load(struct ue_openvino *own, const char *library) {
    const ue_status status = load(own, library);
    return status ? status : read_version(own);
}

/* The bytes of eight elements of a type; 0 for a number that is no type. */
static size_t bytes_of_eight(const struct ue_openvino *own, int element) {
    int64_t eight = 8;
    size_t size = 0;
    ue_ov_handle *tensor = NULL;
    if (own->ov.create_tensor(element, (struct ue_ov_shape){1, &eight}, &tensor))
        return 0;
    if (own->ov.tensor_size(tensor, &size))
        size = 0;
    own->ov.free_tensor(tensor);
    return size;
}

/*
 * The types' numbers moved between versions, their order did not: bf16, f16, f32, f64, i4, i8, ...
 * u8. So f32 is the first of four bytes, f16 stands before it, and u8 is the second of one byte
 * after it.
 */
static ue_status find_elements(struct ue_openvino *own) {
    enum { MOST = 40 };
    int float32 = 0, uint8 = 0;
    for (int k = 1, bytes = 0; k < MOST && !uint8; k++) {
        const size_t size = bytes_of_eight(own, k);
        if (!float32 && size == 32)
            float32 = k;
        else if (float32 && size == 8 && ++bytes == 2)
            uint8 = k;
    }
    if (!float32 || !uint8 || bytes_of_eight(own, float32 - 1) != 16)
        return no_runtime("its element types are unknown to this version of unicas-edge");
    own->elements[UE_FLOAT32] = float32;
    own->elements[UE_FLOAT16] = float32 - 1;
    own->elements[UE_UINT8] = uint8;
    return UE_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *end) {
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

/* Other formats, which OpenVINO knows by their names, might bring files along. */
static ue_status read_file(struct ue_openvino *own, const char *path) {
    if (!ends_in(path, ".onnx") && !ends_in(path, ".xml"))
        return ue_encoder_fail(UE_BAD_MODEL, "%s: is neither .onnx nor .xml; export the form again",
                               path);
    return ue_openvino_check(own, own->ov.read_file(own->core, path, NULL, &own->model),
                             UE_BAD_MODEL);
}

/* Of an .xml the weights are shared, not copied. */
static ue_status wrap_weights(struct ue_openvino *own, const ue_encoder_source *source) {
    if (source->weights_count != 1)
        return ue_encoder_fail(UE_BAD_OPTIONS, "%s: an .xml needs its .bin, and nothing else",
                               own->engine.what);
    int64_t size = (int64_t)source->weights->size;
    void *bytes = (void *)(uintptr_t)source->weights->bytes; /* only read */
    return ue_openvino_check(own,
                             own->ov.wrap_tensor(own->elements[UE_UINT8],
                                                 (struct ue_ov_shape){1, &size}, bytes,
                                                 &own->weights),
                             UE_BAD_MODEL);
}

static ue_status read_memory(struct ue_openvino *own, const ue_encoder_source *source) {
    ue_status status;
    if (ue_engine_is_xml(source))
        status = wrap_weights(own, source);
    else if (source->weights_count)
        status = ue_encoder_fail(UE_BAD_OPTIONS,
                                 "%s: OpenVINO reads the weights beside an ONNX file from files "
                                 "alone; give its path",
                                 own->engine.what);
    else
        status = ue_named_files_check(source, own->engine.what);
    return status ? status
                  : ue_openvino_check(own,
                                      own->ov.read_memory(own->core, source->bytes, source->size,
                                                          own->weights, &own->model),
                                      UE_BAD_MODEL);
}

static int dtype_of(const struct ue_openvino *own, int element) {
    for (int k = UE_FLOAT32; k <= UE_UINT8; k++)
        if (own->elements[k] == element)
            return k;
    return -1;
}

/* A shape of any rank has none that fits. */
static void read_shape(const struct ue_ov_partial_shape *shape, struct ue_port *port) {
    port->rank = shape->rank.least == shape->rank.most ? (size_t)shape->rank.least : 0;
    for (size_t k = 0; shape->dims && k < port->rank && k < UE_PORT_DIMS; k++)
        port->dims[k] = shape->dims[k].least == shape->dims[k].most ? shape->dims[k].least : -1;
}

static ue_status read_port(const struct ue_openvino *own, bool input, struct ue_port *port) {
    ue_ov_handle *node = NULL;
    struct ue_ov_partial_shape shape = {{0, 0}, NULL};
    int element = -1;
    *port = (struct ue_port){.dtype = -1};
    int failed = input ? own->ov.input(own->model, 0, &node) : own->ov.output(own->model, 0, &node);
    if (!failed)
        failed = own->ov.port_element(node, &element);
    if (!failed)
        failed = own->ov.port_shape(node, &shape);
    const ue_status status = ue_openvino_check(own, failed, UE_BAD_MODEL);
    if (!status) {
        port->dtype = dtype_of(own, element);
        read_shape(&shape, port);
        own->ov.free_partial_shape(&shape);
    }
    if (node)
        own->ov.free_port(node);
    return status;
}

static ue_status check_model(struct ue_openvino *own) {
    size_t inputs = 0, outputs = 0;
    struct ue_port in = {.dtype = -1}, out = {.dtype = -1};
    ue_status status =
        ue_openvino_check(own, own->ov.count_inputs(own->model, &inputs), UE_BAD_MODEL);
    if (!status)
        status = ue_openvino_check(own, own->ov.count_outputs(own->model, &outputs), UE_BAD_MODEL);
    if (!status && inputs == 1 && outputs == 1) {
        status = read_port(own, true, &in);
        status = status ? status : read_port(own, false, &out);
    }
    return status ? status : ue_engine_check(&own->engine, inputs, outputs, &in, &out);
}

/* Batches are of a fixed size: a dynamic one is compiled anew for every size it meets. */
static ue_status fix_batch(struct ue_openvino *own) {
    const int64_t batch = (int64_t)own->engine.batch, crop = (int64_t)own->engine.crop;
    struct ue_ov_range dims[] = {{batch, batch}, {3, 3}, {crop, crop}, {crop, crop}};
    return ue_openvino_check(
        own, own->ov.reshape(own->model, (struct ue_ov_partial_shape){{4, 4}, dims}), UE_BAD_MODEL);
}

/* ---- compiling ------------------------------------------------------------------------------- */

/* Whether a processor's list of what it can, words between blanks, has bf16. */
static ue_status need_bf16(const struct ue_openvino *own) {
    char *list = NULL;
    const ue_status status = ue_openvino_check(
        own, own->ov.core_property(own->core, "CPU", "OPTIMIZATION_CAPABILITIES", &list),
        UE_NO_RUNTIME);
    const bool has = list && strstr(list, "BF16");
    if (list)
        own->ov.free_text(list);
    return status || has ? status
                         : ue_encoder_fail(UE_BAD_OPTIONS,
                                           "%s: this processor has no bf16 arithmetic; use fp32",
                                           own->engine.what);
}

/*
 * int8w multiplies by weights that are widened, with activations quantised row by row in groups of
 * 64: no row sees another. Pinning is off because readers and other processes need the cores too.
 */
static ue_status compile(struct ue_openvino *own) {
    const bool bf16 = !strcmp(own->engine.precision, "bf16");
    const char *group = strcmp(own->engine.precision, "int8w") ? "0" : "64";
    const ue_status status = bf16 ? need_bf16(own) : UE_OK;
    char streams[24], threads[24];
    snprintf(streams, sizeof streams, "%zu", own->engine.workers);
    snprintf(threads, sizeof threads, "%zu", own->engine.workers * own->engine.threads_each);
    return status ? status
                  : ue_openvino_check(own,
                                      own->ov.compile(own->core, own->model, "CPU", 10,
                                                      &own->compiled, "INFERENCE_PRECISION_HINT",
                                                      bf16 ? "bf16" : "f32", "NUM_STREAMS", streams,
                                                      "INFERENCE_NUM_THREADS", threads,
                                                      "ENABLE_CPU_PINNING", "NO",
                                                      "DYNAMIC_QUANTIZATION_GROUP_SIZE", group),
                                      UE_BAD_MODEL);
}

static ue_status make_requests(struct ue_openvino *own) {
    struct ue_slots *slots = &own->engine.slots;
    if (!ue_slots_open(slots, own->engine.workers))
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    for (size_t k = 0; k < slots->count; k++) {
        ue_ov_handle *made = NULL;
        const ue_status status =
            ue_openvino_check(own, own->ov.create_request(own->compiled, &made), UE_NO_MEMORY);
        if (status)
            return status;
        slots->slots[k].handle = made;
    }
    return UE_OK;
}

ue_status ue_openvino_start(struct ue_openvino *own, const struct ue_request *request) {
    const ue_encoder_source *source = &request->source;
    ue_status status = ue_openvino_load(own, request->options.library);
    if (!status)
        status = find_elements(own);
    if (!status)
        status = ue_openvino_check(own, own->ov.create_core(&own->core), UE_NO_RUNTIME);
    if (!status)
        status = source->bytes ? read_memory(own, source) : read_file(own, source->path);
    if (!status)
        status = check_model(own);
    if (!status)
        status = fix_batch(own);
    if (!status)
        status = compile(own);
    return status ? status : make_requests(own);
}

void ue_openvino_release(struct ue_openvino *own) {
    struct ue_slots *slots = &own->engine.slots;
    for (size_t k = 0; slots->slots && k < slots->count; k++)
        if (slots->slots[k].handle)
            own->ov.free_request(slots->slots[k].handle);
    ue_slots_close(slots);
    if (own->compiled)
        own->ov.free_compiled(own->compiled);
    if (own->model)
        own->ov.free_model(own->model);
    if (own->weights)
        own->ov.free_tensor(own->weights);
    if (own->core)
        own->ov.free_core(own->core);
}

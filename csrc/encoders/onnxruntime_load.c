#include "onnxruntime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "named_files.h"

enum { FATAL = 4, DEVICE_ALLOCATOR = 0, DEFAULT_MEMORY = 0, MOST_WEIGHTS = 1000 };

ue_status ue_onnxruntime_check(const struct ue_onnxruntime *own, ue_ort_status failed,
                               ue_status status) {
    if (!failed)
        return UE_OK;
    ue_encoder_fail(status, "%s: %s %s: %s%s", own->engine.what, own->provider->encoder,
                    own->engine.version, own->ort.message(failed),
                    status == UE_BAD_MODEL ? "; export it again" : "");
    own->ort.release_status(failed);
    return status;
}

/* ---- the library ----------------------------------------------------------------------------- */

#if defined(_WIN32)
#define LIBRARY "onnxruntime.dll"
#elif defined(__APPLE__)
#define LIBRARY "libonnxruntime.dylib"
#else
#define LIBRARY "libonnxruntime.so.1"
#endif

static ue_status no_runtime(const char *why) {
    return ue_encoder_fail(UE_NO_RUNTIME,
                           "onnxruntime: %s; install ONNX Runtime 1.18 or newer, or "
                           "give the path of its library",
                           why);
}

/* A version that is too old is never asked for the table: it would print that it has none. */
static ue_status read_table(struct ue_onnxruntime *own, const struct ue_ort_base *base) {
    const char *version = base ? base->version() : NULL;
    unsigned major = 0, minor = 0;
    char why[128];
    if (!version || sscanf(version, "%u.%u", &major, &minor) != 2)
        return no_runtime("the library does not say its version");
    snprintf(own->engine.version, sizeof own->engine.version, "%s", version);
    void(UE_ORT_CALL *const *table)(void) =
        major == 1 && minor >= UE_ORT_VERSION ? base->table(UE_ORT_VERSION) : NULL;
    if (!table) {
        snprintf(why, sizeof why, "version %.32s lacks what is needed", version);
        return no_runtime(why);
    }
#define READ(place, result, name, arguments) \
    own->ort.name = (result(UE_ORT_CALL *) arguments)table[place];
    UE_ORT_FUNCTIONS(READ)
#undef READ
    return UE_OK;
}

/* Whether one of a list that was made when ONNX Runtime was built is the provider. */
static bool has_provider(const struct ue_onnxruntime *own) {
    char **names = NULL;
    int count = 0;
    bool found = false;
    ue_ort_status failed = own->ort.list_providers(&names, &count);
    for (int k = 0; !failed && k < count; k++)
        found = found || !strcmp(names[k], own->provider->own);
    if (!failed)
        failed = own->ort.free_providers(names, count);
    if (failed)
        own->ort.release_status(failed);
    return found;
}

/* ONNX Runtime sends data from version 1.32 on, unless this is set when it is loaded. */
static void send_nothing(void) {
    static const char name[] = "ORT_DISABLE_TELEMETRY";
#ifdef _WIN32
    if (!getenv(name))
        _putenv_s(name, "1");
#else
    setenv(name, "1", 0); /* what the host set stays */
#endif
}

static ue_status load(struct ue_onnxruntime *own, const char *name) {
    char why[512] = "";
    send_nothing();
    own->library = ue_library_open(name ? name : LIBRARY, why, sizeof why);
    if (!own->library)
        return no_runtime(why);
    typedef const struct ue_ort_base *(UE_ORT_CALL * get_base)(void);
    const get_base get = (get_base)ue_library_function(own->library, "OrtGetApiBase");
    return get ? read_table(own, get()) : no_runtime("the library is another one");
}

ue_status ue_onnxruntime_load(struct ue_onnxruntime *own, const char *library) {
    const ue_status status = load(own, library);
    if (status || !own->provider->gpu || has_provider(own)) /* every build has the CPU's */
        return status;
    return ue_encoder_fail(UE_NO_RUNTIME,
                           "%s: this ONNX Runtime %s has no %s; install a build for this machine "
                           "that has it, or use another engine",
                           own->provider->encoder, own->engine.version, own->provider->own);
}

/* ---- the session's options ------------------------------------------------------------------- */

static ue_status append_dml(struct ue_onnxruntime *own) {
    typedef ue_ort_status(UE_ORT_CALL * append)(ue_ort_handle *, int device);
    const append function =
        (append)ue_library_function(own->library, "OrtSessionOptionsAppendExecutionProvider_DML");
    return function ? ue_onnxruntime_check(own, function(own->options, 0), UE_NO_RUNTIME)
                    : no_runtime("this library has no DirectML");
}

/* The provider with its usual options; the CPU's is always there. */
static ue_status append_provider(struct ue_onnxruntime *own) {
    const struct ue_ort *ort = &own->ort;
    const bool cuda = !strcmp(own->provider->name, "cuda");
    ue_ort_handle *made = NULL;
    if (!own->provider->gpu)
        return UE_OK;
    if (!strcmp(own->provider->name, "dml"))
        return append_dml(own);
    ue_status status = ue_onnxruntime_check(
        own, cuda ? ort->create_cuda(&made) : ort->create_tensorrt(&made), UE_NO_RUNTIME);
    if (!status)
        status = ue_onnxruntime_check(own,
                                      cuda ? ort->append_cuda(own->options, made)
                                           : ort->append_tensorrt(own->options, made),
                                      UE_NO_RUNTIME);
    if (made && cuda)
        ort->release_cuda(made);
    else if (made)
        ort->release_tensorrt(made);
    return status;
}

/*
 * Threads do not spin while they wait (readers need the cores); memory patterns would take half as
 * much again for nothing; whatever the bytes look like, they are read as ONNX.
 */
static ue_status set_options(struct ue_onnxruntime *own) {
    const struct ue_ort *ort = &own->ort;
    ue_ort_handle **options = &own->options;
    ue_ort_status failed = ort->create_session_options(options);
    if (!failed)
        failed = ort->set_threads_within(*options, (int)own->engine.threads_each);
    if (!failed)
        failed = ort->set_threads_between(*options, 1);
    if (!failed)
        failed = ort->set_log_level(*options, FATAL);
    if (!failed)
        failed = ort->disable_memory_pattern(*options);
    if (!failed)
        failed = ort->set_entry(*options, "session.intra_op.allow_spinning", "0");
    if (!failed)
        failed = ort->set_entry(*options, "session.load_model_format", "ONNX");
    const ue_status status = ue_onnxruntime_check(own, failed, UE_NO_RUNTIME);
    return status ? status : append_provider(own);
}

/* ---- the model ------------------------------------------------------------------------------- */

/* A name or path as ONNX Runtime takes them, to be freed. */
static ue_ort_path *path_of(const char *text) {
#ifdef _WIN32
    return ue_library_wide(text);
#else
    const size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
#endif
}

static ue_status add_weights(struct ue_onnxruntime *own, const ue_encoder_source *source) {
    const size_t count = source->weights_count;
    ue_ort_path *names[MOST_WEIGHTS] = {NULL};
    char *bytes[MOST_WEIGHTS] = {NULL};
    size_t sizes[MOST_WEIGHTS] = {0}, named = 0;
    if (count > MOST_WEIGHTS || !strcmp(own->provider->name, "tensorrt"))
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "%s: give its path: weights in memory are at most "
                               "%d files, and TensorRT takes none",
                               own->engine.what, MOST_WEIGHTS);
    for (; named < count && (names[named] = path_of(source->weights[named].name)); named++) {
        bytes[named] = (char *)(uintptr_t)source->weights[named].bytes; /* only read */
        sizes[named] = source->weights[named].size;
    }
    const ue_status status =
        named < count ? ue_encoder_fail(UE_NO_MEMORY, "not enough memory, or a name is not UTF-8")
                      : ue_onnxruntime_check(own,
                                             own->ort.add_weights(own->options,
                                                                  (const ue_ort_path *const *)names,
                                                                  bytes, sizes, count),
                                             UE_BAD_MODEL);
    while (named)
        free(names[--named]);
    return status;
}

static ue_status load_file(struct ue_onnxruntime *own, const char *path) {
    ue_ort_path *name = path_of(path);
    if (!name)
        return ue_encoder_fail(UE_NO_MEMORY, "%s: no memory, or it is not UTF-8", path);
    const ue_status status = ue_onnxruntime_check(
        own, own->ort.create_session(own->env, name, own->options, &own->session), UE_BAD_MODEL);
    free(name);
    return status;
}

static ue_status load_model(struct ue_onnxruntime *own, const ue_encoder_source *source) {
    ue_status status = UE_OK;
    if (!source->bytes)
        return load_file(own, source->path);
    if (source->weights_count)
        status = add_weights(own, source);
    if (!status)
        status = ue_named_files_check(source, own->engine.what);
    return status ? status
                  : ue_onnxruntime_check(
                        own,
                        own->ort.create_session_from_memory(own->env, source->bytes, source->size,
                                                            own->options, &own->session),
                        UE_BAD_MODEL);
}

static int dtype_of(int element) {
    return element == UE_ORT_FLOAT     ? UE_FLOAT32
           : element == UE_ORT_FLOAT16 ? UE_FLOAT16
           : element == UE_ORT_UINT8   ? UE_UINT8
                                       : -1;
}

ue_ort_status ue_onnxruntime_tensor(const struct ue_ort *ort, const ue_ort_handle *tensor,
                                    struct ue_port *port) {
    int element = 0;
    *port = (struct ue_port){.dtype = -1};
    if (!tensor) /* a sequence or a map */
        return NULL;
    ue_ort_status failed = ort->element_of(tensor, &element);
    if (!failed)
        failed = ort->rank_of(tensor, &port->rank);
    if (!failed && port->rank <= UE_PORT_DIMS)
        failed = ort->dims_of(tensor, port->dims, port->rank);
    port->dtype = dtype_of(element);
    return failed;
}

static ue_status read_port(const struct ue_onnxruntime *own, bool input, struct ue_port *port) {
    const struct ue_ort *ort = &own->ort;
    ue_ort_handle *type = NULL;
    const ue_ort_handle *tensor = NULL;
    ue_ort_status failed =
        input ? ort->input_type(own->session, 0, &type) : ort->output_type(own->session, 0, &type);
    if (!failed)
        failed = ort->tensor_of_type(type, &tensor);
    if (!failed)
        failed = ue_onnxruntime_tensor(ort, tensor, port);
    const ue_status status = ue_onnxruntime_check(own, failed, UE_BAD_MODEL);
    if (type)
        ort->release_type(type);
    return status;
}

/* A batch that is fixed in the model is taken over. */
static ue_status take_batch(struct ue_engine *engine, int64_t fixed, size_t asked) {
    if (fixed < 0)
        return UE_OK;
    if (!fixed || fixed > UE_MAX_BATCH || (asked && asked != (uint64_t)fixed))
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: is made for batches of %lld, not %zu; leave the "
                               "batch at 0",
                               engine->what, (long long)fixed, asked);
    engine->batch = (size_t)fixed;
    return UE_OK;
}

static ue_status check_model(struct ue_onnxruntime *own, size_t asked) {
    const struct ue_ort *ort = &own->ort;
    size_t inputs = 0, outputs = 0;
    struct ue_port in = {.dtype = -1}, out = {.dtype = -1};
    ue_status status =
        ue_onnxruntime_check(own, ort->count_inputs(own->session, &inputs), UE_BAD_MODEL);
    if (!status)
        status =
            ue_onnxruntime_check(own, ort->count_outputs(own->session, &outputs), UE_BAD_MODEL);
    if (!status && inputs == 1 && outputs == 1) {
        status = read_port(own, true, &in);
        status = status ? status : read_port(own, false, &out);
    }
    if (!status)
        status = ue_engine_check(&own->engine, inputs, outputs, &in, &out);
    if (!status)
        status = take_batch(&own->engine, in.dims[0], asked);
    if (!status)
        status = ue_onnxruntime_check(
            own, ort->input_name(own->session, 0, own->allocator, &own->input), UE_BAD_MODEL);
    return status ? status
                  : ue_onnxruntime_check(
                        own, ort->output_name(own->session, 0, own->allocator, &own->output),
                        UE_BAD_MODEL);
}

/* ---- opening and closing --------------------------------------------------------------------- */

ue_status ue_onnxruntime_start(struct ue_onnxruntime *own, const struct ue_request *request) {
    const struct ue_ort *ort = &own->ort;
    ue_status status = ue_onnxruntime_load(own, request->options.library);
    if (!status)
        status = ue_onnxruntime_check(own, ort->create_env(FATAL, "unicas-edge", &own->env),
                                      UE_NO_RUNTIME);
    if (!status)
        status = ue_onnxruntime_check(own, ort->usual_allocator(&own->allocator), UE_NO_RUNTIME);
    if (!status)
        status = ue_onnxruntime_check(
            own, ort->create_cpu_memory(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &own->memory),
            UE_NO_RUNTIME);
    if (!status)
        status = set_options(own);
    if (!status)
        status = load_model(own, &request->source);
    if (!status)
        status = check_model(own, request->options.batch);
    if (!status && !ue_slots_open(&own->engine.slots, own->engine.workers))
        status = ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    return status;
}

static void free_name(const struct ue_onnxruntime *own, char *name) {
    ue_ort_status failed = name ? own->ort.free_name(own->allocator, name) : NULL;
    if (failed)
        own->ort.release_status(failed);
}

void ue_onnxruntime_release(struct ue_onnxruntime *own) {
    const struct ue_ort *ort = &own->ort;
    free_name(own, own->input);
    free_name(own, own->output);
    if (own->session)
        ort->release_session(own->session);
    if (own->options)
        ort->release_session_options(own->options);
    if (own->memory)
        ort->release_memory(own->memory);
    if (own->env)
        ort->release_env(own->env);
}

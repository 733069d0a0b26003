/*
 * ONNX Runtime: one session serves every worker. engines/onnxruntime.py gives it the same options,
 * and so gets the same bits.
 */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"
#include "named_files.h"
#include "onnxruntime_api.h"

enum { FATAL = 4, DEVICE_ALLOCATOR = 0, DEFAULT_MEMORY = 0, MOST_WEIGHTS = 1000 };

struct provider {
    const char *name, *encoder, *device;
    bool gpu;
};

static const struct provider providers[] = {
    {"cpu", "onnxruntime", "cpu", false},
    {"cuda", "onnxruntime-cuda", "cuda:0", true},
    {"tensorrt", "onnxruntime-tensorrt", "cuda:0", true},
    {"dml", "onnxruntime-dml", "dml:0", true},
};

struct session {
    struct ue_engine engine; /* first: both have one address */
    struct ue_ort ort;
    void *library;
    const struct provider *provider;
    ue_ort_handle *env, *options, *handle, *memory, *allocator;
    char *input, *output; /* names */
};

/* UE_OK, or what ONNX Runtime says is wrong, which is freed. */
static ue_status check(const struct session *session, ue_ort_status failed, ue_status status) {
    if (!failed)
        return UE_OK;
    ue_encoder_fail(status, "%s: %s %s: %s%s", session->engine.what, session->provider->encoder,
                    session->engine.version, session->ort.message(failed),
                    status == UE_BAD_MODEL ? "; export it again" : "");
    session->ort.release_status(failed);
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
                           "give its library's path in options.library",
                           why);
}

/* A version that is too old is never asked for the table: it would print that it has none. */
static ue_status read_table(struct session *session, const struct ue_ort_base *base) {
    const char *version = base ? base->version() : NULL;
    unsigned major = 0, minor = 0;
    char why[128];
    if (!version || sscanf(version, "%u.%u", &major, &minor) != 2)
        return no_runtime("the library does not say its version");
    snprintf(session->engine.version, sizeof session->engine.version, "%s", version);
    void(UE_ORT_CALL *const *table)(void) =
        major == 1 && minor >= UE_ORT_VERSION ? base->table(UE_ORT_VERSION) : NULL;
    if (!table) {
        snprintf(why, sizeof why, "version %.32s lacks what is needed", version);
        return no_runtime(why);
    }
#define READ(place, result, name, arguments) \
    session->ort.name = (result(UE_ORT_CALL *) arguments)table[place];
    UE_ORT_FUNCTIONS(READ)
#undef READ
    return UE_OK;
}

static ue_status load(struct session *session, const char *name) {
    char why[512] = "";
    session->library = ue_library_open(name ? name : LIBRARY, why, sizeof why);
    if (!session->library)
        return no_runtime(why);
    typedef const struct ue_ort_base *(UE_ORT_CALL * get_base)(void);
    const get_base get = (get_base)ue_library_function(session->library, "OrtGetApiBase");
    return get ? read_table(session, get()) : no_runtime("the library is another one");
}

/* ---- the session's options ------------------------------------------------------------------- */

static ue_status append_dml(struct session *session) {
    typedef ue_ort_status(UE_ORT_CALL * append)(ue_ort_handle *, int device);
    const append function = (append)ue_library_function(
        session->library, "OrtSessionOptionsAppendExecutionProvider_DML");
    return function ? check(session, function(session->options, 0), UE_NO_RUNTIME)
                    : no_runtime("this library has no DirectML");
}

/* The provider with its usual options; the CPU's is always there. */
static ue_status append_provider(struct session *session) {
    const struct ue_ort *ort = &session->ort;
    const bool cuda = !strcmp(session->provider->name, "cuda");
    ue_ort_handle *made = NULL;
    if (!session->provider->gpu)
        return UE_OK;
    if (!strcmp(session->provider->name, "dml"))
        return append_dml(session);
    ue_status status =
        check(session, cuda ? ort->create_cuda(&made) : ort->create_tensorrt(&made), UE_NO_RUNTIME);
    if (!status)
        status = check(session,
                       cuda ? ort->append_cuda(session->options, made)
                            : ort->append_tensorrt(session->options, made),
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
static ue_status set_options(struct session *session) {
    const struct ue_ort *ort = &session->ort;
    ue_ort_handle **options = &session->options;
    ue_ort_status failed = ort->create_session_options(options);
    if (!failed)
        failed = ort->set_threads_within(*options, (int)session->engine.threads_each);
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
    const ue_status status = check(session, failed, UE_NO_RUNTIME);
    return status ? status : append_provider(session);
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

static ue_status add_weights(struct session *session, const ue_encoder_source *source) {
    const size_t count = source->weights_count;
    ue_ort_path *names[MOST_WEIGHTS];
    char *bytes[MOST_WEIGHTS];
    size_t sizes[MOST_WEIGHTS], named = 0;
    if (count > MOST_WEIGHTS || !strcmp(session->provider->name, "tensorrt"))
        return ue_encoder_fail(UE_BAD_OPTIONS,
                               "%s: give its path: weights in memory are at most "
                               "%d files, and TensorRT takes none",
                               session->engine.what, MOST_WEIGHTS);
    for (; named < count && (names[named] = path_of(source->weights[named].name)); named++) {
        bytes[named] = (char *)(uintptr_t)source->weights[named].bytes; /* only read */
        sizes[named] = source->weights[named].size;
    }
    const ue_status status =
        named < count
            ? ue_encoder_fail(UE_NO_MEMORY, "not enough memory, or a name is not UTF-8")
            : check(session,
                    session->ort.add_weights(session->options, (const ue_ort_path *const *)names,
                                             bytes, sizes, count),
                    UE_BAD_MODEL);
    while (named)
        free(names[--named]);
    return status;
}

static ue_status load_file(struct session *session, const char *path) {
    ue_ort_path *name = path_of(path);
    if (!name)
        return ue_encoder_fail(UE_NO_MEMORY, "%s: no memory, or it is not UTF-8", path);
    const ue_status status =
        check(session,
              session->ort.create_session(session->env, name, session->options, &session->handle),
              UE_BAD_MODEL);
    free(name);
    return status;
}

static ue_status load_model(struct session *session, const ue_encoder_source *source) {
    ue_status status = UE_OK;
    if (!source->bytes)
        return load_file(session, source->path);
    if (source->weights_count)
        status = add_weights(session, source);
    if (!status)
        status = ue_named_files_check(source, session->engine.what);
    return status ? status
                  : check(session,
                          session->ort.create_session_from_memory(session->env, source->bytes,
                                                                  source->size, session->options,
                                                                  &session->handle),
                          UE_BAD_MODEL);
}

static int dtype_of(int element) {
    return element == UE_ORT_FLOAT     ? UE_FLOAT32
           : element == UE_ORT_FLOAT16 ? UE_FLOAT16
           : element == UE_ORT_UINT8   ? UE_UINT8
                                       : -1;
}

/* A tensor's element and shape; of a shape that is too long only its length. */
static ue_ort_status read_tensor(const struct ue_ort *ort, const ue_ort_handle *tensor,
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

static ue_status read_port(const struct session *session, bool input, struct ue_port *port) {
    const struct ue_ort *ort = &session->ort;
    ue_ort_handle *type = NULL;
    const ue_ort_handle *tensor = NULL;
    ue_ort_status failed = input ? ort->input_type(session->handle, 0, &type)
                                 : ort->output_type(session->handle, 0, &type);
    if (!failed)
        failed = ort->tensor_of_type(type, &tensor);
    if (!failed)
        failed = read_tensor(ort, tensor, port);
    const ue_status status = check(session, failed, UE_BAD_MODEL);
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

static ue_status check_model(struct session *session, size_t asked) {
    const struct ue_ort *ort = &session->ort;
    size_t inputs = 0, outputs = 0;
    struct ue_port in = {.dtype = -1}, out = {.dtype = -1};
    ue_status status = check(session, ort->count_inputs(session->handle, &inputs), UE_BAD_MODEL);
    if (!status)
        status = check(session, ort->count_outputs(session->handle, &outputs), UE_BAD_MODEL);
    if (!status && inputs == 1 && outputs == 1) {
        status = read_port(session, true, &in);
        status = status ? status : read_port(session, false, &out);
    }
    if (!status)
        status = ue_engine_check(&session->engine, inputs, outputs, &in, &out);
    if (!status)
        status = take_batch(&session->engine, in.dims[0], asked);
    if (!status)
        status =
            check(session, ort->input_name(session->handle, 0, session->allocator, &session->input),
                  UE_BAD_MODEL);
    return status
               ? status
               : check(session,
                       ort->output_name(session->handle, 0, session->allocator, &session->output),
                       UE_BAD_MODEL);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static ue_status wrap_planes(const struct session *session, const void *planes,
                             ue_ort_handle **value) {
    static const size_t sizes[] = {4, 2, 1};
    static const int elements[] = {UE_ORT_FLOAT, UE_ORT_FLOAT16, UE_ORT_UINT8};
    const struct ue_engine *engine = &session->engine;
    const int64_t crop = (int64_t)engine->crop, dims[] = {(int64_t)engine->batch, 3, crop, crop};
    const size_t size = engine->batch * 3 * engine->crop * engine->crop * sizes[engine->dtype];
    return check(session,
                 session->ort.create_tensor(session->memory, (void *)(uintptr_t)planes, size, dims,
                                            4, elements[engine->dtype], value),
                 UE_RUN_FAILED);
}

static ue_status read_tokens(const struct session *session, ue_ort_handle *value, float *tokens) {
    const struct ue_engine *engine = &session->engine;
    const struct ue_ort *ort = &session->ort;
    ue_ort_handle *tensor = NULL;
    struct ue_port port = {.dtype = -1};
    void *bytes = NULL;
    ue_ort_status failed = ort->tensor_of_value(value, &tensor);
    if (!failed)
        failed = read_tensor(ort, tensor, &port);
    if (!failed)
        failed = ort->tensor_bytes(value, &bytes);
    if (tensor)
        ort->release_tensor(tensor);
    const ue_status status = check(session, failed, UE_RUN_FAILED);
    if (status)
        return status;
    if (port.rank != 2 || port.dims[0] != (int64_t)engine->batch ||
        port.dims[1] != (int64_t)engine->width)
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: returned [%lld, %lld], not [%zu, %zu]; correct "
                               "the expected width or export it again",
                               engine->what, (long long)port.dims[0], (long long)port.dims[1],
                               engine->batch, engine->width);
    ue_engine_tokens(engine, bytes, (ue_dtype)port.dtype, tokens);
    return UE_OK;
}

static ue_status run(struct session *session, const ue_ort_handle *options, const void *planes,
                     float *tokens) {
    const char *input = session->input, *output = session->output;
    ue_ort_handle *value = NULL, *made = NULL;
    ue_status status = wrap_planes(session, planes, &value);
    if (!status) {
        const ue_ort_handle *given = value;
        status =
            check(session,
                  session->ort.run(session->handle, options, &input, &given, 1, &output, 1, &made),
                  UE_RUN_FAILED);
    }
    if (!status)
        status = read_tokens(session, made, tokens);
    if (value)
        session->ort.release_value(value);
    if (made)
        session->ort.release_value(made);
    return status;
}

/* Options of its own for each run: an interrupt marks them for good. */
static ue_status encode(void *self, const void *planes, float *tokens) {
    struct session *session = self;
    ue_ort_handle *options = NULL;
    ue_status status = ue_engine_here(&session->engine);
    if (!status)
        status = check(session, session->ort.create_run_options(&options), UE_RUN_FAILED);
    if (status)
        return status;
    struct ue_slot *slot = ue_slots_take(&session->engine.slots, options);
    if (slot)
        status = run(session, options, planes, tokens);
    if (!slot || ue_slots_give(&session->engine.slots, slot))
        status = ue_encoder_fail(UE_ENDED, "%s: the run was interrupted", session->engine.what);
    session->ort.release_run_options(options);
    return status;
}

static void end_run(void *engine, void *options) {
    const struct session *session = engine;
    ue_ort_status failed = session->ort.terminate(options);
    if (failed)
        session->ort.release_status(failed);
}

static void interrupt(void *self) {
    struct session *session = self;
    if (!ue_engine_here(&session->engine))
        ue_slots_interrupt(&session->engine.slots, end_run, session);
}

static const char *error(void *self) {
    (void)self;
    return ue_encoder_error();
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void free_name(const struct session *session, char *name) {
    ue_ort_status failed = name ? session->ort.free_name(session->allocator, name) : NULL;
    if (failed)
        session->ort.release_status(failed);
}

static void release(struct session *session) {
    const struct ue_ort *ort = &session->ort;
    free_name(session, session->input);
    free_name(session, session->output);
    if (session->handle)
        ort->release_session(session->handle);
    if (session->options)
        ort->release_session_options(session->options);
    if (session->memory)
        ort->release_memory(session->memory);
    if (session->env)
        ort->release_env(session->env);
}

/* In a fork the runtime's threads are missing, and it would wait for them: it is left alone. */
static void destroy(void *self) {
    struct session *session = self;
    if (!session || session->engine.process != ue_process())
        return;
    release(session);
    ue_slots_close(&session->engine.slots);
    free(session);
}

static const struct provider *find_provider(const char *name) {
    for (size_t k = 0; k < sizeof providers / sizeof *providers; k++)
        if (!strcmp(name ? name : "cpu", providers[k].name))
            return &providers[k];
    return NULL;
}

static ue_status start(struct session *session, const struct ue_request *request) {
    const struct ue_ort *ort = &session->ort;
    ue_status status = load(session, request->options.library);
    if (!status)
        status =
            check(session, ort->create_env(FATAL, "unicas-edge", &session->env), UE_NO_RUNTIME);
    if (!status)
        status = check(session, ort->usual_allocator(&session->allocator), UE_NO_RUNTIME);
    if (!status)
        status = check(session,
                       ort->create_cpu_memory(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &session->memory),
                       UE_NO_RUNTIME);
    if (!status)
        status = set_options(session);
    if (!status)
        status = load_model(session, &request->source);
    if (!status)
        status = check_model(session, request->options.batch);
    if (!status && !ue_slots_open(&session->engine.slots, session->engine.workers))
        status = ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    return status;
}

static void fill(struct session *session, ue_encoder *encoder) {
    const bool reference = !session->provider->gpu && !strcmp(session->engine.precision, "fp32");
    ue_engine_describe(&session->engine, encoder);
    encoder->self = session;
    encoder->name = session->provider->encoder;
    encoder->device = session->provider->device;
    encoder->unverified = reference ? NULL
                                    : "it is not the reference, ONNX Runtime in fp32 on the "
                                      "CPU, and no evidence was looked at";
    encoder->encode = encode;
    encoder->interrupt = interrupt;
    encoder->error = error;
    encoder->destroy = destroy;
}

ue_status ue_encoder_open_onnxruntime(const ue_encoder_source *source,
                                      const ue_encoder_options *options, ue_encoder *encoder) {
    struct ue_request request;
    ue_status status = ue_engine_ask(source, options, encoder, &request);
    if (status)
        return status;
    const struct provider *provider = find_provider(request.options.provider);
    if (!provider)
        return ue_encoder_fail(UE_BAD_OPTIONS, "the provider must be cpu, cuda, tensorrt or dml");
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    session->provider = provider;
    session->engine.process = ue_process();
    status = ue_engine_plan(&session->engine, &request, provider->gpu);
    if (!status)
        status = start(session, &request);
    if (status)
        destroy(session);
    else
        fill(session, encoder);
    return status;
}

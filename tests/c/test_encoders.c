/*
 * Encoders as an embedder uses them: tiles of a file become tokens of another, by as many threads
 * as there are workers, and one more. Arguments are KEY=VALUE; prints what the encoder says of
 * itself, or the status and the sentence of what failed (exit code 3).
 *
 *     engine=onnxruntime|openvino mode=encode|interrupt|endless|fork library= path= bytes=FILE
 *     weights=NAME:FILE crop= width= dtype= precision= threads= workers= batch= provider=
 *     tiles=FILE out=FILE
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "check.h"
#include "unicas_edge_encoder.h"

enum { MOST_THREADS = 16 };

static ue_encoder encoder = {.struct_size = sizeof encoder};
static const unsigned char *tiles;
static float *tokens;
static size_t count;
static void *model, *weight_bytes, *tile_bytes; /* what was read, to be freed */
static atomic_size_t next, ended, done;
static bool endless; /* the model returns when it is interrupted alone */

static const char *value(int argc, char **argv, const char *key) {
    const size_t length = strlen(key);
    for (int k = 1; k < argc; k++)
        if (!strncmp(argv[k], key, length) && argv[k][length] == '=')
            return argv[k] + length + 1;
    return NULL;
}

static size_t number(int argc, char **argv, const char *key) {
    const char *text = value(argc, argv, key);
    return text ? strtoul(text, NULL, 10) : 0;
}

static void *read_whole(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CHECK(file && !fseek(file, 0, SEEK_END), "%s", path);
    *size = (size_t)ftell(file);
    void *bytes = malloc(*size + 1);
    rewind(file);
    CHECK(bytes && fread(bytes, 1, *size, file) == *size, "%s", path);
    fclose(file);
    return bytes;
}

static int said(ue_status status) {
    printf("%d: %s\n", (int)status, ue_encoder_error());
    return 3;
}

static size_t tile_size(void) {
    static const size_t sizes[] = {4, 2, 1};
    return 3 * encoder.crop * encoder.crop * sizes[encoder.dtype];
}

static void pad(unsigned char *planes, size_t first) {
    for (size_t row = 0; row < encoder.batch; row++)
        memcpy(planes + row * tile_size(), tiles + (first + row) % count * tile_size(),
               tile_size());
}

static void *encode_some(void *unused) {
    unsigned char *planes = malloc(encoder.batch * tile_size());
    float *out = malloc(encoder.batch * encoder.width * sizeof *out);
    ue_status status = UE_OK;
    for (size_t first; !status && (first = atomic_fetch_add(&next, encoder.batch)) < count;) {
        pad(planes, first);
        status = ue_encoder_encode(&encoder, planes, out);
        for (size_t row = 0; !status && row < encoder.batch && first + row < count; row++)
            memcpy(tokens + (first + row) * encoder.width, out + row * encoder.width,
                   encoder.width * sizeof *out);
    }
    if (status) {
        said(status);
        fflush(stdout);
        _exit(3); /* whatever the other threads do */
    }
    free(planes);
    free(out);
    return unused;
}

/* Encode until an interrupt comes. */
static void *encode_on(void *unused) {
    unsigned char *planes = malloc(encoder.batch * tile_size());
    float *out = malloc(encoder.batch * encoder.width * sizeof *out);
    ue_status status;
    pad(planes, 0);
    while (!(status = ue_encoder_encode(&encoder, planes, out)))
        atomic_fetch_add(&done, 1);
    CHECK(status == UE_ENDED, "%d %s", (int)status, ue_encoder_error());
    CHECK(strstr(ue_encoder_error(), "interrupted"), "%s", ue_encoder_error());
    atomic_fetch_add(&ended, 1);
    free(planes);
    free(out);
    return unused;
}

static void each_thread(void *(*work)(void *), bool interrupt) {
    pthread_t threads[MOST_THREADS];
    const size_t many = encoder.workers + 1;
    CHECK(many <= MOST_THREADS, "%zu workers", encoder.workers);
    for (size_t k = 0; k < many; k++)
        CHECK(!pthread_create(&threads[k], NULL, work, NULL), "thread %zu", k);
    while (interrupt && atomic_load(&ended) < many) {
        usleep(20000);
        if (endless || atomic_load(&done))
            encoder.interrupt(encoder.self);
    }
    for (size_t k = 0; k < many; k++)
        pthread_join(threads[k], NULL);
}

/* A child may neither encode nor free what is its parent's. */
static void check_fork(void) {
    const pid_t child = fork();
    if (!child) {
        float *out = malloc(encoder.batch * encoder.width * sizeof *out);
        unsigned char *planes = calloc(encoder.batch, tile_size());
        const int ok = ue_encoder_encode(&encoder, planes, out) == UE_ENDED &&
                       strstr(ue_encoder_error(), "another process");
        ue_encoder_close(&encoder);
        _exit(ok ? 0 : 1);
    }
    int result = 0;
    CHECK(waitpid(child, &result, 0) == child && result == 0, "the child: %d", result);
}

static void write_tokens(const char *path) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(tokens, encoder.width * sizeof *tokens, count, file) == count, "%s", path);
    CHECK(!fclose(file), "%s", path);
}

/* A model's bytes are no longer needed; what still reads them would give other tokens. */
static void forget(void *bytes, size_t size) {
    if (bytes)
        memset(bytes, 0x55, size);
    free(bytes);
    model = NULL;
}

static ue_status open_encoder(int argc, char **argv, ue_encoder_file *weights) {
    ue_encoder_source source = {.struct_size = sizeof source};
    ue_encoder_options options = {.struct_size = sizeof options};
    const char *engine = value(argc, argv, "engine"), *bytes = value(argc, argv, "bytes");
    source.path = value(argc, argv, "path");
    source.bytes = model = bytes ? read_whole(bytes, &source.size) : NULL;
    source.weights = weights;
    source.weights_count = weights->name ? 1 : 0;
    source.crop = number(argc, argv, "crop");
    source.width = number(argc, argv, "width");
    source.dtype = (ue_dtype)number(argc, argv, "dtype");
    source.precision = value(argc, argv, "precision");
    options.library = value(argc, argv, "library");
    options.provider = value(argc, argv, "provider");
    options.threads = number(argc, argv, "threads");
    options.workers = number(argc, argv, "workers");
    options.batch = number(argc, argv, "batch");
    options.memory = number(argc, argv, "memory");
    const ue_status status = !strcmp(engine, "openvino")
                                 ? ue_encoder_open_openvino(&source, &options, &encoder)
                                 : ue_encoder_open_onnxruntime(&source, &options, &encoder);
    forget(model, source.size);
    return status;
}

static ue_encoder_file read_weights(char *text) {
    ue_encoder_file file = {NULL, NULL, 0};
    char *colon = text ? strchr(text, ':') : NULL;
    if (colon) {
        *colon = '\0';
        file = (ue_encoder_file){text, NULL, 0};
        file.bytes = weight_bytes = read_whole(colon + 1, &file.size);
    }
    return file;
}

static void free_all(void) {
    free(model);
    free(weight_bytes);
    free(tile_bytes);
    free(tokens);
}

static void use(const char *mode, const char *out) {
    endless = !strcmp(mode, "endless");
    if (endless || !strcmp(mode, "interrupt"))
        each_thread(encode_on, true);
    if (endless)
        return;
    if (!strcmp(mode, "fork"))
        check_fork();
    each_thread(encode_some, false); /* after an interrupt too */
    write_tokens(out);
}

int main(int argc, char **argv) {
    size_t size = 0;
    ue_encoder_file weights = read_weights((char *)(uintptr_t)value(argc, argv, "weights"));
    const ue_status status = open_encoder(argc, argv, &weights);
    if (status) {
        CHECK(!encoder.encode && !encoder.self, "a table that is not empty");
        ue_encoder_close(&encoder);
        free_all();
        return said(status);
    }
    printf("%s %s %s %s %zu %zu %zu %s\n", encoder.name, encoder.version, encoder.precision,
           encoder.device, encoder.batch, encoder.workers, encoder.threads,
           encoder.unverified ? "unverified" : "reference");
    tiles = tile_bytes = read_whole(value(argc, argv, "tiles"), &size);
    count = size / tile_size();
    tokens = calloc(count * encoder.width, sizeof *tokens);
    use(value(argc, argv, "mode"), value(argc, argv, "out"));
    ue_encoder_close(&encoder);
    ue_encoder_close(&encoder);
    CHECK(ue_encoder_encode(&encoder, tiles, tokens) == UE_BAD_OPTIONS, "it is closed");
    CHECK(strstr(ue_encoder_error(), "closed"), "%s", ue_encoder_error());
    free_all();
    return 0;
}

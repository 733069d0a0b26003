/* A host's own encoder, and the tables and arguments that are refused; no runtime is needed. */
#define _DEFAULT_SOURCE
#include <math.h>

#include "check.h"
#include "unicas_edge_encoder.h"

enum { BATCH = 3, CROP = 4, WIDTH = 5, TILE = 3 * CROP * CROP };

/* What the host's encoder is. */
struct host {
    float spoil; /* goes into the last number of the second token */
    ue_status fails;
    const char *says;
    int destroyed;
};

static ue_status encode(void *self, const void *planes, float *tokens) {
    const struct host *host = self;
    const float *pixels = planes;
    for (size_t row = 0; row < BATCH; row++)
        for (size_t k = 0; k < WIDTH; k++)
            tokens[row * WIDTH + k] = pixels[row * TILE] + (float)k;
    tokens[2 * WIDTH - 1] += host->spoil;
    return host->fails;
}

static const char *error(void *self) {
    return ((const struct host *)self)->says;
}

static void destroy(void *self) {
    ((struct host *)self)->destroyed++;
}

static ue_encoder table_of(struct host *host) {
    return (ue_encoder){.struct_size = sizeof(ue_encoder),
                        .self = host,
                        .batch = BATCH,
                        .crop = CROP,
                        .width = WIDTH,
                        .workers = 1,
                        .threads = 1,
                        .name = "theirs",
                        .encode = encode,
                        .error = error,
                        .destroy = destroy};
}

static void refused(const ue_encoder *encoder, ue_status wanted, const char *says) {
    static const float planes[BATCH * TILE];
    float tokens[BATCH * WIDTH];
    const ue_status status = ue_encoder_encode(encoder, planes, tokens);
    CHECK(status == wanted, "%d, not %d: %s", (int)status, (int)wanted, ue_encoder_error());
    CHECK(strstr(ue_encoder_error(), says), "%s", ue_encoder_error());
}

static void test_a_host_encodes(void) {
    struct host host = {0, UE_OK, NULL, 0};
    ue_encoder encoder = table_of(&host);
    float planes[BATCH * TILE] = {7}, tokens[BATCH * WIDTH];
    planes[2 * TILE] = 9;
    CHECK(ue_encoder_encode(&encoder, planes, tokens) == UE_OK, "%s", ue_encoder_error());
    CHECK(tokens[0] == 7 && tokens[WIDTH] == 0 && tokens[2 * WIDTH + 1] == 10, "tokens");
    ue_encoder_close(&encoder);
    ue_encoder_close(&encoder);
    CHECK(host.destroyed == 1, "%d times", host.destroyed);
    refused(&encoder, UE_BAD_OPTIONS, "closed");
}

static void test_what_it_gives_is_looked_at(void) {
    struct host host = {NAN, UE_OK, NULL, 0};
    ue_encoder encoder = table_of(&host);
    refused(&encoder, UE_BAD_TOKENS, "theirs: the token of tile 1 of the batch is not finite");
    host.spoil = INFINITY;
    refused(&encoder, UE_BAD_TOKENS, "tile 1");
    host = (struct host){0, UE_RUN_FAILED, "the\n card\tis   gone \x1b", 0};
    refused(&encoder, UE_RUN_FAILED, "theirs: the card is gone");
    CHECK(ue_encoder_error()[strlen(ue_encoder_error()) - 1] == 'e', "%s", ue_encoder_error());
    encoder.error = NULL;
    encoder.name = NULL;
    refused(&encoder, UE_RUN_FAILED, "the encoder: the encoder's runtime failed");
}

static void test_impossible_tables(void) {
    struct host host = {0, UE_OK, NULL, 0};
    const ue_encoder good = table_of(&host);
    ue_encoder bad;
    refused(NULL, UE_NULL_POINTER, "NULL");
    bad = good, bad.struct_size = 8, refused(&bad, UE_BAD_OPTIONS, "struct_size");
    bad = good, bad.struct_size++, refused(&bad, UE_BAD_OPTIONS, "struct_size");
    bad = good, bad.encode = NULL, refused(&bad, UE_BAD_OPTIONS, "encode");
    bad = good, bad.batch = 0, refused(&bad, UE_BAD_OPTIONS, "batch");
    bad = good, bad.batch = UE_MAX_BATCH + 1, refused(&bad, UE_BAD_OPTIONS, "batch");
    bad = good, bad.crop = UE_MAX_SIDE + 1, refused(&bad, UE_BAD_OPTIONS, "crop");
    bad = good, bad.width = 0, refused(&bad, UE_BAD_OPTIONS, "width");
    bad = good, bad.workers = 0, refused(&bad, UE_BAD_OPTIONS, "workers");
    bad = good, bad.dtype = (ue_dtype)3, refused(&bad, UE_BAD_OPTIONS, "dtype");
}

static void unopened(const ue_encoder_source *source, const ue_encoder_options *options,
                     ue_status wanted, const char *says) {
    ue_encoder encoder = {.struct_size = sizeof encoder};
    for (int k = 0; k < 2; k++) {
        const ue_status status = k ? ue_encoder_open_openvino(source, options, &encoder)
                                   : ue_encoder_open_onnxruntime(source, options, &encoder);
        CHECK(status == wanted, "%d, not %d: %s", (int)status, (int)wanted, ue_encoder_error());
        CHECK(strstr(ue_encoder_error(), says), "%s", ue_encoder_error());
        CHECK(!encoder.encode && !encoder.destroy, "a table that is not empty");
    }
}

static void test_impossible_sources(void) {
    const ue_encoder_file nameless = {NULL, "x", 1};
    const ue_encoder_source good = {.struct_size = sizeof good,
                                    .path = "model.onnx",
                                    .crop = CROP,
                                    .width = WIDTH,
                                    .precision = "fp32"};
    ue_encoder_source bad;
    ue_encoder_options options = {.struct_size = sizeof options, .library = "/no/such/library"};
    unopened(NULL, NULL, UE_NULL_POINTER, "NULL");
    unopened(&good, &options, UE_NO_RUNTIME, "/no/such/library");
    unopened(&good, &options, UE_NO_RUNTIME, "install");
    bad = good, bad.struct_size++, unopened(&bad, NULL, UE_BAD_OPTIONS, "struct_size");
    bad = good, bad.path = NULL, unopened(&bad, NULL, UE_NULL_POINTER, "no model");
    bad = good, bad.bytes = "", unopened(&bad, NULL, UE_BAD_OPTIONS, "empty");
    bad = good, bad.weights_count = 1, unopened(&bad, NULL, UE_BAD_OPTIONS, "weights");
    bad = good, bad.bytes = "x", bad.size = 1, bad.weights = &nameless, bad.weights_count = 1;
    unopened(&bad, NULL, UE_BAD_OPTIONS, "name");
    bad = good, bad.crop = 0, unopened(&bad, NULL, UE_BAD_OPTIONS, "crop");
    bad = good, bad.width = UE_MAX_TOKEN_WIDTH + 1, unopened(&bad, NULL, UE_BAD_OPTIONS, "width");
    bad = good, bad.dtype = (ue_dtype)9, unopened(&bad, NULL, UE_BAD_OPTIONS, "ue_dtype");
    bad = good, bad.precision = "fp64", unopened(&bad, NULL, UE_BAD_OPTIONS, "precision");
    bad = good, bad.precision = NULL, unopened(&bad, NULL, UE_BAD_OPTIONS, "precision");
    options.struct_size = 0, unopened(&good, &options, UE_BAD_OPTIONS, "struct_size");
    options.struct_size = sizeof options, options.batch = UE_MAX_BATCH + 1;
    unopened(&good, &options, UE_BAD_OPTIONS, "batches of 4096");
    options.batch = 1, options.threads = UE_MAX_WORKERS + 1;
    unopened(&good, &options, UE_BAD_OPTIONS, "threads");
    options.threads = 1, options.provider = "abacus";
    unopened(&good, &options, UE_BAD_OPTIONS, "");
}

static void test_a_table_of_another_size_is_left_alone(void) {
    const ue_encoder_source source = {.struct_size = sizeof source, .path = "m.onnx"};
    ue_encoder encoder;
    memset(&encoder, 0x55, sizeof encoder);
    const ue_encoder before = encoder;
    CHECK(ue_encoder_open_onnxruntime(&source, NULL, &encoder) == UE_BAD_OPTIONS, "size");
    CHECK(!memcmp(&before, &encoder, sizeof encoder), "it was written to");
    CHECK(ue_encoder_open_onnxruntime(&source, NULL, NULL) == UE_NULL_POINTER, "NULL");
    ue_encoder_close(NULL);
}

int main(void) {
    test_a_host_encodes();
    test_what_it_gives_is_looked_at();
    test_impossible_tables();
    test_impossible_sources();
    test_a_table_of_another_size_is_left_alone();
    return 0;
}

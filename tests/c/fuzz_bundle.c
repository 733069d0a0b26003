/*
 * Fuzzes bundles: a manifest, its aggregator, its encoder's model and a file of measured speeds are
 * written into a folder and opened there; then all is asked that needs no runtime. Under libFuzzer
 * (clang -fsanitize=fuzzer -DLIBFUZZER) the engine mutates; without it main does:
 *
 *     fuzz_bundle FOLDER ROUNDS FIRST_NUMBER (MANIFEST AGGREGATOR MODEL SPEEDS)...
 *
 * In a manifest 64 letters "a" stand for the SHA-256 of the aggregator, 64 "e" for the model's.
 */
#define _DEFAULT_SOURCE
#include <stdbool.h>

#include "bundle/model.h"
#include "bundle/speeds.h"
#include "check.h"
#include "unicas_edge_bundle.h"

enum { PARTS = 4, HEX = UE_SHA256_HEX - 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[1024] = "";

/* Bytes of an input: three lengths of 4 bytes, the parts one after another. */
struct parts {
    const uint8_t *bytes[PARTS];
    size_t size[PARTS];
};

static bool split(const uint8_t *data, size_t size, struct parts *parts) {
    size_t at = 4 * (PARTS - 1);
    if (!data || size < at)
        return false;
    for (size_t k = 0; k < PARTS; k++) {
        const uint8_t *length = data + 4 * k;
        size_t wanted = size - at;
        if (k < PARTS - 1)
            wanted = length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16;
        parts->bytes[k] = data + at;
        parts->size[k] = wanted < size - at ? wanted : size - at;
        at += parts->size[k];
    }
    return true;
}

/* ---- the folder ------------------------------------------------------------------------------ */

static const char *const names[PARTS] = {"bundle.json", "aggregator.safetensors", "encoder.onnx",
                                         "speeds.json"};

static char *path_of(const char *name) {
    static char path[2 * sizeof folder];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_part(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(path_of(name), "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size && !fclose(file), "%s", path_of(name));
}

/* Put a digest in place of 64 of its letters, wherever they stand. */
static void state_digest(char *text, size_t size, char letter, const uint8_t *bytes,
                         size_t length) {
    struct ue_sha256 hash;
    char hex[UE_SHA256_HEX];
    ue_sha256_start(&hash);
    ue_sha256_add(&hash, bytes, length);
    ue_sha256_finish(&hash, hex);
    for (size_t at = 0, run = 0; at < size; at++) {
        run = text[at] == letter ? run + 1 : 0;
        if (run == HEX) {
            memcpy(text + at + 1 - HEX, hex, HEX);
            run = 0;
        }
    }
}

static void write_parts(const struct parts *parts) {
    char *manifest = malloc(parts->size[0] + 1);
    CHECK(manifest, "%zu bytes", parts->size[0]);
    memcpy(manifest, parts->bytes[0], parts->size[0]);
    state_digest(manifest, parts->size[0], 'a', parts->bytes[1], parts->size[1]);
    state_digest(manifest, parts->size[0], 'e', parts->bytes[2], parts->size[2]);
    write_part(names[0], manifest, parts->size[0]);
    for (size_t k = 1; k < PARTS; k++)
        write_part(names[k], parts->bytes[k], parts->size[k]);
    free(manifest);
}

/* ---- what is asked --------------------------------------------------------------------------- */

/* One line that says something, and nothing that a terminal would obey. */
static void check_sentence(const char *text) {
    CHECK(strlen(text) > 10, "%s", text);
    for (const char *c = text; *c; c++)
        CHECK((unsigned char)*c >= ' ' && *c != 0x7f, "%s", text);
}

static void ask_tasks(const ue_bundle *bundle) {
    ue_bundle_info info = {.struct_size = sizeof info};
    CHECK(!ue_bundle_describe(bundle, &info), "describe");
    CHECK(info.name && info.version && info.licence && info.intended_use, "a text");
    CHECK(strlen(info.sha256) == HEX && info.tasks && info.tasks <= 64, "%zu", info.tasks);
    CHECK(info.crop_px >= 16 && info.crop_px <= info.tile_px && info.tile_px <= 4096, "sizes");
    for (size_t k = 0; k < info.tasks; k++) {
        ue_bundle_task task = {.struct_size = sizeof task};
        CHECK(!ue_bundle_describe_task(bundle, k, &task), "task %zu", k);
        CHECK(task.name && task.positive < task.classes && task.temperature > 0, "task %zu", k);
        for (size_t i = 0; i < task.classes; i++)
            CHECK(ue_bundle_class(bundle, k, i), "class %zu", i);
    }
}

static void make_aggregator(const ue_bundle *bundle) {
    const ue_aggregator_options options = {.struct_size = sizeof options, .threads = 1};
    ue_aggregator *aggregator;
    if (ue_bundle_aggregator(bundle, &options, &aggregator))
        check_sentence(ue_aggregator_error(aggregator));
    ue_aggregator_destroy(aggregator);
}

static void read_models(const ue_bundle *bundle) {
    const struct ue_encoder_form *forms = bundle->manifest.encoder.forms.items;
    for (int backend = 0; backend < UE_BACKENDS; backend++)
        for (size_t k = 0; k <= bundle->manifest.encoder.forms.count; k++) {
            struct ue_model model;
            const struct ue_json_text file = k ? forms[k - 1].file : bundle->manifest.encoder.file;
            const ue_status status = ue_model_read(bundle, file, (enum ue_backend)backend, &model);
            CHECK(!status || status == UE_BAD_MODEL, "%d: %s", (int)status, ue_encoder_error());
            if (status)
                check_sentence(ue_encoder_error());
            ue_model_free(&model);
        }
}

static void choose(const ue_bundle *bundle) {
    static const char *const backends[] = {NULL, "onnxruntime", "openvino", "onnxruntime-cuda"};
    static const char *const precisions[] = {NULL, "fp32", "int8"};
    for (size_t k = 0; k < 24; k++) {
        const ue_bundle_engine wanted = {.struct_size = sizeof wanted,
                                         .backend = backends[k % 4],
                                         .precision = precisions[k / 4 % 3],
                                         .onnxruntime = "/nowhere.so",
                                         .openvino = "/nowhere.so",
                                         .speeds = path_of(names[3]),
                                         .allow_unverified = k >= 12};
        ue_encoder encoder = {.struct_size = sizeof encoder};
        const ue_status status = ue_bundle_encoder(bundle, &wanted, &encoder);
        CHECK(status == UE_NO_RUNTIME || status == UE_BAD_OPTIONS, "%d", (int)status);
        check_sentence(ue_encoder_error());
    }
}

static void read_speeds(const ue_bundle *bundle) {
    double speeds[UE_BACKENDS][UE_PRECISIONS];
    const struct ue_json_text *encoder =
        ue_manifest_digest(&bundle->manifest, bundle->manifest.encoder.file);
    ue_speeds_read(path_of(names[3]), encoder->bytes, speeds);
    for (size_t k = 0; k < UE_BACKENDS; k++)
        for (size_t p = 0; p < UE_PRECISIONS; p++)
            CHECK(speeds[k][p] >= 0 && speeds[k][p] < 1e9, "%g", speeds[k][p]);
}

static void ask(const ue_bundle *bundle) {
    ask_tasks(bundle);
    make_aggregator(bundle);
    read_models(bundle);
    choose(bundle);
    read_speeds(bundle);
    CHECK(!ue_bundle_check_unchanged(bundle), "%s", ue_bundle_error(bundle));
}

static size_t opened;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct parts parts;
    ue_bundle *bundle;
    if (!*folder) {
        snprintf(folder, sizeof folder, "/tmp/fuzz_bundle.XXXXXX");
        CHECK(mkdtemp(folder), "%s", folder);
    }
    if (!split(data, size, &parts))
        return 0;
    write_parts(&parts);
    const ue_status status = ue_bundle_open(folder, &bundle);
    if (status)
        check_sentence(ue_bundle_error(bundle));
    else
        ask(bundle);
    opened += !status;
    ue_bundle_close(bundle);
    return 0;
}

#ifndef LIBFUZZER

#include "mutate.h"

static size_t anywhere(const struct input *input) {
    return random_below(input->size);
}

/* Most bytes of the aggregator are tensors: prefer the header. */
static size_t in_header(const struct input *input) {
    const size_t header = input->size < 9 ? 1 : 8 + input->bytes[0] + 256u * input->bytes[1];
    return random_below(random_below(8) && header < input->size ? header : input->size);
}

static const char *const json[] = {"\"",          "{",        "}",
                                   "[",           "]",        ",",
                                   ":",           "\\u0000",  "null",
                                   "-1",          "0",        "1e9",
                                   "0.5",         "65536",    "true",
                                   "\\\"",        "file",     "../x",
                                   "/",           "openvino", "int8",
                                   "a.xml",       "forms",    "encoder.onnx",
                                   "fp32",        "\"a\"",    "1e-999",
                                   "\xff",        "\xc3\xa9", "18446744073709551615",
                                   "\x7f",        "\\u001b",  "onnxruntime-cuda",
                                   "bundle.json", "\\ud83d"};
/* Fields of protobuf that begin and end where they should not. */
static const char *const wire[] = {"\x3a\x05", "\x2a\xff\xff\x7f",
                                   "\x6a\x03", "\x0a\x02",
                                   "location", "EPContext",
                                   "row.bin",  "./",
                                   "\x12\x09", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                                   "\x0b",     "\x0d"};

#define WORDS(words) words, sizeof words / sizeof *words
static const struct kind kinds[PARTS] = {{WORDS(json), anywhere},
                                         {WORDS(json), in_header},
                                         {WORDS(wire), anywhere},
                                         {WORDS(json), anywhere}};

static void run(const struct input seeds[PARTS], bool changed) {
    static const size_t often[] = {0, 0, 0, 0, 0, 1, 2, 2, 3};
    static struct input inputs[PARTS];
    uint8_t whole[4 * (PARTS - 1) + PARTS * (size_t)LARGEST];
    size_t size = 4 * (PARTS - 1);
    memcpy(inputs, seeds, sizeof inputs);
    for (size_t count = changed ? 1 + random_below(3) : 0; count; count--) {
        const size_t part = often[random_below(sizeof often / sizeof *often)];
        mutate(&inputs[part], &kinds[part]);
    }
    for (size_t k = 0; k < PARTS; k++) {
        for (size_t i = 0; k < PARTS - 1 && i < 4; i++)
            whole[4 * k + i] = (uint8_t)(inputs[k].size >> 8 * i);
        memcpy(whole + size, inputs[k].bytes, inputs[k].size);
        size += inputs[k].size;
    }
    uint8_t *exact = malloc(size);
    CHECK(exact, "%zu bytes", size);
    memcpy(exact, whole, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int count, char **arguments) {
    static struct input seeds[PARTS];
    CHECK(count >= 8 && count % PARTS == 0, "usage: %s FOLDER ROUNDS FIRST_NUMBER SEED_FILES...",
          arguments[0]);
    snprintf(folder, sizeof folder, "%s", arguments[1]);
    const long rounds = atol(arguments[2]);
    random_state += strtoull(arguments[3], NULL, 10);
    for (int i = 4; i < count; i += PARTS) {
        for (int k = 0; k < PARTS; k++)
            read_seed(&seeds[k], arguments[i + k]);
        run(seeds, false);
        CHECK(opened, "a seed is a bundle: %s", arguments[i]);
        for (long round = 0; round < rounds; round++)
            run(seeds, true);
    }
    fprintf(stderr, "%zu opened\n", opened);
    printf("%ld inputs\n", rounds * (count / PARTS - 1));
    return 0;
}

#endif

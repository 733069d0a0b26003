/*
 * Bundles and their encoders as an embedder uses them, told from standard input, a line for each
 * step, its words between tabs; one line of answer to each:
 *
 *     open FOLDER                         ok | refused STATUS TEXT
 *     choose BACKEND PRECISION ALLOW HAS  STATUS BACKEND PRECISION FILE UNVERIFIED TEXT
 *     encoder KEY=VALUE...                ok FACTS... UNVERIFIED | refused STATUS TEXT
 *     encode TILES OUT                    ok (the encoder is closed behind it)
 *     check                               STATUS TEXT
 *     close                               ok (the bundle; the encoder stays)
 *
 * HAS is a letter for each backend, 1 where it is installed.
 */
#define _DEFAULT_SOURCE
#include "bundle/vouched.h"
#include "bundle/state.h"
#include "check.h"
#include "system/machine.h"
#include "unicas_edge_bundle.h"

enum { MOST_WORDS = 16 };

static ue_bundle *bundle;
static ue_encoder encoder = {.struct_size = sizeof encoder};
static char line[1 << 14], *words[MOST_WORDS];
static size_t count;

static bool read_line(void) {
    if (!fgets(line, sizeof line, stdin))
        return false;
    line[strcspn(line, "\n")] = '\0';
    count = 0;
    for (char *word = strtok(line, "\t"); word && count < MOST_WORDS; word = strtok(NULL, "\t"))
        words[count++] = word;
    return count > 0;
}

static const char *value(const char *key) {
    const size_t length = strlen(key);
    for (size_t k = 1; k < count; k++)
        if (!strncmp(words[k], key, length) && words[k][length] == '=')
            return words[k] + length + 1;
    return NULL;
}

static size_t number(const char *key) {
    const char *text = value(key);
    return text ? strtoul(text, NULL, 10) : 0;
}

static void refused(ue_status status, const char *text) {
    CHECK(*text, "no text for %d", (int)status);
    printf("refused\t%d\t%s\n", (int)status, text);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void open_bundle(void) {
    ue_bundle_close(bundle);
    const ue_status status = ue_bundle_open(words[1], &bundle);
    if (!status) {
        puts("ok");
        return;
    }
    refused(status, ue_bundle_error(bundle));
    CHECK(ue_bundle_encoder(bundle, NULL, &encoder) == UE_BAD_BUNDLE, "of what was not opened");
    CHECK(strstr(ue_encoder_error(), "was not opened"), "%s", ue_encoder_error());
    CHECK(ue_bundle_check_unchanged(bundle) == UE_BAD_BUNDLE, "of what was not opened");
}

static void choose(void) {
    struct ue_vouched *evidence = calloc(1, sizeof *evidence);
    struct ue_choice choice;
    struct ue_machine machine = {.isa = NULL};
    char isa[UE_MACHINE_TEXT];
    const struct ue_wish wish = {ue_backend_of(words[1]), ue_precision_of(words[2]),
                                 *words[3] == '1'};
    ue_isa("", isa);
    machine.isa = isa;
    for (size_t k = 0; k < UE_BACKENDS; k++)
        machine.has[k] = words[4][k] == '1';
    ue_vouched_read(evidence, &bundle->manifest);
    const ue_status status = ue_choose(&evidence->forms, &machine, &wish, &choice);
    printf("%d\t%s\t%s\t%s\t%d\t%s\n", (int)status, ue_backend_name(choice.chosen.backend),
           ue_precision_name(choice.chosen.precision),
           ue_vouched_file(evidence, &bundle->manifest, choice.chosen).bytes, choice.unverified,
           choice.text);
    free(evidence);
}

static void open_encoder(void) {
    const ue_bundle_engine wanted = {.struct_size = sizeof wanted,
                                     .backend = value("backend"),
                                     .precision = value("precision"),
                                     .onnxruntime = value("onnxruntime"),
                                     .openvino = value("openvino"),
                                     .threads = number("threads"),
                                     .workers = number("workers"),
                                     .batch = number("batch"),
                                     .memory = number("memory"),
                                     .speeds = value("speeds"),
                                     .allow_unverified = (int32_t)number("allow_unverified")};
    ue_encoder_close(&encoder);
    const ue_status status = ue_bundle_encoder(bundle, &wanted, &encoder);
    if (status) {
        CHECK(!encoder.encode && !encoder.self, "a table that is not empty");
        refused(status, ue_encoder_error());
        return;
    }
    printf("ok\t%s\t%s\t%s\t%s\t%zu\t%zu\t%zu\t%s\n", encoder.name, encoder.version,
           encoder.precision, encoder.device, encoder.batch, encoder.workers, encoder.threads,
           encoder.unverified ? encoder.unverified : "");
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

static void encode(void) {
    size_t size;
    char *tiles = read_whole(words[1], &size);
    const size_t batch = encoder.batch * 3 * encoder.crop * encoder.crop * sizeof(float);
    float *tokens = malloc(encoder.batch * encoder.width * sizeof *tokens);
    FILE *out = fopen(words[2], "wb");
    CHECK(encoder.dtype == UE_FLOAT32 && size % batch == 0 && out, "%zu bytes of tiles", size);
    for (size_t at = 0; at < size; at += batch) {
        CHECK(!ue_encoder_encode(&encoder, tiles + at, tokens), "%s", ue_encoder_error());
        CHECK(fwrite(tokens, sizeof *tokens, encoder.batch * encoder.width, out), "%s", words[2]);
    }
    encoder.interrupt(encoder.self); /* none runs, and none is marked */
    CHECK(!ue_encoder_encode(&encoder, tiles, tokens), "%s", ue_encoder_error());
    CHECK(!fclose(out), "%s", words[2]);
    free(tiles);
    free(tokens);
    ue_encoder_close(&encoder);
    puts("ok");
}

static void check_bundle(void) {
    const ue_status status = ue_bundle_check_unchanged(bundle);
    CHECK(!*ue_bundle_error(bundle) == !status, "%s", ue_bundle_error(bundle));
    printf("%d\t%s\n", (int)status, ue_bundle_error(bundle));
}

static void close_bundle(void) {
    ue_bundle_close(bundle);
    bundle = NULL;
    puts("ok");
}

/* ---- what is not possible -------------------------------------------------------------------- */

static void check_sizes(void) {
    const size_t sizes[] = {0, 4, sizeof(size_t) + 1, sizeof(ue_bundle_engine) + 8};
    ue_bundle_engine wanted = {.backend = NULL};
    ue_encoder other = {.struct_size = sizeof other};
    CHECK(ue_bundle_encoder(NULL, NULL, &other) == UE_NULL_POINTER, "no bundle");
    CHECK(ue_bundle_encoder(bundle, NULL, NULL) == UE_NULL_POINTER, "no table");
    CHECK(*ue_encoder_error(), "no text");
    CHECK(ue_bundle_check_unchanged(NULL) == UE_NULL_POINTER, "no bundle");
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        wanted.struct_size = sizes[k];
        CHECK(ue_bundle_encoder(bundle, &wanted, &other) == UE_BAD_OPTIONS, "%zu", sizes[k]);
    }
    other.struct_size = 8;
    CHECK(ue_bundle_encoder(bundle, NULL, &other) == UE_BAD_OPTIONS, "a short table");
    CHECK(!other.encode && other.struct_size == 8, "it was written to");
}

int main(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } steps[] = {{"open", open_bundle}, {"choose", choose},      {"encoder", open_encoder},
                 {"encode", encode},    {"check", check_bundle}, {"close", close_bundle},
                 {"sizes", check_sizes}};
    while (read_line()) {
        size_t k = 0;
        while (k < sizeof steps / sizeof *steps && strcmp(steps[k].name, words[0]) != 0)
            k++;
        CHECK(k < sizeof steps / sizeof *steps, "%s", words[0]);
        steps[k].run();
        if (!strcmp(words[0], "sizes"))
            puts("ok");
        fflush(stdout);
    }
    ue_encoder_close(&encoder);
    ue_bundle_close(bundle);
    return 0;
}

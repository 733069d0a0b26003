/*
 * Fuzzes a session: any calls, with any arguments, in any order, on a slide of a few tiles. What is
 * asked is that nothing is read or written outside, that every session ends, and that a result
 * counts the tiles that came. Under libFuzzer (clang -fsanitize=fuzzer -DLIBFUZZER, the bundle's
 * folder in BUNDLE) the engine makes the inputs; without it main does: fuzz_session BUNDLE ROUNDS.
 */
#define _DEFAULT_SOURCE

#include <math.h>
#include <stdbool.h>

#include "check.h"
#include "unicas_edge_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ue_bundle *bundle;
static ue_screener *screener;
static size_t side, crop, width, tasks;
static uint8_t *image; /* twice a tile's side, so that strides may lead about */
static int bad_encoder;
static long results; /* sessions that came to one */

struct input {
    const uint8_t *next, *end;
};

static unsigned byte(struct input *input) {
    return input->next < input->end ? *input->next++ : 0;
}

/* A place of the grid most of the time. */
static int64_t place(struct input *input) {
    const unsigned chosen = byte(input);
    if (chosen < 240)
        return (int64_t)(chosen % 6 * side);
    static const int64_t odd[] = {-1, 1, INT64_MIN, INT64_MAX, -256, 255, 1 << 20, 257};
    return odd[chosen % 8];
}

static double score_of(struct input *input) {
    static const double odd[] = {UE_NO_SCORE, 0, NAN, INFINITY, -2, 1e308};
    const unsigned chosen = byte(input);
    return chosen < 200 ? (double)(chosen % 9) : odd[chosen % 6];
}

static ue_status encode(void *self, const void *planes, float *tokens) {
    (void)self;
    for (size_t row = 0; row < 2; row++)
        for (size_t k = 0; k < width; k++)
            tokens[row * width + k] =
                bad_encoder == 1 ? NAN : ((const float *)planes)[row * 3 * crop * crop + k];
    return bad_encoder == 2 ? UE_RUN_FAILED : UE_OK;
}

static ue_status decode(void *self, const void *bytes, size_t size, uint8_t *rgb, size_t tile) {
    (void)self;
    memset(rgb, *(const uint8_t *)bytes, 3 * tile * tile);
    return size % 5 ? UE_OK : UE_BAD_FILE;
}

static ue_status push(ue_session *session, struct input *input) {
    const ptrdiff_t row = (ptrdiff_t)(6 * side);
    const ue_pixels layouts[] = {
        {image, row, 3, 1},
        {image + 2, row, 3, -1},                               /* BGR */
        {image, row, 4, 1},                                    /* RGBA */
        {image, (ptrdiff_t)side, 1, (ptrdiff_t)(side * side)}, /* planar */
        {image + row * (ptrdiff_t)(side - 1), -row, 3, 1},     /* upside down */
        {NULL, row, 3, 1},
    };
    const ue_pixels *pixels = &layouts[byte(input) % 6];
    const int64_t x = place(input), y = place(input);
    return ue_session_push(session, byte(input) == 255 ? NULL : pixels, x, y, score_of(input),
                           byte(input) % 3);
}

static ue_status push_jpeg(ue_session *session, struct input *input) {
    const int64_t x = place(input), y = place(input);
    return ue_session_push_jpeg(session, image, byte(input), x, y, 1);
}

static void look(ue_session *session, struct input *input) {
    double estimates[64];
    int64_t x, y;
    ue_session_progress progress;
    ue_answer answer = {.struct_size = sizeof answer};
    ue_session_estimate(session, estimates);
    ue_session_progress_of(session, &progress);
    ue_session_origin(session, byte(input), byte(input), &x, &y);
    ue_session_came(session, place(input), place(input));
    ue_session_answer(session, byte(input) % (tasks + 2), &answer);
    ue_session_reason(session, byte(input));
    ue_session_kind(session, byte(input));
    ue_session_attention(session, byte(input));
}

/* False: no more calls. */
static bool step(ue_session *session, struct input *input) {
    const unsigned call = byte(input) % 32;
    if (call < 18)
        push(session, input);
    else if (call < 21)
        push_jpeg(session, input);
    else if (call < 24)
        ue_session_skip(session, place(input), place(input));
    else if (call < 27)
        ue_session_fail(session, place(input), place(input), byte(input) % 2 ? "torn \xc3" : NULL);
    else if (call < 30)
        look(session, input);
    else if (call == 30 && byte(input) > 200)
        ue_session_cancel(session);
    else if (call == 31 && byte(input) > 200)
        ue_session_finish(session, 0);
    return input->next < input->end;
}

static void end(ue_session *session) {
    size_t tiles = 0, tokens = 0;
    const ue_status status = ue_session_finish(session, UE_FOREVER);
    const char *json = ue_session_result_json(session);
    CHECK(status || json, "a result is missing");
    if (status) {
        CHECK(*ue_session_error(), "%d without a sentence", status);
        return;
    }
    results++;
    const ue_tile *rows = ue_session_tiles(session, &tiles);
    ue_session_tokens(session, &tokens);
    for (size_t k = 0; k < tiles; k++) {
        CHECK(rows[k].status != UE_TILE_UNSEEN && rows[k].token < (int64_t)tokens, "%zu", k);
        CHECK((rows[k].status == UE_TILE_ENCODED) == (rows[k].token >= 0), "%zu", k);
    }
    CHECK(json[0] == '{' && json[strlen(json) - 1] == '}', "%s", json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, data + size};
    ue_session *session;
    static const char *const texts[] = {NULL, "a \"slide\"", "\xff\xfe", "\x01\n\t", ""};
    const unsigned first = byte(&input);
    ue_session_options options = {.struct_size = sizeof options,
                                  .width = (int64_t)(side * (1 + first % 5)) - first % 3,
                                  .height = (int64_t)(side * (1 + first / 5 % 5)),
                                  .um_px = 0.5,
                                  .max_tiles = byte(&input) % 20,
                                  .memory = byte(&input) % 8 * 3 * crop * crop,
                                  .decode = byte(&input) % 4 ? decode : NULL,
                                  .name = texts[byte(&input) % 5],
                                  .um_px_source = texts[byte(&input) % 5]};
    if (byte(&input) == 255)
        options.um_px = (double)byte(&input) - 3;
    bad_encoder = (int)byte(&input) % 16;
    const bool cancelled = byte(&input) % 8 == 0;
    if (ue_session_open(screener, &options, &session) != UE_OK)
        return 0;
    while (step(session, &input))
        continue;
    if (cancelled)
        ue_session_cancel(session);
    else
        end(session);
    ue_session_close(session);
    return 0;
}

static void open_bundle(const char *folder) {
    ue_bundle_info info = {.struct_size = sizeof info};
    CHECK(ue_bundle_open(folder, &bundle) == UE_OK, "%s", ue_bundle_error(bundle));
    ue_bundle_describe(bundle, &info);
    side = info.tile_px;
    crop = info.crop_px;
    width = info.width;
    tasks = info.tasks;
    image = calloc(12 * side * side, 1);
    for (size_t k = 0; image && k < 12 * side * side; k++)
        image[k] = (uint8_t)random_bits();
    const ue_encoder encoder = {.struct_size = sizeof encoder,
                                .batch = 2,
                                .crop = crop,
                                .width = width,
                                .workers = 2,
                                .threads = 2,
                                .name = "pixels",
                                .version = "1",
                                .precision = "fp32",
                                .device = "cpu",
                                .encode = encode};
    CHECK(ue_screener_open(bundle, &encoder, NULL, &screener) == UE_OK, "%s", ue_session_error());
}

#ifdef LIBFUZZER

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    open_bundle(getenv("BUNDLE"));
    return 0;
}

#else

int main(int argc, char **argv) {
    uint8_t bytes[600];
    CHECK(argc == 3, "fuzz_session BUNDLE ROUNDS");
    open_bundle(argv[1]);
    for (long round = atol(argv[2]); round > 0; round--) {
        const size_t size = 8 + random_below(sizeof bytes - 8);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)random_bits();
        LLVMFuzzerTestOneInput(bytes, size);
    }
    ue_screener_close(screener);
    ue_bundle_close(bundle);
    free(image);
    printf("%ld sessions came to a result\n", results);
    return 0;
}

#endif

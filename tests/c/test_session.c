/*
 * A host: pushes the tiles of a file from some threads, and prints the result.
 *
 *     test_session BUNDLE TILES THREADS WIDTH HEIGHT UM_PX MAX_TILES SPOOL STOP_AFTER RUNTIME
 *
 * "-" is nothing. The process ends after STOP_AFTER calls, as a killed one does. RUNTIME is the
 * library of ONNX Runtime for the bundle's own encoder; without it a token is some of the pixels.
 */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "unicas_edge_session.h"

enum { NOTHING = -2, BROKEN = -3, JPEG = -4 }; /* instead of a score */

struct row {
    int64_t x, y;
    double score;
};

struct host {
    ue_session *session;
    const unsigned char *rows;
    size_t count, side, threads;
    long stop_after;
    atomic_long calls;
};

/* ---- an encoder of the host's own ------------------------------------------------------------ */

static size_t crop, width;

static ue_status some_pixels(void *self, const void *planes, float *tokens) {
    const size_t pixels = 3 * crop * crop;
    (void)self;
    for (size_t row = 0; row < 4; row++)
        for (size_t k = 0; k < width; k++)
            tokens[row * width + k] = ((const float *)planes)[row * pixels + k * 97 % pixels];
    return UE_OK;
}

static ue_encoder plain(const ue_bundle_info *info) {
    crop = info->crop_px;
    width = info->width;
    ue_encoder encoder = {.struct_size = sizeof encoder,
                          .batch = 4,
                          .crop = crop,
                          .width = width,
                          .workers = 2,
                          .threads = 2,
                          .dtype = UE_FLOAT32,
                          .name = "some-pixels",
                          .version = "1",
                          .precision = "fp32",
                          .device = "cpu",
                          .encode = some_pixels};
    return encoder;
}

/* ---- pushing --------------------------------------------------------------------------------- */

static ue_status fill(void *self, const void *bytes, size_t size, uint8_t *rgb, size_t side) {
    (void)self;
    if (size != 3 * side * side)
        return UE_BAD_SIZE;
    memcpy(rgb, bytes, size);
    return UE_OK;
}

static ue_status push(struct host *host, const struct row *row, const unsigned char *pixels) {
    const size_t side = host->side;
    if (row->score == NOTHING)
        return ue_session_skip(host->session, row->x, row->y);
    if (row->score == BROKEN)
        return ue_session_fail(host->session, row->x, row->y, "torn \xff \"page\"\n");
    if (row->score == JPEG)
        return ue_session_push_jpeg(host->session, pixels, 3 * side * side, row->x, row->y,
                                    UE_FOREVER);
    const ue_pixels layout = {pixels, (ptrdiff_t)(3 * side), 3, 1};
    return ue_session_push(host->session, &layout, row->x, row->y, row->score, UE_FOREVER);
}

static void *pushes(void *argument) {
    struct host *host = argument;
    const size_t size = sizeof(struct row) + 3 * host->side * host->side;
    for (;;) {
        const long number = atomic_fetch_add(&host->calls, 1);
        struct row row;
        if (number == host->stop_after)
            _exit(9);
        if ((size_t)number >= host->count)
            return NULL;
        memcpy(&row, host->rows + (size_t)number * size, sizeof row);
        if (ue_session_came(host->session, row.x, row.y) == UE_OK)
            continue;
        const ue_status status = push(host, &row, host->rows + (size_t)number * size + sizeof row);
        CHECK(status == UE_OK, "%d %s", status, ue_session_error());
    }
}

static void push_all(struct host *host) {
    pthread_t threads[16];
    for (size_t k = 0; k < host->threads; k++)
        CHECK(!pthread_create(&threads[k], NULL, pushes, host), "no thread");
    for (size_t k = 0; k < host->threads; k++)
        pthread_join(threads[k], NULL);
}

/* ---- what comes of it ------------------------------------------------------------------------ */

static void check_answers(const ue_session *session, size_t tasks, size_t tile_count) {
    size_t count;
    ue_answer answer = {.struct_size = sizeof answer};
    const ue_tile *tiles = ue_session_tiles(session, &count);
    CHECK(tiles && count == tile_count, "%zu tiles", count);
    CHECK(ue_session_answer(session, tasks, &answer) == UE_BAD_SIZE, "a task too many");
    for (size_t task = 0; task < tasks; task++) {
        const float *shares = ue_session_attention(session, task);
        double sum = 0;
        CHECK(ue_session_answer(session, task, &answer) == UE_OK, "%s", ue_session_error());
        for (size_t k = 0; k < count; k++)
            sum += (double)shares[k];
        CHECK(isnan(answer.probability) ? sum == 0 : fabs(sum - 1) < 1e-4, "%g", sum);
        CHECK((answer.decision == UE_UNSATISFACTORY) == (ue_session_reason(session, 0) != NULL),
              "%d", answer.decision);
    }
    CHECK(!ue_session_attention(session, tasks), "a task too many");
}

static size_t planned(const ue_session *session) {
    size_t count;
    ue_session_tiles(session, &count);
    return count;
}

static int finish(struct host *host, size_t tasks) {
    double estimates[64];
    ue_session *session = host->session;
    CHECK(!ue_session_result_json(session), "a result before the end");
    const ue_status status = ue_session_finish(session, UE_FOREVER);
    if (status) {
        printf("refused %d %s\n", status, ue_session_error());
        return 3;
    }
    const ue_status guessed = ue_session_estimate(session, estimates);
    for (size_t k = 0; k < tasks; k++) {
        ue_answer answer = {.struct_size = sizeof answer};
        ue_session_answer(session, k, &answer);
        CHECK(guessed ? isnan(answer.probability) : estimates[k] == answer.probability, "%zu", k);
    }
    check_answers(session, tasks, planned(session));
    puts(ue_session_result_json(session));
    return 0;
}

static unsigned char *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    CHECK(file, "%s", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    CHECK(bytes && fread(bytes, 1, *size, file) == *size, "%s", path);
    fclose(file);
    return bytes;
}

static const char *given(const char *argument) {
    return strcmp(argument, "-") ? argument : NULL;
}

static ue_encoder encoder_of(const ue_bundle *bundle, const ue_bundle_info *info,
                             const char *runtime) {
    ue_encoder encoder = {.struct_size = sizeof encoder};
    const ue_bundle_engine wanted = {.struct_size = sizeof wanted,
                                     .backend = "onnxruntime",
                                     .precision = "fp32",
                                     .onnxruntime = runtime,
                                     .threads = 2};
    if (!runtime)
        return plain(info);
    CHECK(ue_bundle_encoder(bundle, &wanted, &encoder) == UE_OK, "%s", ue_encoder_error());
    return encoder;
}

int main(int argc, char **argv) {
    size_t size;
    ue_bundle *bundle;
    ue_screener *screener;
    ue_bundle_info info = {.struct_size = sizeof info};
    CHECK(argc == 11, "%d arguments", argc);
    CHECK(ue_bundle_open(argv[1], &bundle) == UE_OK, "%s", ue_bundle_error(bundle));
    CHECK(ue_bundle_describe(bundle, &info) == UE_OK, "no bundle");
    ue_encoder encoder = encoder_of(bundle, &info, given(argv[10]));
    CHECK(ue_screener_open(bundle, &encoder, NULL, &screener) == UE_OK, "%s", ue_session_error());
    struct host host = {.side = info.tile_px, .threads = (size_t)atol(argv[3])};
    unsigned char *rows = read_all(argv[2], &size);
    host.rows = rows;
    host.count = size / (sizeof(struct row) + 3 * host.side * host.side);
    host.stop_after = given(argv[9]) ? atol(argv[9]) : -1;
    const ue_session_options options = {.struct_size = sizeof options,
                                        .width = atol(argv[4]),
                                        .height = atol(argv[5]),
                                        .um_px = atof(argv[6]),
                                        .max_tiles = (size_t)atol(argv[7]),
                                        .spool = given(argv[8]),
                                        .decode = fill};
    int code = 4;
    if (ue_session_open(screener, &options, &host.session) == UE_OK) {
        push_all(&host);
        code = finish(&host, info.tasks);
    } else {
        printf("refused %s\n", ue_session_error());
    }
    ue_session_close(host.session);
    ue_screener_close(screener);
    ue_encoder_close(&encoder);
    ue_bundle_close(bundle);
    free(rows);
    return code;
}

/* Sessions that end otherwise: cancelled, finished by two threads, forked, with a broken encoder.
 */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"
#include "unicas_edge_session.h"

enum { SIDE_TILES = 8 };

static size_t side, crop, width;
static uint8_t *image;
static atomic_int broken, slow_ms, encoded;

static void rest(int milliseconds) {
    const struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static ue_status encode(void *self, const void *planes, float *tokens) {
    (void)self;
    rest(slow_ms);
    encoded++;
    for (size_t row = 0; row < 2; row++)
        for (size_t k = 0; k < width; k++)
            tokens[row * width + k] = ((const float *)planes)[row * 3 * crop * crop + k];
    return (ue_status)atomic_load(&broken);
}

static ue_screener *screener_of(ue_bundle *bundle) {
    ue_screener *screener;
    ue_bundle_info info = {.struct_size = sizeof info};
    ue_bundle_describe(bundle, &info);
    side = info.tile_px;
    crop = info.crop_px;
    width = info.width;
    const ue_encoder encoder = {.struct_size = sizeof encoder,
                                .batch = 2,
                                .crop = crop,
                                .width = width,
                                .workers = 1,
                                .threads = 1,
                                .name = "pixels",
                                .version = "1",
                                .precision = "fp32",
                                .device = "cpu",
                                .encode = encode};
    CHECK(ue_screener_open(bundle, &encoder, NULL, &screener) == UE_OK, "%s", ue_session_error());
    return screener;
}

static ue_session *opened(ue_screener *screener) {
    ue_session *session;
    const ue_session_options options = {.struct_size = offsetof(ue_session_options, decode),
                                        .width = (int64_t)(SIDE_TILES * side),
                                        .height = (int64_t)(SIDE_TILES * side),
                                        .um_px = 0.5};
    CHECK(ue_session_open(screener, &options, &session) == UE_OK, "%s", ue_session_error());
    return session;
}

static ue_status push(ue_session *session, size_t tile) {
    const ue_pixels pixels = {image + tile, (ptrdiff_t)(3 * side), 3, 1};
    return ue_session_push(session, &pixels, (int64_t)(tile % SIDE_TILES * side),
                           (int64_t)(tile / SIDE_TILES * side), 5, UE_FOREVER);
}

static void push_all(ue_session *session) {
    for (size_t tile = 0; tile < SIDE_TILES * SIDE_TILES; tile++)
        CHECK(push(session, tile) == UE_OK, "%s", ue_session_error());
}

/* ---- finishing ------------------------------------------------------------------------------- */

static void *finish(void *session) {
    CHECK(ue_session_finish(session, UE_FOREVER) == UE_OK, "%s", ue_session_error());
    CHECK(ue_session_result_json(session), "no result");
    return NULL;
}

static void finish_twice(ue_screener *screener) {
    pthread_t threads[3];
    ue_session *session = opened(screener);
    slow_ms = 5;
    push_all(session);
    CHECK(ue_session_finish(session, 0) == UE_BUSY, "a result too early");
    CHECK(!ue_session_result_json(session), "a result too early");
    CHECK(push(session, 3) == UE_ENDED, "a tile after the end");
    for (size_t k = 0; k < 3; k++)
        pthread_create(&threads[k], NULL, finish, session);
    for (size_t k = 0; k < 3; k++)
        pthread_join(threads[k], NULL);
    finish(session);
    slow_ms = 0;
    ue_session_close(session);
}

/* ---- cancelling ------------------------------------------------------------------------------ */

static void *finish_cancelled(void *session) {
    CHECK(ue_session_finish(session, UE_FOREVER) == UE_ENDED, "%s", ue_session_error());
    return NULL;
}

/* Of two that share one worker, the other goes on. */
static void cancel_one(ue_screener *screener) {
    pthread_t thread;
    ue_session *one = opened(screener), *other = opened(screener);
    slow_ms = 200;
    push_all(one);
    push_all(other);
    pthread_create(&thread, NULL, finish_cancelled, one);
    rest(20);
    ue_session_cancel(one);
    ue_session_cancel(one);
    pthread_join(thread, NULL);
    slow_ms = 0;
    CHECK(ue_session_finish(one, 0) == UE_ENDED, "a result of a cancelled session");
    ue_session_close(one);
    finish(other);
    ue_session_close(other);
}

/* ---- a broken encoder ------------------------------------------------------------------------ */

static void break_encoder(ue_screener *screener) {
    const ue_status statuses[] = {UE_RUN_FAILED, UE_BUSY, UE_ENDED, UE_BAD_TOKENS};
    for (size_t k = 0; k < 4; k++) {
        ue_session *session = opened(screener);
        broken = (int)statuses[k];
        for (size_t tile = 0; tile < SIDE_TILES * SIDE_TILES; tile++) {
            const ue_status status = push(session, tile);
            CHECK(status == UE_OK || status == UE_RUN_FAILED, "%d", status);
        }
        CHECK(ue_session_finish(session, UE_FOREVER) == UE_RUN_FAILED, "%s", ue_session_error());
        CHECK(ue_session_skip(session, 0, 0) == UE_RUN_FAILED, "%s", ue_session_error());
        ue_session_close(session);
        broken = UE_OK;
    }
}

/* ---- a fork ---------------------------------------------------------------------------------- */

static void in_child(ue_screener *screener, ue_session *session, ue_session *finished) {
    ue_session *fresh;
    ue_session_options options = {
        .struct_size = sizeof options, .width = 256, .height = 256, .um_px = 0.5};
    ue_answer answer = {.struct_size = sizeof answer};
    alarm(60); /* what hangs is killed */
    CHECK(ue_session_open(screener, &options, &fresh) == UE_ENDED && !fresh, "opened");
    CHECK(push(session, 1) == UE_ENDED, "pushed");
    CHECK(ue_session_finish(session, UE_FOREVER) == UE_ENDED, "finished");
    CHECK(ue_session_answer(finished, 0, &answer) == UE_ENDED, "answered");
    CHECK(!ue_session_result_json(finished), "a result");
    ue_session_cancel(session);
    ue_session_close(session);
    ue_session_close(finished);
    ue_screener_close(screener);
    _exit(0);
}

static void fork_it(ue_screener *screener) {
    int code;
    ue_session *session = opened(screener), *finished = opened(screener);
    push_all(finished);
    finish(finished);
    slow_ms = 50;
    push_all(session);
    const pid_t child = fork();
    if (!child)
        in_child(screener, session, finished);
    CHECK(waitpid(child, &code, 0) == child && code == 0, "%d", code);
    slow_ms = 0;
    finish(session);
    ue_session_close(session);
    ue_session_close(finished);
}

int main(int argc, char **argv) {
    ue_bundle *bundle;
    CHECK(argc == 2, "%d", argc);
    CHECK(ue_bundle_open(argv[1], &bundle) == UE_OK, "%s", ue_bundle_error(bundle));
    ue_screener *screener = screener_of(bundle);
    image = calloc(3 * side * side + SIDE_TILES * SIDE_TILES, 1);
    for (size_t k = 0; k < 3 * side * side + SIDE_TILES * SIDE_TILES; k++)
        image[k] = (uint8_t)random_bits();
    finish_twice(screener);
    cancel_one(screener);
    break_encoder(screener);
    fork_it(screener);
    ue_screener_close(screener);
    ue_bundle_close(bundle);
    free(image);
    return 0;
}

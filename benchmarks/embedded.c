/*
 * What a session costs a C program, beside the encoder: `python -m benchmarks.embedded` compiles
 * it.
 *
 *     embedded BUNDLE SESSIONS OPENED
 *
 * A token is some of the tile's pixels, so that the encoder takes no time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "unicas_edge_session.h"

enum { COLS = 30, ROWS = 30, TOGETHER = 8, IMAGES = 16 };

static ue_screener *screener;
static size_t side, crop, width;
static uint8_t *images; /* [IMAGES][side][side][3] */

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ue_session_error());
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* MiB that the process has in memory. */
static double resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static ue_status encode(void *self, const void *planes, float *tokens) {
    const size_t pixels = 3 * crop * crop;
    (void)self;
    for (size_t row = 0; row < 4; row++)
        for (size_t k = 0; k < width; k++)
            tokens[row * width + k] = ((const float *)planes)[row * pixels + k * 97 % pixels];
    return UE_OK;
}

static void open_screener(const char *folder, ue_bundle **bundle) {
    ue_bundle_info info = {.struct_size = sizeof info};
    if (ue_bundle_open(folder, bundle)) {
        fprintf(stderr, "%s\n", ue_bundle_error(*bundle));
        exit(1);
    }
    ue_bundle_describe(*bundle, &info);
    side = info.tile_px;
    crop = info.crop_px;
    width = info.width;
    const ue_encoder encoder = {.struct_size = sizeof encoder,
                                .batch = 4,
                                .crop = crop,
                                .width = width,
                                .workers = 2,
                                .threads = 2,
                                .dtype = info.dtype,
                                .name = "some-pixels",
                                .version = "1",
                                .precision = "fp32",
                                .device = "cpu",
                                .encode = encode};
    if (ue_screener_open(*bundle, &encoder, NULL, &screener))
        fail("ue_screener_open");
}

/* Coarse blobs with noise on them: as many bytes as a cellular tile's JPEG has. */
static void draw(void) {
    images = calloc(IMAGES * side * side, 3);
    for (size_t k = 0; images && k < IMAGES * side * side; k++) {
        const size_t at = k % (side * side), blob = at % side / 32 + at / side / 32 * 11 + k / 9999;
        for (size_t c = 0; c < 3; c++)
            images[3 * k + c] = (uint8_t)(90 + blob * 37 % 100 + (size_t)rand() % 24);
    }
}

static ue_session *opened(void) {
    const ue_session_options options = {.struct_size = sizeof options,
                                        .width = (int64_t)(COLS * side),
                                        .height = (int64_t)(ROWS * side),
                                        .um_px = 0.5};
    ue_session *session;
    if (ue_session_open(screener, &options, &session))
        fail("ue_session_open");
    return session;
}

static void push(ue_session *session, size_t tile) {
    const uint8_t *image = images + tile * 7 % IMAGES * side * side * 3;
    const ue_pixels pixels = {image, (ptrdiff_t)(3 * side), 3, 1};
    if (ue_session_push(session, &pixels, (int64_t)(tile % COLS * side),
                        (int64_t)(tile / COLS * side), UE_NO_SCORE, UE_FOREVER))
        fail("ue_session_push");
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- figures --------------------------------------------------------------------------------- */

static void time_pushes(void) {
    static double times[ROWS * COLS], copies[ROWS * COLS];
    ue_session *session = opened();
    uint8_t *copy = malloc(3 * side * side);
    volatile unsigned seen = 0; /* so that the copy is made */
    for (size_t tile = 0; tile < ROWS * COLS && copy; tile++) {
        const double begin = seconds();
        memcpy(copy, images + tile * 7 % IMAGES * side * side * 3, 3 * side * side);
        seen += copy[tile];
        const double middle = seconds();
        push(session, tile);
        times[tile] = seconds() - middle;
        copies[tile] = middle - begin;
    }
    free(copy);
    const double begin = seconds();
    if (ue_session_finish(session, UE_FOREVER))
        fail("ue_session_finish");
    const double end = seconds() - begin;
    ue_session_close(session);
    qsort(times, ROWS * COLS, sizeof times[0], by_size);
    qsort(copies, ROWS * COLS, sizeof copies[0], by_size);
    printf("push: median %.1f us, 99 %% below %.1f us; copying a tile: %.1f us\n",
           1e6 * times[ROWS * COLS / 2], 1e6 * times[ROWS * COLS * 99 / 100],
           1e6 * copies[ROWS * COLS / 2]);
    printf("last tile to result, %d tiles pushed: %.3f s\n", ROWS * COLS, end);
}

/* A whole slide; its result without the line of times. */
static char *screened(void) {
    ue_session *session = opened();
    for (size_t tile = 0; tile < ROWS * COLS; tile++)
        push(session, tile);
    if (ue_session_finish(session, UE_FOREVER))
        fail("ue_session_finish");
    const char *json = ue_session_result_json(session);
    const char *from = strstr(json, "\"slide\":"), *to = strstr(json, "\"timings_seconds\":");
    char *told = calloc((size_t)(to - from) + 1, 1);
    if (told)
        memcpy(told, from, (size_t)(to - from));
    ue_session_close(session);
    return told;
}

static void *screen(void *told) {
    *(char **)told = screened();
    return NULL;
}

static void run_together(const char *alone) {
    pthread_t threads[TOGETHER];
    char *told[TOGETHER];
    int alike = 0;
    for (size_t k = 0; k < TOGETHER; k++)
        pthread_create(&threads[k], NULL, screen, &told[k]);
    for (size_t k = 0; k < TOGETHER; k++) {
        pthread_join(threads[k], NULL);
        alike += told[k] && strcmp(told[k], alone) == 0;
        free(told[k]);
    }
    printf("%d sessions at once: %d give the result of one alone\n", TOGETHER, alike);
}

static void run_many(long sessions) {
    char *alone = screened();
    double after_ten = 0;
    for (long k = 1; k < sessions; k++) {
        free(screened());
        if (k == 9)
            after_ten = resident();
    }
    printf("%ld sessions one after another: %.1f MiB after 10, %.1f MiB after all\n", sessions,
           after_ten, resident());
    run_together(alone);
    free(alone);
}

static void open_many(long sessions) {
    const double begin = seconds(), before = resident();
    for (long k = 0; k < sessions; k++) {
        ue_session *session = opened();
        if (k % 2)
            push(session, 0);
        ue_session_close(session);
    }
    printf("%ld sessions opened and dropped, half of them with a tile: %.1f s, %.1f -> %.1f MiB\n",
           sessions, seconds() - begin, before, resident());
}

int main(int argc, char **argv) {
    ue_bundle *bundle;
    if (argc != 4)
        return 2;
    open_screener(argv[1], &bundle);
    draw();
    time_pushes();
    run_many(atol(argv[2]));
    open_many(atol(argv[3]));
    ue_screener_close(screener);
    ue_bundle_close(bundle);
    free(images);
    return 0;
}

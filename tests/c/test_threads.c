/* Many threads whose first call is the process's first call; to be run under ThreadSanitizer. */
#define _DEFAULT_SOURCE
#include <pthread.h>

#include "check.h"
#include "unicas_edge.h"

enum { THREADS = 8, SIDE = 33 };

static uint8_t pixels[SIDE * SIDE * 3];
static float results[THREADS][3 * SIDE * SIDE];
static ue_measures measures[THREADS];
static double scores[THREADS];
static pthread_barrier_t start;

static void *work(void *argument) {
    const size_t me = (size_t)(uintptr_t)argument;
    const ue_image image = {pixels, SIDE, SIDE, 3 * SIDE};
    const float affine[12] = {0.5f, 0.25f, 1, 2, 0, 1, 0, -1, 1, 1, 1, 0};
    pthread_barrier_wait(&start);
    CHECK(ue_normalise(&image, affine, UE_FLOAT32, results[me], SIDE * SIDE, NULL) == UE_OK,
          "thread %zu", me);
    CHECK(ue_measure(&image, 200, 20, &measures[me], NULL) == UE_OK, "thread %zu", me);
    const ue_pixels layout = {pixels, 3 * SIDE, 3, 1};
    CHECK(ue_content_score(&layout, SIDE, SIDE, &scores[me], NULL) == UE_OK, "thread %zu", me);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    fill_random(pixels, sizeof pixels);
    pthread_barrier_init(&start, NULL, THREADS);
    for (size_t k = 0; k < THREADS; k++)
        CHECK(pthread_create(&threads[k], NULL, work, (void *)(uintptr_t)k) == 0, "thread %zu", k);
    for (size_t k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
    for (size_t k = 1; k < THREADS; k++) {
        CHECK(memcmp(results[k], results[0], sizeof results[0]) == 0, "thread %zu differs", k);
        CHECK(memcmp(&measures[k], &measures[0], sizeof measures[0]) == 0, "thread %zu differs", k);
        CHECK(scores[k] == scores[0], "thread %zu differs", k);
    }
    return 0;
}

/*
 * Threads that share an aggregator, its pool and its shelf of arenas; to be run under
 * ThreadSanitizer. test_aggregator_threads FILE TOKENS N
 */
#define _DEFAULT_SOURCE
#include <pthread.h>

#include "check.h"
#include "system/memory.h"
#include "system/pool.h"
#include "unicas_edge.h"

enum { THREADS = 4, ROUNDS = 4, ITEMS = 100, JOBS = 300, BLOCKS = 300, LOGITS = 4096 };

static ue_aggregator *shared;
static const char *path;
static float *tokens, wanted[LOGITS];
static size_t count, width, logits_size;
static pthread_barrier_t start;
static struct ue_shelf shelf;
static struct ue_pool *pool;

static void each_thread(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    for (size_t k = 0; k < THREADS; k++)
        CHECK(pthread_create(&threads[k], NULL, work, (void *)(uintptr_t)k) == 0, "thread %zu", k);
    for (size_t k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
}

static void aggregate(ue_aggregator *aggregator, size_t spare, float *logits) {
    ue_bag *bag;
    float *attention = malloc(64 * count * sizeof *attention);
    CHECK(ue_aggregator_bag(aggregator, count + spare, &bag) == UE_OK, "bag");
    for (size_t i = 0; i < count; i += 7)
        CHECK(ue_aggregator_push(bag, i, tokens + i * width, count - i < 7 ? count - i : 7,
                                 width) == UE_OK,
              "%s", ue_aggregator_bag_error(bag));
    CHECK(ue_aggregator_arrange(bag, NULL, count) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, logits, NULL) == UE_OK, "finish");
    CHECK(ue_aggregator_explain(bag, attention) == UE_OK, "explain");
    ue_aggregator_free_bag(bag);
    free(attention);
}

/* Everybody with bags of their own; thread 0 also makes and ends aggregators meanwhile. */
static void *share(void *argument) {
    const size_t me = (size_t)(uintptr_t)argument;
    const ue_aggregator_options options = {sizeof options, 2, NULL};
    float logits[LOGITS];
    pthread_barrier_wait(&start);
    for (size_t round = 0; round < ROUNDS; round++) {
        ue_aggregator *own = shared;
        if (!me)
            CHECK(ue_aggregator_open(path, &options, &own) == UE_OK, "open");
        aggregate(own, (me * 13 + round * 5) % 30, logits);
        CHECK(!memcmp(logits, wanted, logits_size), "thread %zu differs", me);
        if (!me)
            ue_aggregator_destroy(own);
    }
    return NULL;
}

/* A block is one thread's alone from taking it to giving it back. */
static void *use_shelf(void *argument) {
    const size_t me = (size_t)(uintptr_t)argument;
    for (size_t round = 0; round < BLOCKS; round++) {
        const size_t bytes = 1 + (me * 997 + round * 331) % 5000;
        uint8_t *block = ue_shelf_take(&shelf, bytes);
        CHECK(block && (uintptr_t)block % UE_ALIGNMENT == 0, "a block of %zu", bytes);
        memset(block, (int)me, bytes);
        for (size_t i = 0; i < bytes; i++)
            CHECK(block[i] == me, "a block is shared");
        ue_shelf_return(&shelf, block);
    }
    return NULL;
}

/* Plain memory that the pool alone orders: items write, the caller reads when the job is done. */
struct job {
    size_t done[ITEMS], by[ITEMS];
};

static void do_item(void *context, size_t item, size_t worker) {
    struct job *job = context;
    job->done[item]++;
    job->by[item] = worker;
}

static void *use_pool(void *argument) {
    struct job job = {{0}, {0}};
    (void)argument;
    for (size_t round = 1; round <= JOBS; round++) {
        ue_pool_run(pool, round % ITEMS, do_item, &job);
        for (size_t i = 0; i < round % ITEMS; i++) {
            CHECK(job.done[i] == 1 && job.by[i] < 3, "item %zu done %zu times", i, job.done[i]);
            job.done[i] = 0;
        }
        if (round % 50 == 0)
            usleep(1000); /* long enough for the workers to fall asleep */
    }
    return NULL;
}

static void make_and_end_pools(void) {
    struct job job = {{0}, {0}};
    for (size_t round = 0; round < 40; round++) {
        struct ue_pool *one = ue_pool_create(round % 5);
        CHECK(one && ue_pool_threads(one) == (round % 5 ? round % 5 : 1), "pool");
        if (round % 3)
            ue_pool_run(one, ITEMS, do_item, &job);
        if (round % 4 == 0)
            usleep(500);
        ue_pool_destroy(one);
    }
    ue_pool_destroy(NULL);
}

static void read_tokens(const char *name) {
    FILE *file = fopen(name, "rb");
    ue_aggregator_info info = {.struct_size = sizeof info};
    CHECK(ue_aggregator_describe(shared, &info) == UE_OK, "describe");
    width = info.embed_dim_in;
    logits_size = info.num_tasks * info.most_classes * sizeof(float);
    tokens = malloc(count * width * sizeof *tokens);
    CHECK(file && logits_size <= sizeof wanted, "%s", name);
    CHECK(fread(tokens, sizeof *tokens, count * width, file) == count * width, "%s", name);
    fclose(file);
}

int main(int arguments, char **argument) {
    const ue_aggregator_options options = {sizeof options, 3, NULL};
    CHECK(arguments == 4, "usage: %s FILE TOKENS N", argument[0]);
    path = argument[1];
    count = strtoul(argument[3], NULL, 10);
    CHECK(ue_aggregator_open(path, &options, &shared) == UE_OK, "%s", ue_aggregator_error(shared));
    read_tokens(argument[2]);
    aggregate(shared, 0, wanted);
    pthread_barrier_init(&start, NULL, THREADS);
    each_thread(share);
    each_thread(use_shelf);
    ue_shelf_return(&shelf, NULL);
    pool = ue_pool_create(3);
    CHECK(pool && ue_pool_threads(pool) == 3, "pool");
    each_thread(use_pool);
    ue_pool_destroy(pool);
    make_and_end_pools();
    ue_aggregator_destroy(shared);
    free(tokens);
    return 0;
}

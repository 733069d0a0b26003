/* Threads and processes of POSIX are not C11's. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "pool.h"

#include <stdbool.h>
#include <stdlib.h>

/* Without atomics there is no safe hand-over worth its name: the caller works alone. */
#if !defined(__STDC_NO_ATOMICS__)
#include <stdatomic.h>

#include "threads.h"
enum { MOST_THREADS = 256, SPINS = 4000 };

/* A job is a generation: workers join it, claim items until none is left, and leave. */
struct ue_pool {
    ue_mutex caller; /* held while a job runs */
    ue_mutex mutex;  /* guards `stop` and sleeping on `wake` */
    ue_condition wake;
    long process;
    size_t threads;
    bool stop;
    atomic_uint generation;
    atomic_size_t next, busy; /* items claimed so far; workers that have not left the job */
    size_t items;
    ue_work_fn work;
    void *context;
    struct worker {
        struct ue_pool *pool;
        size_t number;
        ue_thread thread;
    } workers[];
};

static void pause_briefly(void) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void do_items(struct ue_pool *pool, size_t worker) {
    for (;;) {
        const size_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->items)
            return;
        pool->work(pool->context, item, worker);
    }
}

/* The passes of an aggregation follow one another within microseconds: look a while, then sleep. */
static bool await_generation(struct ue_pool *pool, unsigned seen) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
            return true;
        pause_briefly();
    }
    ue_lock(&pool->mutex);
    while (!pool->stop && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen)
        ue_wait(&pool->wake, &pool->mutex);
    const bool stop = pool->stop;
    ue_unlock(&pool->mutex);
    return !stop;
}

static ue_thread_result UE_THREAD_CALL run_worker(void *argument) {
    const struct worker *self = argument;
    struct ue_pool *pool = self->pool;
    unsigned seen = 0;
    while (await_generation(pool, seen)) {
        seen++;
        do_items(pool, self->number);
        atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
    }
    return 0;
}

/* As many as the system grants; fewer only take longer. */
static void start_workers(struct ue_pool *pool, size_t threads) {
    for (size_t i = 1; i < threads; i++) {
        struct worker *worker = &pool->workers[i - 1];
        *worker = (struct worker){.pool = pool, .number = i};
        if (ue_thread_start(&worker->thread, run_worker, worker))
            return;
        pool->threads = i + 1;
    }
}

struct ue_pool *ue_pool_create(size_t threads) {
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    struct ue_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->workers[0]);
    if (!pool)
        return NULL;
    pool->threads = 1;
    pool->process = ue_process();
    if (ue_mutex_init(&pool->caller) || ue_mutex_init(&pool->mutex) ||
        ue_condition_init(&pool->wake)) {
        free(pool);
        return NULL;
    }
    start_workers(pool, threads);
    return pool;
}

void ue_pool_destroy(struct ue_pool *pool) {
    if (!pool)
        return;
    if (pool->process == ue_process()) {
        ue_lock(&pool->mutex);
        pool->stop = true;
        ue_wake_all(&pool->wake);
        ue_unlock(&pool->mutex);
        for (size_t i = 1; i < pool->threads; i++)
            ue_thread_join(pool->workers[i - 1].thread);
        ue_condition_destroy(&pool->wake);
        ue_mutex_destroy(&pool->mutex);
        ue_mutex_destroy(&pool->caller);
    }
    free(pool);
}

size_t ue_pool_threads(const struct ue_pool *pool) {
    return pool->threads;
}

static void alone(size_t items, ue_work_fn work, void *context) {
    for (size_t item = 0; item < items; item++)
        work(context, item, 0);
}

static void together(struct ue_pool *pool, size_t items, ue_work_fn work, void *context) {
    pool->items = items;
    pool->work = work;
    pool->context = context;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->busy, pool->threads - 1, memory_order_relaxed);
    ue_lock(&pool->mutex);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    ue_wake_all(&pool->wake);
    ue_unlock(&pool->mutex);
    do_items(pool, 0);
    for (size_t spin = 0; atomic_load_explicit(&pool->busy, memory_order_acquire); spin++)
        if (spin < SPINS)
            pause_briefly();
        else
            ue_yield();
}

void ue_pool_run(struct ue_pool *pool, size_t items, ue_work_fn work, void *context) {
    if (items < 2 || pool->threads < 2 || pool->process != ue_process() ||
        !ue_try_lock(&pool->caller)) {
        alone(items, work, context);
        return;
    }
    together(pool, items, work, context);
    ue_unlock(&pool->caller);
}

#else

struct ue_pool {
    size_t threads;
};

struct ue_pool *ue_pool_create(size_t threads) {
    struct ue_pool *pool = malloc(sizeof *pool);
    (void)threads;
    if (pool)
        pool->threads = 1;
    return pool;
}

void ue_pool_destroy(struct ue_pool *pool) {
    free(pool);
}

size_t ue_pool_threads(const struct ue_pool *pool) {
    return pool->threads;
}

void ue_pool_run(struct ue_pool *pool, size_t items, ue_work_fn work, void *context) {
    (void)pool;
    for (size_t item = 0; item < items; item++)
        work(context, item, 0);
}

#endif

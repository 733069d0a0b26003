/*
 * A thread pool that the library owns, so that it meets no other runtime's threads. Work is divided
 * into items that do not depend on the number of threads; each item is done by one thread.
 */
#ifndef UE_POOL_H
#define UE_POOL_H

#include <stddef.h>

struct ue_pool;

/* Does item `item`; `worker` < threads is the same for no two calls that run at once. */
typedef void (*ue_work_fn)(void *context, size_t item, size_t worker);

/* NULL where memory runs out. `threads` counts the caller's; fewer may be had, 1 starts none. */
struct ue_pool *ue_pool_create(size_t threads);
void ue_pool_destroy(struct ue_pool *pool);
size_t ue_pool_threads(const struct ue_pool *pool);

/*
 * Call work(context, 0 .. items - 1) and return when all are done. The caller works too. While the
 * pool serves another caller, or in a child made by fork, which has none of its threads, the caller
 * works alone.
 */
void ue_pool_run(struct ue_pool *pool, size_t items, ue_work_fn work, void *context);

#endif

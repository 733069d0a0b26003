/* Dealing the work of a pass to the threads: on every bag of a run, or for all bags at once. */
#include "state.h"

struct bag_work {
    const struct ue_run *run;
    ue_bag_fn work;
    size_t first[UE_BATCH + 1]; /* item at which each bag begins */
};

static void do_bag_item(void *context, size_t item, size_t worker) {
    const struct bag_work *all = context;
    size_t b = 0;
    while (item >= all->first[b + 1])
        b++;
    struct ue_bag *bag = all->run->bags[b];
    all->work(all->run, bag, item - all->first[b], bag->scratch + worker * bag->scratch_bytes);
}

void ue_each_bag(const struct ue_run *run, ue_items_fn items, ue_bag_fn work) {
    struct bag_work all = {.run = run, .work = work};
    for (size_t b = 0; b < run->count; b++)
        all.first[b + 1] = all.first[b] + items(run, run->bags[b]);
    ue_pool_run(run->aggregator->pool, all.first[run->count], do_bag_item, &all);
}

void ue_all_bags(struct ue_run *run, size_t items, ue_work_fn work) {
    ue_pool_run(run->aggregator->pool, items, work, run);
}

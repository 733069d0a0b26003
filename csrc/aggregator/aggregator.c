/* The aggregator's handle, and the run of bags through the blocks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "system/clock.h"
#include "system/memory.h"
#include "system/structs.h"

/* ---- creation -------------------------------------------------------------------------------- */

static ue_status start(ue_aggregator *aggregator, size_t threads, const char *variant) {
    const struct ue_config *config = &aggregator->weights.config;
    aggregator->stride = ue_round_up(config->embed_dim, UE_PANEL);
    aggregator->queries = config->num_tasks * config->num_heads;
    aggregator->query_stride = ue_round_up(aggregator->queries, UE_PANEL);
    aggregator->slots = config->num_experts * config->slots_per_expert;
    aggregator->slot_stride = ue_round_up(aggregator->slots, UE_PANEL);
    for (size_t i = 0; i < config->num_tasks; i++)
        if (config->classes[i] > aggregator->most_classes)
            aggregator->most_classes = config->classes[i];
    aggregator->kernels = ue_find_kernels(variant);
    if (!aggregator->kernels)
        return ue_fail(&aggregator->error, UE_NO_SUCH_VARIANT,
                       "this processor runs no variant called %.32s", variant);
    aggregator->pool = ue_pool_create(threads ? threads : ue_usable_cores());
    if (!aggregator->pool || !ue_prepare(aggregator))
        return ue_fail(&aggregator->error, UE_NO_MEMORY,
                       "not enough memory, or threads, for the aggregator");
    return UE_OK;
}

static ue_status create(const char *path, const void *bytes, size_t size,
                        const ue_aggregator_options *given, ue_aggregator **out) {
    const ue_aggregator_options usual = {.struct_size = sizeof usual};
    ue_aggregator_options options;
    if (!out)
        return UE_NULL_POINTER;
    ue_aggregator *aggregator = *out = calloc(1, sizeof *aggregator);
    if (!aggregator)
        return UE_NO_MEMORY;
    if (!path && !bytes)
        return ue_fail(&aggregator->error, UE_NULL_POINTER, "no file and no memory given");
    if (!ue_struct_read(&options, sizeof options, given ? given : &usual))
        return ue_fail(&aggregator->error, UE_BAD_OPTIONS,
                       "struct_size of the options is not one that this version knows");
    const ue_status status =
        path ? ue_weights_open(&aggregator->weights, path, &aggregator->error)
             : ue_weights_parse(&aggregator->weights, bytes, size, &aggregator->error);
    if (status)
        return status;
    aggregator->usable = start(aggregator, options.threads, options.variant) == UE_OK;
    return aggregator->error.status;
}

ue_status ue_aggregator_open(const char *path, const ue_aggregator_options *options,
                             ue_aggregator **aggregator) {
    return create(path, NULL, 0, options, aggregator);
}

ue_status ue_aggregator_from_memory(const void *bytes, size_t size,
                                    const ue_aggregator_options *options,
                                    ue_aggregator **aggregator) {
    return create(NULL, bytes, size, options, aggregator);
}

void ue_aggregator_destroy(ue_aggregator *aggregator) {
    if (!aggregator)
        return;
    ue_pool_destroy(aggregator->pool);
    ue_shelf_return(&aggregator->arenas, NULL);
    ue_free(aggregator->prepared);
    ue_weights_close(&aggregator->weights);
    free(aggregator);
}

const char *ue_aggregator_error(const ue_aggregator *aggregator) {
    return aggregator ? aggregator->error.text : ue_status_text(UE_NO_MEMORY);
}

/* How the experts are stored, if all are stored alike. */
static const char *storage_name(const struct ue_weights *weights) {
    static const char *const names[UE_STORAGES] = {"fp32", "fp16", "bf16", "int8"};
    const enum ue_storage storage = weights->blocks[0].experts[0].fc1.storage;
    for (size_t block = 0; block < weights->config.depth; block++)
        for (size_t e = 0; e < weights->config.num_experts; e++) {
            const struct ue_expert *expert = &weights->blocks[block].experts[e];
            if (expert->fc1.storage != storage || expert->fc2.storage != storage)
                return "mixed";
        }
    return names[storage];
}

ue_status ue_aggregator_describe(const ue_aggregator *aggregator, ue_aggregator_info *info) {
    if (!aggregator || !info)
        return UE_NULL_POINTER;
    if (!aggregator->usable)
        return UE_BAD_OPTIONS;
    const struct ue_config *config = &aggregator->weights.config;
    const ue_aggregator_info full = {
        .embed_dim_in = config->embed_dim_in,
        .embed_dim = config->embed_dim,
        .depth = config->depth,
        .num_tasks = config->num_tasks,
        .most_classes = aggregator->most_classes,
        .threads = ue_pool_threads(aggregator->pool),
        .variant = aggregator->kernels->name,
        .experts = storage_name(&aggregator->weights),
        .stored_bytes = aggregator->weights.stored_bytes,
        .prepared_bytes = aggregator->prepared_bytes,
    };
    return ue_struct_write(info, &full, sizeof full) ? UE_OK : UE_BAD_OPTIONS;
}

size_t ue_aggregator_classes(const ue_aggregator *aggregator, size_t task) {
    const struct ue_config *config = aggregator ? &aggregator->weights.config : NULL;
    return config && task < config->num_tasks ? config->classes[task] : 0;
}

/* ---- the run --------------------------------------------------------------------------------- */

static void clock_pass(struct ue_run *run, ue_aggregator_pass pass) {
    const double now = ue_seconds();
    run->seconds[pass] += now - run->since;
    run->since = now;
}

static void run_block(struct ue_run *run, size_t block) {
    run->block = block;
    run->weights = &run->aggregator->weights.blocks[block];
    ue_queries(run);
    clock_pass(run, UE_PASS_QUERIES);
    ue_scores(run);
    clock_pass(run, UE_PASS_SCORES);
    ue_select(run);
    clock_pass(run, UE_PASS_SELECT);
    ue_project(run);
    clock_pass(run, UE_PASS_PROJECT);
    ue_route(run);
    clock_pass(run, UE_PASS_ROUTE);
    ue_experts(run);
    clock_pass(run, UE_PASS_EXPERTS);
}

/* The tasks' logits; where tasks differ in classes, shorter rows end in -inf. */
static ue_status read_heads(struct ue_bag *bag) {
    const struct ue_aggregator *aggregator = bag->aggregator;
    const struct ue_weights *weights = &aggregator->weights;
    const size_t width = weights->config.embed_dim, most = aggregator->most_classes;
    for (size_t i = 0; i < weights->config.num_tasks; i++) {
        const struct ue_matrix matrix = {weights->heads[i].weight, NULL, UE_STORED_F32};
        const float *x = bag->normed + i * aggregator->stride;
        float mean, inverse, *y = bag->logits + i * most;
        aggregator->kernels->moments(bag->tasks + i * aggregator->stride, width,
                                     weights->config.norm_eps, &mean, &inverse);
        aggregator->kernels->normalise(bag->tasks + i * aggregator->stride, width, mean, inverse,
                                       weights->norm.weight, weights->norm.bias,
                                       bag->normed + i * aggregator->stride);
        aggregator->kernels->dots(&matrix, 0, weights->config.classes[i], width, &x, 1, &y);
        for (size_t c = 0; c < most; c++) {
            y[c] = c < weights->config.classes[i] ? y[c] + weights->heads[i].bias[c] : -INFINITY;
            if (c < weights->config.classes[i] && !isfinite(y[c]))
                return ue_fail(&bag->error, UE_OVERFLOW,
                               "the logits of task %zu are not finite: the tokens are too large or "
                               "the weights are damaged; check the encoder's precision and the "
                               "weights' hash",
                               i);
        }
    }
    return UE_OK;
}

static ue_status finish_batch(ue_bag *const *bags, size_t count, double *seconds) {
    struct ue_run run = {.aggregator = bags[0]->aggregator, .bags = bags, .count = count};
    const struct ue_config *config = &run.aggregator->weights.config;
    ue_status status = UE_OK;
    run.since = ue_seconds();
    for (size_t b = 0; b < count; b++)
        memset(bags[b]->mass, 0, config->num_tasks * ue_patches(bags[b]) * sizeof(float));
    ue_positions(&run);
    clock_pass(&run, UE_PASS_POSITIONS);
    for (size_t block = 0; block < config->depth; block++)
        run_block(&run, block);
    for (size_t b = 0; b < count; b++) {
        ue_end_block(bags[b], config->depth - 1, (float *)bags[b]->scratch);
        const ue_status found = read_heads(bags[b]);
        bags[b]->finished = found == UE_OK;
        status = status ? status : found;
    }
    clock_pass(&run, UE_PASS_QUERIES);
    for (size_t pass = 0; seconds && pass < UE_PASSES; pass++)
        seconds[pass] += run.seconds[pass];
    return status;
}

static ue_status check_bags(ue_bag *const *bags, size_t count, float *const *logits) {
    for (size_t b = 0; b < count; b++) {
        if (!bags[b] || !logits[b])
            return UE_NULL_POINTER;
        bags[b]->error = (struct ue_error){UE_OK, ""};
        if (bags[b]->aggregator != bags[0]->aggregator)
            return ue_fail(&bags[b]->error, UE_BAD_OPTIONS, "the bags are of several aggregators");
        for (size_t other = 0; other < b; other++)
            if (bags[other] == bags[b])
                return ue_fail(&bags[b]->error, UE_BAD_OPTIONS, "the bag is listed twice");
        if (!bags[b]->n)
            return ue_fail(&bags[b]->error, UE_BAD_TOKENS,
                           "no tokens were arranged: a bag needs at least one tile");
    }
    return UE_OK;
}

ue_status ue_aggregator_finish_many(ue_bag *const *bags, size_t count, float *const *logits,
                                    double *seconds) {
    if (!bags || !logits)
        return UE_NULL_POINTER;
    ue_status status = check_bags(bags, count, logits);
    for (size_t first = 0; !status && first < count; first += UE_BATCH)
        status = finish_batch(bags + first, ue_least(UE_BATCH, count - first), seconds);
    for (size_t b = 0; !status && b < count; b++) {
        const struct ue_aggregator *aggregator = bags[b]->aggregator;
        memcpy(logits[b], bags[b]->logits,
               aggregator->weights.config.num_tasks * aggregator->most_classes * sizeof(float));
    }
    return status;
}

ue_status ue_aggregator_finish(ue_bag *bag, float *logits, double *seconds) {
    return ue_aggregator_finish_many(&bag, 1, &logits, seconds);
}

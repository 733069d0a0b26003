/* Into the blocks: layer1 on tokens as they arrive; the square grid and PPEG once all are there. */
#include <string.h>

#include "state.h"

struct embedding {
    struct ue_bag *bag;
    const float *tokens;
    size_t first, count, stride, rows; /* `rows` of an item */
};

static void embed_rows(void *context, size_t item, size_t worker) {
    const struct embedding *all = context;
    const struct ue_aggregator *aggregator = all->bag->aggregator;
    const struct ue_weights *weights = &aggregator->weights;
    const struct ue_kernels *kernels = aggregator->kernels;
    const size_t width = weights->config.embed_dim, stride = aggregator->stride;
    const size_t row = item * all->rows, rows = ue_least(all->rows, all->count - row);
    float *out = all->bag->embedded + (all->first + row) * stride, mean, inverse;
    (void)worker;
    for (size_t i = 0; i < rows; i++) {
        memcpy(out + i * stride, weights->layer1.bias, width * sizeof *out);
        memset(out + i * stride + width, 0, (stride - width) * sizeof *out);
    }
    ue_product(kernels, rows, stride, weights->config.embed_dim_in, all->tokens + row * all->stride,
               all->stride, aggregator->layer1, out, stride, true);
    for (size_t i = 0; i < rows; i++, out += stride) {
        kernels->moments(out, width, weights->config.layer1_norm_eps, &mean, &inverse);
        kernels->normalise(out, width, mean, inverse, weights->layer1_norm.weight,
                           weights->layer1_norm.bias, out);
        kernels->gelu(out, NULL, width);
    }
}

void ue_embed(struct ue_bag *bag, size_t first, const float *tokens, size_t count, size_t stride) {
    struct ue_pool *pool = bag->aggregator->pool;
    const size_t share = ue_divide_up(count, 4 * ue_pool_threads(pool));
    const size_t rows = ue_round_up(ue_least(share, 4 * UE_CHUNK), UE_CHUNK);
    struct embedding all = {bag, tokens, first, count, stride, rows};
    ue_pool_run(pool, ue_divide_up(count, rows), embed_rows, &all);
}

/* The padded grid's place p is tile p, or, after the last, again the tiles from the first on. */
static const float *pixel(const struct ue_bag *bag, size_t row, size_t column) {
    const size_t place = row * bag->side + column;
    const size_t tile = place < bag->n ? place : place - bag->n;
    return bag->embedded + (size_t)bag->order[tile] * bag->aggregator->stride;
}

static size_t grid_rows(const struct ue_run *run, const struct ue_bag *bag) {
    (void)run;
    return bag->side;
}

static void mix_row(const struct ue_run *run, struct ue_bag *bag, size_t row, void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const size_t side = bag->side, margin = UE_TAPS / 2, in_stride = side + 2 * margin;
    const float **in = scratch;
    for (size_t dy = 0; dy < UE_TAPS; dy++)
        for (size_t x = 0; x < in_stride; x++) {
            const bool inside =
                row + dy >= margin && row + dy - margin < side && x >= margin && x - margin < side;
            in[dy * in_stride + x] = inside ? pixel(bag, row + dy - margin, x - margin) : bag->zero;
        }
    aggregator->kernels->depthwise(in, in_stride, aggregator->taps, aggregator->taps_bias,
                                   aggregator->stride, side,
                                   bag->rows + row * side * aggregator->stride);
}

void ue_positions(const struct ue_run *run) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    for (size_t b = 0; b < run->count; b++)
        for (size_t i = 0; i < config->num_tasks; i++)
            memcpy(run->bags[b]->tasks + i * aggregator->stride,
                   aggregator->weights.task_tokens + i * config->embed_dim,
                   config->embed_dim * sizeof(float));
    ue_each_bag(run, grid_rows, mix_row);
}

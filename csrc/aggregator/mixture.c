/*
 * The soft mixture of experts: each row is routed to the slots, a slot is a weighted mean of all
 * rows, an expert sees its slots alone, and each row takes its share of every slot's output.
 */
#include <math.h>
#include <string.h>

#include "state.h"

/* ---- combine --------------------------------------------------------------------------------- */

/* x[r] += sum_s softmax(route[r])_s outputs[s]; `coefficients` has UE_CHUNK rows of slot_stride. */
void ue_combine(const struct ue_aggregator *aggregator, const struct ue_bag *bag,
                const float *route, size_t rows, float *x, float *coefficients) {
    const struct ue_kernels *kernels = aggregator->kernels;
    const size_t slots = aggregator->slots, stride = aggregator->stride;
    for (size_t r = 0; r < rows; r++) {
        const float *logits = route + r * aggregator->slot_stride;
        float *shares = coefficients + r * slots, most = logits[0];
        for (size_t s = 1; s < slots; s++)
            most = logits[s] > most ? logits[s] : most;
        for (size_t s = 0; s < slots; s++)
            shares[s] = logits[s] - most;
    }
    kernels->exponentials(coefficients, rows * slots, 0.0f);
    for (size_t r = 0; r < rows; r++) {
        float *shares = coefficients + r * slots, sum = 0.0f;
        for (size_t s = 0; s < slots; s++)
            sum += shares[s];
        for (size_t s = 0; s < slots; s++)
            shares[s] /= sum;
    }
    float *to[UE_MAX_ROWS];
    for (size_t row = 0; row < rows; row += kernels->tile.rows)
        for (size_t column = 0; column < stride; column += UE_PANEL) {
            const size_t here = ue_least(kernels->tile.rows, rows - row);
            for (size_t i = 0; i < here; i++)
                to[i] = x + (row + i) * stride + column;
            kernels->tile.multiply(here, slots, coefficients + row * slots, slots,
                                   bag->outputs + column, stride, to, true);
        }
}

/* ---- route and dispatch ---------------------------------------------------------------------- */

/* Item 0 is the task rows; the others are equal parts of the patch rows, however many threads. */
static size_t groups(const struct ue_run *run, const struct ue_bag *bag) {
    (void)run;
    (void)bag;
    return UE_GROUPS + 1;
}

/* The logits of some rows: y phi for y = LN(x) / |LN(x)|; LN(x) goes to `normed`. */
static void route_rows(const struct ue_run *run, const float *x, size_t rows, float *normed,
                       float *inverse_length, float *route) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    const struct ue_linear *norm = &run->weights->norm2;
    const size_t stride = aggregator->stride, slot_stride = aggregator->slot_stride;
    for (size_t r = 0; r < rows; r++) {
        float mean, inverse;
        aggregator->kernels->moments(x + r * stride, config->embed_dim, config->norm_eps, &mean,
                                     &inverse);
        const float squares =
            aggregator->kernels->normalise(x + r * stride, config->embed_dim, mean, inverse,
                                           norm->weight, norm->bias, normed + r * stride);
        inverse_length[r] = 1.0f / fmaxf(sqrtf(squares), 1e-12f);
    }
    ue_product(aggregator->kernels, rows, aggregator->slots, config->embed_dim, normed, stride,
               aggregator->phi + run->block * slot_stride * config->embed_dim, route, slot_stride,
               false);
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < aggregator->slots; s++)
            route[r * slot_stride + s] *= inverse_length[r];
}

/* exp(logit - most) of some rows, [S][UE_CHUNK]; what was summed before is brought to the new most.
 */
static void weigh_rows(const struct ue_aggregator *aggregator, struct ue_partial *partial,
                       const float *route, size_t rows, bool first, float *weights) {
    const size_t width = aggregator->weights.config.embed_dim;
    for (size_t s = 0; s < aggregator->slots; s++) {
        float *slot = weights + s * UE_CHUNK, most = first ? -INFINITY : partial->most[s];
        float *sum = partial->sum + s * aggregator->stride, total = 0.0f;
        for (size_t r = 0; r < rows; r++) {
            slot[r] = route[r * aggregator->slot_stride + s];
            most = slot[r] > most ? slot[r] : most;
        }
        aggregator->kernels->exponentials(slot, rows, most);
        for (size_t r = 0; r < rows; r++)
            total += slot[r];
        if (!first && most > partial->most[s]) {
            const float shrink = expf(partial->most[s] - most);
            partial->weight[s] *= shrink;
            for (size_t c = 0; c < width; c++)
                sum[c] *= shrink;
        }
        partial->most[s] = most;
        partial->weight[s] = total + (first ? 0.0f : partial->weight[s]);
    }
}

static void sum_rows(const struct ue_aggregator *aggregator, struct ue_partial *partial,
                     const float *normed, size_t rows, bool first, const float *weights) {
    const struct ue_kernels *kernels = aggregator->kernels;
    const size_t stride = aggregator->stride, slots = aggregator->slots;
    const size_t tiles = ue_divide_up(slots, kernels->tile.rows);
    float *to[UE_MAX_ROWS];
    for (size_t tile = 0, slot = 0; tile < tiles; tile++) {
        const size_t end = slots * (tile + 1) / tiles;
        for (size_t column = 0; column < stride; column += UE_PANEL) {
            for (size_t s = slot; s < end; s++)
                to[s - slot] = partial->sum + s * stride + column;
            kernels->tile.multiply(end - slot, rows, weights + slot * UE_CHUNK, UE_CHUNK,
                                   normed + column, stride, to, !first);
        }
        slot = end;
    }
}

static void route_group(const struct ue_run *run, struct ue_bag *bag, size_t item, void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const size_t stride = aggregator->stride, slot_stride = aggregator->slot_stride;
    const size_t patches = ue_patches(bag), group = item - 1;
    const size_t first = item ? patches * group / UE_GROUPS : 0;
    const size_t end =
        item ? patches * (group + 1) / UE_GROUPS : aggregator->weights.config.num_tasks;
    const float *x = item ? bag->rows : bag->tasks;
    float *route = item ? bag->route : bag->task_route, *normed = scratch;
    float *weights = normed + UE_CHUNK * stride, lengths[UE_CHUNK];
    for (size_t s = 0; s < aggregator->slots; s++)
        bag->partial[item].most[s] = -INFINITY,
        bag->partial[item].weight[s] = 0.0f; /* no rows yet */
    for (size_t row = first; row < end; row += UE_CHUNK) {
        const size_t rows = ue_least(UE_CHUNK, end - row);
        route_rows(run, x + row * stride, rows, normed, lengths, route + row * slot_stride);
        weigh_rows(aggregator, &bag->partial[item], route + row * slot_stride, rows, row == first,
                   weights);
        for (size_t s = 0; s < aggregator->slots; s++)
            for (size_t r = 0; r < rows; r++)
                weights[s * UE_CHUNK + r] *= lengths[r];
        sum_rows(aggregator, &bag->partial[item], normed, rows, row == first, weights);
    }
}

static size_t slots_of(const struct ue_run *run, const struct ue_bag *bag) {
    (void)bag;
    return run->aggregator->slots;
}

/* One slot from its partial sums, always in the same order. */
static void merge_slot(const struct ue_run *run, struct ue_bag *bag, size_t slot, void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const float *rows[UE_GROUPS + 1];
    float scale[UE_GROUPS + 1], most = -INFINITY, total = 0.0f;
    size_t count = 0;
    (void)scratch;
    for (size_t g = 0; g <= UE_GROUPS; g++)
        most = bag->partial[g].most[slot] > most ? bag->partial[g].most[slot] : most;
    for (size_t g = 0; g <= UE_GROUPS; g++) {
        const struct ue_partial *partial = &bag->partial[g];
        if (partial->weight[slot] == 0.0f) /* not of NaN, which must reach the logits */
            continue;
        scale[count] = expf(partial->most[slot] - most);
        rows[count] = partial->sum + slot * aggregator->stride;
        total += scale[count++] * partial->weight[slot];
    }
    for (size_t g = 0; g < count; g++)
        scale[g] /= total;
    aggregator->kernels->weighted_sum(rows, scale, count, aggregator->weights.config.embed_dim,
                                      bag->slots + slot * aggregator->stride);
}

void ue_route(const struct ue_run *run) {
    ue_each_bag(run, groups, route_group);
    ue_each_bag(run, slots_of, merge_slot);
}

/* ---- experts: Linear, GELU, Linear, on an expert's slots of all bags ------------------------- */

enum { HIDDEN_ROWS = 64, OUTPUT_ROWS = 32, MOST_VECTORS = UE_BATCH * 64 };

struct slot_vectors {
    const float *x[MOST_VECTORS];
    float *y[MOST_VECTORS];
    size_t count;
};

/* Rows [first, first + rows) of an expert's matrix times its slots of every bag. */
static void multiply_slots(const struct ue_run *run, const struct ue_matrix *matrix, size_t expert,
                           bool second, size_t first, size_t rows, struct slot_vectors *v) {
    const struct ue_config *config = &run->aggregator->weights.config;
    const size_t stride = run->aggregator->stride, per = config->slots_per_expert;
    v->count = 0;
    for (size_t b = 0; b < run->count; b++)
        for (size_t slot = expert * per; slot < (expert + 1) * per; slot++, v->count++) {
            const struct ue_bag *bag = run->bags[b];
            float *hidden = bag->hidden + slot * config->hidden_dim;
            v->x[v->count] = second ? hidden : bag->slots + slot * stride;
            v->y[v->count] = (second ? bag->outputs + slot * stride : hidden) + first;
        }
    run->aggregator->kernels->dots(
        matrix, first, rows, second ? config->hidden_dim : config->embed_dim, v->x, v->count, v->y);
}

/* Which expert, and which rows of its matrix of `total` rows, an item is. */
struct span {
    size_t expert, first, rows;
};

static struct span span_of(size_t item, size_t total, size_t rows) {
    const size_t items = ue_divide_up(total, rows), first = item % items * rows;
    return (struct span){item / items, first, ue_least(rows, total - first)};
}

static void first_layer(void *context, size_t item, size_t worker) {
    const struct ue_run *run = context;
    const struct span span = span_of(item, run->aggregator->weights.config.hidden_dim, HIDDEN_ROWS);
    const struct ue_expert *expert = &run->weights->experts[span.expert];
    struct slot_vectors v;
    (void)worker;
    multiply_slots(run, &expert->fc1, span.expert, false, span.first, span.rows, &v);
    for (size_t i = 0; i < v.count; i++)
        run->aggregator->kernels->gelu(v.y[i], expert->fc1_bias + span.first, span.rows);
}

static void second_layer(void *context, size_t item, size_t worker) {
    const struct ue_run *run = context;
    const struct span span = span_of(item, run->aggregator->weights.config.embed_dim, OUTPUT_ROWS);
    const struct ue_expert *expert = &run->weights->experts[span.expert];
    struct slot_vectors v;
    (void)worker;
    multiply_slots(run, &expert->fc2, span.expert, true, span.first, span.rows, &v);
    for (size_t i = 0; i < v.count; i++)
        for (size_t r = 0; r < span.rows; r++)
            v.y[i][r] += expert->fc2_bias[span.first + r];
}

void ue_experts(struct ue_run *run) {
    const struct ue_config *config = &run->aggregator->weights.config;
    ue_all_bags(run, config->num_experts * ue_divide_up(config->hidden_dim, HIDDEN_ROWS),
                first_layer);
    ue_all_bags(run, config->num_experts * ue_divide_up(config->embed_dim, OUTPUT_ROWS),
                second_layer);
}

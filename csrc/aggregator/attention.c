/*
 * Task attention, without K and V: effective queries, scores, the m best rows of each head, the
 * tasks' own outputs, and the patch rows' share, which touches the kept rows alone.
 */
#include <math.h>
#include <string.h>

#include "select.h"
#include "state.h"

/* ---- what a block ends and begins with: the task rows, complete and normalised --------------- */

static void add_mass(struct ue_bag *bag) {
    const struct ue_config *config = &bag->aggregator->weights.config;
    const size_t patches = ue_patches(bag);
    for (size_t query = 0; query < bag->aggregator->queries; query++) {
        const uint32_t *kept = bag->kept + query * bag->most_kept;
        const float *share = bag->share + query * bag->most_kept;
        float *mass = bag->mass + query / config->num_heads * patches;
        for (size_t j = 0; j < bag->kept_count; j++)
            mass[kept[j]] += share[j];
    }
}

void ue_end_block(struct ue_bag *bag, size_t block, float *coefficients) {
    const struct ue_aggregator *aggregator = bag->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    add_mass(bag);
    for (size_t i = 0; i < config->num_tasks; i++) {
        float *x = bag->tasks + i * aggregator->stride;
        ue_combine(aggregator, bag, bag->task_route + i * aggregator->slot_stride, 1, x,
                   coefficients);
        memcpy(bag->history + (block * config->num_tasks + i) * config->embed_dim, x,
               config->embed_dim * sizeof *x);
    }
}

static size_t one(const struct ue_run *run, const struct ue_bag *bag) {
    (void)run;
    (void)bag;
    return 1;
}

static void begin(const struct ue_run *run, struct ue_bag *bag, size_t item, void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    const struct ue_linear *norm = &run->weights->norm1;
    (void)item;
    if (run->block)
        ue_end_block(bag, run->block - 1, scratch);
    for (size_t i = 0; i < config->num_tasks; i++) {
        const float *x = bag->tasks + i * aggregator->stride;
        float mean, inverse;
        aggregator->kernels->moments(x, config->embed_dim, config->norm_eps, &mean, &inverse);
        aggregator->kernels->normalise(x, config->embed_dim, mean, inverse, norm->weight,
                                       norm->bias, bag->normed + i * aggregator->stride);
    }
}

/* ---- effective queries: Wk^T q / sqrt(D), times the norm's weight ---------------------------- */

enum { ROWS = 64 }; /* of a weight matrix: one item of a matrix-vector product */

static void project_query(void *context, size_t item, size_t worker) {
    const struct ue_run *run = context;
    const struct ue_config *config = &run->aggregator->weights.config;
    const size_t width = config->embed_dim, stride = run->aggregator->stride;
    const size_t items = ue_divide_up(width, ROWS), task = item / items;
    const size_t first = item % items * ROWS, rows = ue_least(ROWS, width - first);
    const struct ue_linear *linear = &run->weights->queries[task];
    const struct ue_matrix matrix = {linear->weight, NULL, UE_STORED_F32};
    const float *x[UE_BATCH];
    float *y[UE_BATCH];
    (void)worker;
    for (size_t b = 0; b < run->count; b++) {
        x[b] = run->bags[b]->normed + task * stride;
        y[b] = run->bags[b]->query + task * stride + first;
    }
    run->aggregator->kernels->dots(&matrix, first, rows, width, x, run->count, y);
    for (size_t b = 0; linear->bias && b < run->count; b++)
        for (size_t r = 0; r < rows; r++)
            y[b][r] += linear->bias[first + r];
}

static size_t heads_of(const struct ue_run *run, const struct ue_bag *bag) {
    (void)bag;
    return run->aggregator->weights.config.num_heads;
}

/*
 * The D rows of Wk that belong to a head, weighted by each task's query. The norm's weight is taken
 * in here, so that rows need only be standardised; its bias adds a constant to a head's scores,
 * which moves neither their order nor their softmax.
 */
static void effective_query(const struct ue_run *run, struct ue_bag *bag, size_t head,
                            void *scratch) {
    const struct ue_config *config = &run->aggregator->weights.config;
    const size_t width = config->embed_dim, depth = config->head_dim;
    const float *keys = run->weights->kv.weight + head * depth * width;
    const float scale = 1.0f / sqrtf((float)depth), *norm = run->weights->norm1.weight;
    const float **rows = scratch;
    float *sum = (float *)(rows + depth);
    for (size_t d = 0; d < depth; d++)
        rows[d] = keys + d * width;
    for (size_t task = 0; task < config->num_tasks; task++) {
        const float *query = bag->query + task * run->aggregator->stride + head * depth;
        size_t step;
        float *column =
            ue_panel_column(run->aggregator->kernels, bag->effective, run->aggregator->queries,
                            width, task * config->num_heads + head, &step);
        run->aggregator->kernels->weighted_sum(rows, query, depth, width, sum);
        for (size_t c = 0; c < width; c++)
            column[c * step] = scale * sum[c] * norm[c];
    }
}

void ue_queries(struct ue_run *run) {
    const struct ue_config *config = &run->aggregator->weights.config;
    ue_each_bag(run, one, begin);
    ue_all_bags(run, config->num_tasks * ue_divide_up(config->embed_dim, ROWS), project_query);
    ue_each_bag(run, heads_of, effective_query);
}

/* ---- scores: complete the rows of X, standardise them, multiply by the effective queries ----- */

static size_t chunks(const struct ue_run *run, const struct ue_bag *bag) {
    (void)run;
    return ue_divide_up(ue_patches(bag), UE_CHUNK);
}

static void score_rows(const struct ue_run *run, struct ue_bag *bag, size_t item, void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    const size_t stride = aggregator->stride, first = item * UE_CHUNK;
    const size_t rows = ue_least(UE_CHUNK, ue_patches(bag) - first);
    float *x = bag->rows + first * stride, *normed = scratch;
    float *products = normed + UE_CHUNK * stride;
    if (run->block)
        ue_combine(aggregator, bag, bag->route + first * aggregator->slot_stride, rows, x, normed);
    for (size_t r = 0; r < rows; r++) {
        float *moments = bag->moments + 2 * (first + r);
        aggregator->kernels->moments(x + r * stride, config->embed_dim, config->norm_eps,
                                     &moments[0], &moments[1]);
        aggregator->kernels->standardise(x + r * stride, config->embed_dim, moments[0], moments[1],
                                         normed + r * stride);
    }
    ue_product(aggregator->kernels, rows, aggregator->queries, config->embed_dim, normed, stride,
               bag->effective, products, aggregator->query_stride, false);
    for (size_t q = 0; q < aggregator->queries; q++)
        for (size_t r = 0; r < rows; r++)
            bag->scores[q * bag->score_stride + first + r] =
                products[r * aggregator->query_stride + q];
}

void ue_scores(const struct ue_run *run) {
    ue_each_bag(run, chunks, score_rows);
}

/* ---- selection: the m best rows, their softmax, weighted sum and share of the head ----------- */

static size_t queries_of(const struct ue_run *run, const struct ue_bag *bag) {
    (void)bag;
    return run->aggregator->queries;
}

/*
 * The m best rows of a query, and their softmax p. What multiplies a row x_j in sum_j p_j f_j,
 * where f_j = (x_j - mean_j) / deviation_j * weight + bias, is p_j / deviation_j; `centre` is the
 * sum of that times mean_j.
 */
static void select_rows(const struct ue_run *run, struct ue_bag *bag, size_t query, void *scratch) {
    const float *scores = bag->scores + query * bag->score_stride;
    uint32_t *kept = bag->kept + query * bag->most_kept;
    float *share = bag->share + query * bag->most_kept, most = -INFINITY, sum = 0.0f;
    float *scale = bag->scale + query * bag->most_kept, centre = 0.0f;
    ue_top_m(scores, ue_patches(bag), bag->kept_count, kept, scratch);
    for (size_t j = 0; j < bag->kept_count; j++) {
        share[j] = scores[kept[j]];
        most = share[j] > most ? share[j] : most;
    }
    run->aggregator->kernels->exponentials(share, bag->kept_count, most);
    for (size_t j = 0; j < bag->kept_count; j++)
        sum += share[j];
    for (size_t j = 0; j < bag->kept_count; j++) {
        const float *moments = bag->moments + 2 * (size_t)kept[j];
        share[j] /= sum;
        scale[j] = share[j] * moments[1];
        centre += scale[j] * moments[0];
    }
    bag->centre[query] = centre;
}

/* p_j f_j, of the head's own channels only. */
static void gather_rows(const struct ue_run *run, struct ue_bag *bag, size_t query,
                        const float *const *rows) {
    const size_t depth = run->aggregator->weights.config.head_dim;
    const size_t first = query % run->aggregator->weights.config.num_heads * depth;
    const float *weight = run->weights->norm1.weight + first;
    const float *bias = run->weights->norm1.bias + first;
    const uint32_t *kept = bag->kept + query * bag->most_kept;
    const float *share = bag->share + query * bag->most_kept;
    const float *scale = bag->scale + query * bag->most_kept;
    float *out = bag->gathered + query * bag->most_kept * depth;
    for (size_t j = 0; j < bag->kept_count; j++, out += depth) {
        const float mean = bag->moments[2 * (size_t)kept[j]];
        for (size_t d = 0; d < depth; d++)
            out[d] = (rows[j][d] - mean) * scale[j] * weight[d] + share[j] * bias[d];
    }
}

/*
 * The channels of one head, for all queries, so that X is brought into the cache once: what each
 * query's rows sum to, and the rows themselves for the queries of that head.
 */
static void pool_channels(const struct ue_run *run, struct ue_bag *bag, size_t head,
                          void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const size_t depth = aggregator->weights.config.head_dim, first = head * depth;
    const float *weight = run->weights->norm1.weight + first;
    const float *bias = run->weights->norm1.bias + first;
    const float **rows = scratch;
    for (size_t query = 0; query < aggregator->queries; query++) {
        float *pooled = bag->pooled + query * aggregator->stride + first;
        for (size_t j = 0; j < bag->kept_count; j++)
            rows[j] =
                bag->rows + bag->kept[query * bag->most_kept + j] * aggregator->stride + first;
        aggregator->kernels->weighted_sum(rows, bag->scale + query * bag->most_kept,
                                          bag->kept_count, depth, pooled);
        for (size_t d = 0; d < depth; d++)
            pooled[d] = (pooled[d] - bag->centre[query]) * weight[d] + bias[d];
        if (query % aggregator->weights.config.num_heads == head)
            gather_rows(run, bag, query, rows);
    }
}

void ue_select(const struct ue_run *run) {
    ue_each_bag(run, queries_of, select_rows);
    ue_each_bag(run, heads_of, pool_channels);
}

/* ---- outputs: of the tasks, V of the pooled rows; of the patches, the kept rows -------------- */

/* Row `first` + r of the head's values, of every task of every bag. */
static void project_values(void *context, size_t head, size_t worker) {
    const struct ue_run *run = context;
    const struct ue_config *config = &run->aggregator->weights.config;
    const size_t width = config->embed_dim, depth = config->head_dim, tasks = config->num_tasks;
    const size_t stride = run->aggregator->stride, first = head * depth;
    const struct ue_linear *kv = &run->weights->kv;
    const struct ue_matrix matrix = {kv->weight + width * width, NULL, UE_STORED_F32};
    const float *x[UE_BATCH * UE_MAX_TASKS];
    float *y[UE_BATCH * UE_MAX_TASKS];
    (void)worker;
    for (size_t b = 0; b < run->count; b++)
        for (size_t i = 0; i < tasks; i++) {
            x[b * tasks + i] = run->bags[b]->pooled + (i * config->num_heads + head) * stride;
            y[b * tasks + i] = run->bags[b]->value + i * stride + first;
        }
    run->aggregator->kernels->dots(&matrix, first, depth, width, x, run->count * tasks, y);
    for (size_t v = 0; kv->bias && v < run->count * tasks; v++)
        for (size_t d = 0; d < depth; d++)
            y[v][d] += kv->bias[width + first + d];
}

/* Panels of X that one item of the patch projection owns: no two threads write one element. */
static size_t strip_panels(const struct ue_run *run) {
    const size_t panels = run->aggregator->stride / UE_PANEL;
    const size_t share = panels / (4 * ue_pool_threads(run->aggregator->pool));
    return share < 1 ? 1 : ue_least(share, UE_PANELS);
}

static size_t strips(const struct ue_run *run, const struct ue_bag *bag) {
    (void)bag;
    return ue_divide_up(run->aggregator->stride / UE_PANEL, strip_panels(run));
}

/* X[kept] += gathered E^T, for one head and some panels of columns. */
static void scatter_head(const struct ue_run *run, struct ue_bag *bag, size_t query, size_t column,
                         size_t panels, const float *expert) {
    const struct ue_tile *tile = &run->aggregator->kernels->tile;
    const struct ue_config *config = &run->aggregator->weights.config;
    const size_t depth = config->head_dim, stride = run->aggregator->stride;
    const uint32_t *kept = bag->kept + query * bag->most_kept;
    const float *gathered = bag->gathered + query * bag->most_kept * depth;
    float *to[UE_MAX_ROWS];
    for (size_t row = 0; row < bag->kept_count; row += tile->rows) {
        const size_t rows = ue_least(tile->rows, bag->kept_count - row);
        for (size_t panel = 0; panel < panels; panel++) {
            for (size_t i = 0; i < rows; i++)
                to[i] = bag->rows + kept[row + i] * stride + column + panel * UE_PANEL;
            tile->multiply(rows, depth, gathered + row * depth, depth,
                           expert + panel * config->embed_dim * UE_PANEL, UE_PANEL, to, true);
        }
    }
}

static void project_strip(const struct ue_run *run, struct ue_bag *bag, size_t item,
                          void *scratch) {
    const struct ue_aggregator *aggregator = run->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    const size_t width = config->embed_dim, stride = aggregator->stride;
    const size_t column = item * strip_panels(run) * UE_PANEL;
    const size_t panels = ue_least(strip_panels(run), (stride - column) / UE_PANEL);
    (void)scratch;
    for (size_t task = 0; task < config->num_tasks; task++) {
        const float *expert = aggregator->task_experts + column * width +
                              (run->block * config->num_tasks + task) * stride * width;
        ue_product(aggregator->kernels, 1, panels * UE_PANEL, width, bag->value + task * stride,
                   stride, expert, bag->tasks + task * stride + column, stride, true);
        for (size_t head = 0; head < config->num_heads; head++)
            scatter_head(run, bag, task * config->num_heads + head, column, panels,
                         expert + head * config->head_dim * UE_PANEL);
    }
}

void ue_project(struct ue_run *run) {
    ue_all_bags(run, run->aggregator->weights.config.num_heads, project_values);
    ue_each_bag(run, strips, project_strip);
}

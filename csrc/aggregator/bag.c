/* A bag: its one arena, the tokens pushed into it, and the order in which they stand. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "select.h"
#include "state.h"
#include "system/memory.h"

/* ---- the arena: laid out twice, first to measure it ------------------------------------------ */

struct layout {
    char *base; /* NULL while measuring */
    size_t used;
    bool overflow;
};

static void *take(struct layout *layout, size_t count, size_t size) {
    const size_t begin = ue_round_up(layout->used, UE_ALIGNMENT);
    if (count > (SIZE_MAX / 4 - begin) / size) {
        layout->overflow = true;
        return NULL;
    }
    layout->used = begin + count * size;
    return layout->base ? layout->base + begin : NULL;
}

static float *floats(struct layout *layout, size_t rows, size_t stride) {
    if (stride && rows > SIZE_MAX / 8 / stride)
        layout->overflow = true;
    return take(layout, layout->overflow ? 0 : rows * stride, sizeof(float));
}

static size_t most(size_t a, size_t b) {
    return a > b ? a : b;
}

/* What the hungriest pass of a worker needs: see `scratch` in each of them. */
static size_t scratch_bytes(const struct ue_aggregator *aggregator, size_t side, size_t kept) {
    const struct ue_config *config = &aggregator->weights.config;
    const size_t pixels = UE_TAPS * (side + UE_TAPS) * sizeof(float *);
    const size_t scores = UE_CHUNK * (aggregator->stride + aggregator->query_stride);
    const size_t route = UE_CHUNK * (aggregator->stride + aggregator->slot_stride);
    const size_t pool = kept * sizeof(float *);
    const size_t query = config->head_dim * sizeof(float *) + aggregator->stride * sizeof(float);
    const size_t products = most(scores, route) * sizeof(float);
    return ue_round_up(
        most(most(most(pixels, products), most(pool, query)), ue_select_scratch(side * side)),
        UE_ALIGNMENT);
}

/* What grows with the number of tiles. */
static void lay_out_rows(struct ue_bag *bag, struct layout *layout, size_t patches) {
    const struct ue_aggregator *aggregator = bag->aggregator;
    bag->pushed = take(layout, bag->capacity, sizeof *bag->pushed);
    bag->order = take(layout, bag->capacity, sizeof *bag->order);
    bag->embedded = floats(layout, bag->capacity, aggregator->stride);
    bag->rows = floats(layout, patches, aggregator->stride);
    bag->moments = floats(layout, patches, 2);
    bag->scores = floats(layout, aggregator->queries, bag->score_stride);
    bag->route = floats(layout, patches, aggregator->slot_stride);
    bag->mass = floats(layout, aggregator->weights.config.num_tasks, patches);
}

/* What does not. */
static void lay_out_fixed(struct ue_bag *bag, struct layout *layout) {
    const struct ue_aggregator *aggregator = bag->aggregator;
    const struct ue_config *config = &aggregator->weights.config;
    const size_t stride = aggregator->stride, tasks = config->num_tasks, slots = aggregator->slots;
    bag->kept = take(layout, aggregator->queries * bag->most_kept, sizeof *bag->kept);
    bag->share = floats(layout, aggregator->queries, bag->most_kept);
    bag->scale = floats(layout, aggregator->queries, bag->most_kept);
    bag->centre = floats(layout, aggregator->queries, 1);
    bag->gathered = floats(layout, aggregator->queries * bag->most_kept, config->head_dim);
    bag->pooled = floats(layout, aggregator->queries, stride);
    bag->effective = floats(layout, aggregator->query_stride, config->embed_dim);
    bag->tasks = floats(layout, tasks, stride);
    bag->task_route = floats(layout, tasks, aggregator->slot_stride);
    bag->normed = floats(layout, tasks, stride);
    bag->query = floats(layout, tasks, stride);
    bag->value = floats(layout, tasks, stride);
    for (size_t g = 0; g <= UE_GROUPS; g++) {
        bag->partial[g].most = floats(layout, slots, 1);
        bag->partial[g].weight = floats(layout, slots, 1);
        bag->partial[g].sum = floats(layout, slots, stride);
    }
    bag->slots = floats(layout, slots, stride);
    bag->hidden = floats(layout, slots, config->hidden_dim);
    bag->outputs = floats(layout, slots, stride);
    bag->history = floats(layout, config->depth * tasks, config->embed_dim);
    bag->logits = floats(layout, tasks, aggregator->most_classes);
    bag->zero = floats(layout, 1, stride);
    bag->scratch = take(layout, ue_pool_threads(aggregator->pool), bag->scratch_bytes);
}

static size_t square_side(size_t n) {
    size_t side = (size_t)sqrt((double)n);
    while (side * side < n)
        side++;
    return side;
}

static struct layout lay_out(struct ue_bag *bag, void *base) {
    const size_t side = square_side(bag->capacity);
    struct layout layout = {base, 0, false};
    bag->score_stride = ue_round_up(side * side, UE_PANEL);
    bag->most_kept = ue_least(bag->aggregator->weights.config.top_m, side * side);
    bag->scratch_bytes = scratch_bytes(bag->aggregator, side, bag->most_kept);
    lay_out_rows(bag, &layout, side * side);
    lay_out_fixed(bag, &layout);
    return layout;
}

ue_status ue_aggregator_bag(ue_aggregator *aggregator, size_t capacity, ue_bag **out) {
    if (!aggregator || !out)
        return UE_NULL_POINTER;
    *out = NULL;
    if (!aggregator->usable || capacity < 1 || capacity > UE_MAX_TILES)
        return UE_BAD_OPTIONS;
    ue_bag *bag = calloc(1, sizeof *bag);
    if (!bag)
        return UE_NO_MEMORY;
    bag->aggregator = aggregator;
    bag->capacity = capacity;
    const struct layout layout = lay_out(bag, NULL);
    bag->arena_bytes = layout.used;
    bag->arena = layout.overflow ? NULL : ue_shelf_take(&aggregator->arenas, layout.used);
    if (!bag->arena) {
        free(bag);
        return UE_NO_MEMORY;
    }
    lay_out(bag, bag->arena);
    /* All else is written before it is read; of these the padding of rows, or what has no token. */
    memset(bag->pushed, 0, capacity * sizeof *bag->pushed);
    memset(bag->zero, 0, aggregator->stride * sizeof(float));
    memset(bag->tasks, 0,
           aggregator->weights.config.num_tasks * aggregator->stride * sizeof(float));
    memset(bag->outputs, 0, aggregator->slots * aggregator->stride * sizeof(float));
    *out = bag;
    return UE_OK;
}

void ue_aggregator_free_bag(ue_bag *bag) {
    if (!bag)
        return;
    ue_shelf_return(&bag->aggregator->arenas, bag->arena);
    free(bag);
}

size_t ue_aggregator_bag_bytes(const ue_bag *bag) {
    return bag ? bag->arena_bytes : 0;
}

const char *ue_aggregator_bag_error(const ue_bag *bag) {
    return bag ? bag->error.text : ue_status_text(UE_NULL_POINTER);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

ue_status ue_aggregator_push(ue_bag *bag, size_t first, const float *tokens, size_t count,
                             size_t stride) {
    if (!bag || !tokens)
        return UE_NULL_POINTER;
    const size_t depth = bag->aggregator->weights.config.embed_dim_in;
    if (count > bag->capacity || first > bag->capacity - count || stride < depth)
        return ue_fail(
            &bag->error, UE_BAD_TOKENS,
            "%zu tokens from index %zu on (of %zu floats, %zu apart) do not fit a bag of "
            "%zu",
            count, first, depth, stride, bag->capacity);
    if (!count)
        return UE_OK;
    for (size_t i = 0; i < count; i++)
        if (!bag->aggregator->kernels->finite(tokens + i * stride, depth))
            return ue_fail(&bag->error, UE_BAD_TOKENS,
                           "token %zu is not finite: look at that tile and at the encoder's "
                           "precision",
                           first + i);
    ue_embed(bag, first, tokens, count, stride);
    memset(bag->pushed + first, 1, count);
    bag->finished = false;
    return UE_OK;
}

ue_status ue_aggregator_arrange(ue_bag *bag, const size_t *order, size_t n) {
    if (!bag)
        return UE_NULL_POINTER;
    bag->finished = false;
    bag->n = 0;
    if (n < 1 || n > bag->capacity)
        return ue_fail(&bag->error, UE_BAD_TOKENS,
                       "%zu tokens: a bag needs at least one tile, and this one holds %zu", n,
                       bag->capacity);
    for (size_t i = 0; i < n; i++) {
        const size_t token = order ? order[i] : i;
        if (token >= bag->capacity || !bag->pushed[token])
            return ue_fail(&bag->error, UE_BAD_TOKENS, "token %zu was never pushed", token);
        bag->order[i] = (uint32_t)token;
    }
    bag->n = n;
    bag->side = square_side(n);
    bag->kept_count = ue_least(bag->most_kept, ue_patches(bag));
    return UE_OK;
}

/* ---- results --------------------------------------------------------------------------------- */

static ue_status unfinished(ue_bag *bag) {
    return ue_fail(&bag->error, UE_BAD_TOKENS, "the bag is not finished: call finish first");
}

ue_status ue_aggregator_explain(ue_bag *bag, float *attention) {
    if (!bag || !attention)
        return UE_NULL_POINTER;
    if (!bag->finished)
        return unfinished(bag);
    const struct ue_config *config = &bag->aggregator->weights.config;
    const float scale = 1.0f / (float)(config->num_heads * config->depth);
    const size_t patches = ue_patches(bag);
    for (size_t task = 0; task < config->num_tasks; task++, attention += bag->n) {
        const float *mass = bag->mass + task * patches;
        for (size_t j = 0; j < bag->n; j++) /* a padding row counts for the tile it repeats */
            attention[j] = scale * (mass[j] + (j < patches - bag->n ? mass[bag->n + j] : 0.0f));
    }
    return UE_OK;
}

ue_status ue_aggregator_task_tokens(ue_bag *bag, float *tokens) {
    if (!bag || !tokens)
        return UE_NULL_POINTER;
    if (!bag->finished)
        return unfinished(bag);
    const struct ue_config *config = &bag->aggregator->weights.config;
    memcpy(tokens, bag->history,
           config->depth * config->num_tasks * config->embed_dim * sizeof *tokens);
    return UE_OK;
}

/*
 * What the passes share: an aggregator (weights, prepared once, read-only), a bag (one slide and
 * all the memory its passes need), a run (bags that go through the blocks side by side).
 *
 * Letters as in unicas_edge.h: n tiles, N rows after padding to a square, C width, H heads of D
 * channels, t tasks, m rows kept by a head, S slots of all experts, Q = t H queries.
 */
#ifndef UE_STATE_H
#define UE_STATE_H

#include "aggregator/kernels/kernels.h"
#include "system/memory.h"
#include "system/pool.h"
#include "weights.h"

enum {
    UE_CHUNK = 24,  /* rows that a pass works on at once: a multiple of every variant's tile */
    UE_GROUPS = 32, /* parts of the rows whose slots are summed apart, then merged in order */
    UE_BATCH = 16,  /* bags that go through the blocks side by side */
    UE_PANELS = 4   /* of one item of the patch projection, at most */
};

struct ue_aggregator {
    struct ue_weights weights;
    const struct ue_kernels *kernels;
    struct ue_pool *pool;
    /* Rows of C, Q and S floats are this long: rounded up to UE_PANEL, the rest zero. */
    size_t stride, query_stride, slot_stride;
    size_t queries, slots, most_classes; /* Q, S, of any task */
    bool usable;
    struct ue_shelf arenas;  /* of the bag freed last */
    float *prepared;         /* one allocation for what follows */
    float *layer1;           /* panels of layer1's weight */
    float *taps, *taps_bias; /* PPEG as one kernel [49][stride], [stride] */
    float *task_experts;     /* a block, a task: panels of its expert */
    float *phi;              /* a block: panels of phi, normalised and scaled */
    size_t prepared_bytes;
    struct ue_error error;
};

/* Sums over some rows of exp(logit - most) * row: the online softmax of dispatch. */
struct ue_partial {
    float *most, *weight, *sum; /* [S], [S], [S][stride] */
};

struct ue_bag {
    struct ue_aggregator *aggregator;
    struct ue_error error;
    size_t capacity, arena_bytes;
    void *arena;
    size_t n, side;      /* of the arrangement */
    bool finished;       /* the results below are those of the arrangement */
    uint8_t *pushed;     /* [capacity] */
    uint32_t *order;     /* [capacity]: which pushed token is tile 0, 1, ... */
    float *embedded;     /* [capacity][stride]: layer1 of the tokens, as pushed */
    float *tasks, *rows; /* X: [t][stride], [N][stride] */
    float *moments;      /* [N][2]: mean and 1 / deviation of each row */
    float *scores;       /* [Q][score_stride] */
    size_t score_stride;
    float *task_route, *route; /* logits of the slots, [t], [N] rows of slot_stride */
    uint32_t *kept;            /* [Q][most_kept]: rows of the top m, ascending */
    float *share;              /* [Q][most_kept]: their softmax */
    float *scale, *centre;     /* share over the deviation, and the sum of that times the mean */
    size_t most_kept, kept_count;
    float *gathered; /* [Q][most_kept][D]: share times the head's channels of the row */
    float *pooled;   /* [Q][stride] */
    float *normed, *query, *value; /* [t][stride] each */
    float *effective;              /* panels of the effective queries [Q][C] */
    struct ue_partial partial[UE_GROUPS + 1];
    float *slots, *hidden, *outputs; /* [S][stride], [S][hidden], [S][stride] */
    float *mass;                     /* [t][N] */
    float *history;                  /* [L][t][C]: task tokens after each block */
    float *logits;                   /* [t][most classes] */
    float *zero;                     /* [stride] */
    char *scratch;
    size_t scratch_bytes; /* a worker */
};

struct ue_run {
    const struct ue_aggregator *aggregator;
    struct ue_bag *const *bags;
    size_t count;
    size_t block;
    const struct ue_block *weights; /* of that block */
    double since, seconds[UE_PASSES];
};

/* One item of work on one bag; `scratch` is the worker's alone. */
typedef void (*ue_bag_fn)(const struct ue_run *run, struct ue_bag *bag, size_t item, void *scratch);
typedef size_t (*ue_items_fn)(const struct ue_run *run, const struct ue_bag *bag);

/* Do every item of every bag of the run. */
void ue_each_bag(const struct ue_run *run, ue_items_fn items, ue_bag_fn work);

/* Do `items` pieces of work that serve all bags at once. */
void ue_all_bags(struct ue_run *run, size_t items, ue_work_fn work);

static inline size_t ue_round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static inline size_t ue_divide_up(size_t value, size_t by) {
    return (value + by - 1) / by;
}

static inline size_t ue_least(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t ue_patches(const struct ue_bag *bag) {
    return bag->side * bag->side;
}

/* product.c: c (+)= a times panels, and panels of the transpose of some rows of a matrix */
void ue_product(const struct ue_kernels *kernels, size_t rows, size_t columns, size_t depth,
                const float *a, size_t lda, const float *b, float *c, size_t ldc, bool accumulate);
/* Where column `column` of a matrix of panels begins, and the stride of its `depth` elements. */
float *ue_panel_column(const struct ue_kernels *kernels, float *panels, size_t columns,
                       size_t depth, size_t column, size_t *stride);
void ue_pack_rows(const float *matrix, size_t stride, size_t rows, size_t depth, float *panels);

/* The passes, in their order; block 0 begins with no combination of a block before. */
bool ue_prepare(struct ue_aggregator *aggregator);
void ue_embed(struct ue_bag *bag, size_t first, const float *tokens, size_t count, size_t stride);
void ue_positions(const struct ue_run *run);
void ue_queries(struct ue_run *run);
void ue_scores(const struct ue_run *run);
void ue_select(const struct ue_run *run);
void ue_project(struct ue_run *run);
void ue_route(const struct ue_run *run);
void ue_experts(struct ue_run *run);

/* Add what the experts made of the slots to `rows` rows of X: the end of a block. */
void ue_combine(const struct ue_aggregator *aggregator, const struct ue_bag *bag,
                const float *route, size_t rows, float *x, float *coefficients);

/* End a block for the task rows: combine them, note them, count the attention. */
void ue_end_block(struct ue_bag *bag, size_t block, float *coefficients);

#endif

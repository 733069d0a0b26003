/*
 * The aggregator's weights: a safetensors file, read, checked against the configuration in its
 * own metadata, and named. Keys and shapes are those of the published checkpoint
 * (unicas_edge/bundle/aggregator_file.py: parameter_shapes).
 */
#ifndef UE_WEIGHTS_H
#define UE_WEIGHTS_H

#include <stdbool.h>

#include "aggregator/kernels/matrix.h"
#include "system/error.h"

enum { UE_MAX_TASKS = 64 };

/* unicas_edge/bundle/manifest.py: AggregatorConfig, with the same bounds. */
struct ue_config {
    size_t embed_dim_in, embed_dim, depth, num_heads, num_tasks, num_experts, slots_per_expert;
    size_t top_m;
    size_t head_dim, hidden_dim; /* embed_dim / num_heads, (size_t)(embed_dim * mlp_ratio) */
    size_t classes[UE_MAX_TASKS];
    double mlp_ratio, norm_eps, layer1_norm_eps;
    bool qkv_bias;
};

struct ue_linear {
    const float *weight; /* [out, in] */
    const float *bias;   /* [out], or NULL */
};

struct ue_expert {
    struct ue_matrix fc1, fc2;        /* [hidden, C], [C, hidden] */
    const float *fc1_bias, *fc2_bias; /* [hidden], [C] */
};

struct ue_block {
    struct ue_linear norm1, norm2; /* weight and bias [C] */
    struct ue_linear kv;           /* [2 C, C]: keys, then values */
    struct ue_linear *queries;     /* a task: [C, C] */
    const float **task_experts;    /* a task: [C, C], no bias */
    const float *phi;              /* [C, experts * slots] */
    float scale;
    struct ue_expert *experts;
};

struct ue_weights {
    struct ue_config config;
    const float *task_tokens;      /* [t, C] */
    struct ue_linear layer1;       /* [C, embed_dim_in] */
    struct ue_linear layer1_norm;  /* [C] */
    struct ue_linear positions[3]; /* [C, 7, 7], [C, 5, 5], [C, 3, 3] and biases [C] */
    struct ue_linear norm;         /* [C] */
    struct ue_linear *heads;       /* a task: [classes, C] */
    struct ue_block *blocks;
    uint64_t stored_bytes;          /* of all tensors, as they lie in the file */
    uint64_t copied_bytes;          /* of memory for those that had to be converted or aligned */
    struct ue_weights_owner *owner; /* the file, and what had to be copied to be used */
};

/*
 * Fill `weights` from the safetensors file at `path` (UTF-8), or from `size` bytes that the caller
 * keeps until ue_weights_close. Tensors are used where they lie; those that are not aligned float32
 * are converted once (experts: only where not aligned to their element). On failure `weights` needs
 * no closing and `error` says which file, key and cause.
 */
ue_status ue_weights_open(struct ue_weights *weights, const char *path, struct ue_error *error);
ue_status ue_weights_parse(struct ue_weights *weights, const void *bytes, size_t size,
                           struct ue_error *error);
void ue_weights_close(struct ue_weights *weights);

#endif

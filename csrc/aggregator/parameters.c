#include "parameters.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "widen.h"

enum { KEY = 96 };

/* How many of the first dtypes will do. */
enum accepted { ONLY_F32 = 1, FLOATS = 3, FLOATS_AND_I8 = 4 };

static const char *const accepted_names[] = {
    [ONLY_F32] = "F32",
    [FLOATS] = "F32, F16 or BF16",
    [FLOATS_AND_I8] = "F32, F16, BF16 or I8",
};

static struct ue_shape vector(size_t n) {
    return (struct ue_shape){1, {n}};
}

static struct ue_shape matrix(size_t rows, size_t columns) {
    return (struct ue_shape){2, {rows, columns}};
}

static bool same_shape(const struct ue_shape *a, const struct ue_shape *b) {
    return a->rank == b->rank && memcmp(a->sides, b->sides, a->rank * sizeof *a->sides) == 0;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

static struct ue_tensor *find_named(struct ue_binder *binder, const char *key,
                                    const struct ue_shape *shape, enum accepted accepted) {
    struct ue_tensor *tensor = ue_safetensors_find(binder->file, key);
    if (!tensor) {
        ue_missing(binder->misfits, key, shape);
        return NULL;
    }
    tensor->used = true;
    if (tensor->dtype < (unsigned)accepted && same_shape(&tensor->shape, shape))
        return tensor;
    ue_unlike(binder->misfits, tensor, accepted_names[accepted], shape);
    return NULL;
}

/* The tensor whose key a printf-style text gives if it fits, else NULL. */
UE_PRINTF(4, 5)
static struct ue_tensor *find(struct ue_binder *binder, struct ue_shape shape,
                              enum accepted accepted, const char *format, ...) {
    char key[KEY];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(key, sizeof key, format, arguments);
    va_end(arguments);
    return find_named(binder, key, &shape, accepted);
}

/* Where a copy of `count` elements goes; NULL while they are only counted. */
static void *place(struct ue_binder *binder, size_t count, size_t size) {
    unsigned char *copy = binder->copies ? binder->copies + binder->copied : NULL;
    if (count > (SIZE_MAX / 2 - binder->copied) / size - UE_COPY_ALIGNMENT) {
        binder->too_large = true;
        return NULL;
    }
    const size_t parts = (count * size + UE_COPY_ALIGNMENT - 1) / UE_COPY_ALIGNMENT;
    binder->copied += parts * UE_COPY_ALIGNMENT;
    return copy;
}

static bool aligned(const void *bytes, size_t size) {
    return (uintptr_t)bytes % size == 0;
}

/* The floats of a tensor (NULL: none), where they lie or widened. */
static const float *floats(struct ue_binder *binder, const struct ue_tensor *tensor) {
    if (!tensor)
        return NULL;
    const unsigned char *bytes = binder->file->data + tensor->begin;
    if (tensor->dtype == UE_DTYPE_F32 && aligned(bytes, sizeof(float)))
        return (const float *)(const void *)bytes;
    const size_t count = (tensor->end - tensor->begin) / ue_dtype_size(tensor->dtype);
    float *copy = place(binder, count, sizeof *copy);
    if (copy)
        ue_widen(copy, bytes, count, tensor->dtype);
    return copy;
}

/* ---- tensors that belong together ------------------------------------------------------------ */

static void bind_linear(struct ue_binder *binder, struct ue_linear *linear, const char *name,
                        struct ue_shape shape, bool bias) {
    const struct ue_shape rows = vector(shape.sides[0]);
    linear->weight = floats(binder, find(binder, shape, FLOATS, "%s.weight", name));
    linear->bias = bias ? floats(binder, find(binder, rows, FLOATS, "%s.bias", name)) : NULL;
}

/* One float32 a row; quantising never makes one that is not positive. */
static const float *bind_scale(struct ue_binder *binder, const char *name, const char *layer,
                               size_t rows) {
    const struct ue_tensor *tensor =
        find(binder, vector(rows), ONLY_F32, "%s.%s.weight_scale", name, layer);
    if (tensor && !ue_all_positive(binder->file->data + tensor->begin, rows))
        ue_bad_scale(binder->misfits, tensor);
    return floats(binder, tensor);
}

/* An expert's matrix stays as it is stored; most of the weights are in these. */
static void bind_matrix(struct ue_binder *binder, struct ue_matrix *to, const char *name,
                        const char *layer, struct ue_shape shape) {
    const struct ue_tensor *tensor =
        find(binder, shape, FLOATS_AND_I8, "%s.%s.weight", name, layer);
    if (!tensor)
        return;
    const size_t size = ue_dtype_size(tensor->dtype), bytes = tensor->end - tensor->begin;
    to->storage = (enum ue_storage)tensor->dtype;
    to->data = binder->file->data + tensor->begin;
    if (!aligned(to->data, size)) {
        const void *unaligned = to->data;
        void *copy = place(binder, bytes / size, size);
        to->data = copy ? memcpy(copy, unaligned, bytes) : NULL;
    }
    if (to->storage == UE_STORED_I8)
        to->scale = bind_scale(binder, name, layer, shape.sides[0]);
}

static void bind_expert(struct ue_binder *binder, struct ue_expert *expert, const char *name) {
    const struct ue_config *config = &binder->weights->config;
    const size_t c = config->embed_dim, hidden = config->hidden_dim;
    bind_matrix(binder, &expert->fc1, name, "fc1", matrix(hidden, c));
    bind_matrix(binder, &expert->fc2, name, "fc2", matrix(c, hidden));
    expert->fc1_bias = floats(binder, find(binder, vector(hidden), FLOATS, "%s.fc1.bias", name));
    expert->fc2_bias = floats(binder, find(binder, vector(c), FLOATS, "%s.fc2.bias", name));
}

/* The forward pass never uses attn.proj, but the published checkpoints have it. */
static void check_projection(struct ue_binder *binder, size_t block) {
    const size_t c = binder->weights->config.embed_dim;
    find(binder, matrix(c, c), FLOATS, "model.blocks.%zu.attn.proj.weight", block);
    find(binder, vector(c), FLOATS, "model.blocks.%zu.attn.proj.bias", block);
}

static void bind_attention(struct ue_binder *binder, struct ue_block *block, size_t l) {
    const struct ue_config *config = &binder->weights->config;
    const size_t c = config->embed_dim;
    char name[KEY];
    for (size_t i = 0; i < config->num_tasks; i++) {
        struct ue_linear projection;
        snprintf(name, sizeof name, "model.blocks.%zu.attn.qs.%zu", l, i);
        bind_linear(binder, &block->queries[i], name, matrix(c, c), config->qkv_bias);
        snprintf(name, sizeof name, "model.blocks.%zu.attn.experts.%zu", l, i);
        bind_linear(binder, &projection, name, matrix(c, c), false);
        block->task_experts[i] = projection.weight;
    }
    snprintf(name, sizeof name, "model.blocks.%zu.attn.kv", l);
    bind_linear(binder, &block->kv, name, matrix(2 * c, c), config->qkv_bias);
    check_projection(binder, l);
}

static void bind_mixture(struct ue_binder *binder, struct ue_block *block, size_t l) {
    const struct ue_config *config = &binder->weights->config;
    const size_t c = config->embed_dim, experts = config->num_experts;
    char name[KEY];
    const struct ue_shape phi = {3, {c, experts, config->slots_per_expert}};
    block->phi = floats(binder, find(binder, phi, FLOATS, "model.blocks.%zu.mlp.phi", l));
    const float *scale =
        floats(binder, find(binder, vector(1), FLOATS, "model.blocks.%zu.mlp.scale", l));
    block->scale = scale ? *scale : 0.0f;
    for (size_t j = 0; j < experts; j++) {
        snprintf(name, sizeof name, "model.blocks.%zu.mlp.experts.%zu", l, j);
        bind_expert(binder, &block->experts[j], name);
    }
}

static void bind_block(struct ue_binder *binder, size_t l) {
    struct ue_block *block = &binder->weights->blocks[l];
    const size_t c = binder->weights->config.embed_dim;
    char name[KEY];
    snprintf(name, sizeof name, "model.blocks.%zu.norm1", l);
    bind_linear(binder, &block->norm1, name, vector(c), true);
    snprintf(name, sizeof name, "model.blocks.%zu.norm2", l);
    bind_linear(binder, &block->norm2, name, vector(c), true);
    bind_attention(binder, block, l);
    bind_mixture(binder, block, l);
}

static void bind_ends(struct ue_binder *binder) {
    static const char *const positions[] = {"proj", "proj1", "proj2"};
    struct ue_weights *weights = binder->weights;
    const struct ue_config *config = &weights->config;
    const size_t c = config->embed_dim;
    char name[KEY];
    const struct ue_shape tokens = {3, {1, config->num_tasks, c}};
    weights->task_tokens = floats(binder, find(binder, tokens, FLOATS, "model.task_tokens"));
    bind_linear(binder, &weights->layer1, "model.layer1.0", matrix(c, config->embed_dim_in), true);
    bind_linear(binder, &weights->layer1_norm, "model.layer1.1", vector(c), true);
    bind_linear(binder, &weights->norm, "model.norm", vector(c), true);
    for (size_t i = 0; i < config->num_tasks; i++) {
        snprintf(name, sizeof name, "model.heads.%zu", i);
        bind_linear(binder, &weights->heads[i], name, matrix(config->classes[i], c), true);
    }
    for (size_t i = 0; i < 3; i++) {
        const size_t side = 7 - 2 * i;
        snprintf(name, sizeof name, "model.pos_layer.%s", positions[i]);
        bind_linear(binder, &weights->positions[i], name, (struct ue_shape){4, {c, 1, side, side}},
                    true);
    }
}

void ue_bind_parameters(struct ue_binder *binder) {
    bind_ends(binder);
    for (size_t l = 0; l < binder->weights->config.depth; l++)
        bind_block(binder, l);
    for (size_t i = 0; i < binder->file->count; i++)
        if (!binder->file->tensors[i].used)
            ue_unexpected(binder->misfits, &binder->file->tensors[i]);
}

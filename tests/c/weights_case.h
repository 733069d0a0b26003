/* What the test and the fuzzer of the weights share: every tensor read, every promise checked. */
#ifndef WEIGHTS_CASE_H
#define WEIGHTS_CASE_H

#include "check.h"

#include "aggregator/weights.h"

/* CRC-32 as zlib has it, of `size` bytes after those that gave `crc`. */
static inline uint32_t crc_of(uint32_t crc, const void *bytes, size_t size) {
    const uint8_t *next = bytes;
    for (crc = ~crc; size--; next++) {
        crc ^= *next;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

/* Told of every tensor: its key is `name` and `part`; `bytes` are at their place. */
struct visitor {
    void (*see)(struct visitor *visitor, const char *name, const char *part,
                enum ue_storage storage, const void *bytes, size_t count);
    uint32_t crc;
};

static inline void see_floats(struct visitor *visitor, const char *name, const char *part,
                              const float *floats, size_t count) {
    CHECK(floats && (uintptr_t)floats % sizeof *floats == 0, "%s%s at %p", name, part,
          (const void *)floats);
    visitor->see(visitor, name, part, UE_STORED_F32, floats, count);
}

static inline void see_linear(struct visitor *visitor, const char *name, struct ue_linear linear,
                              size_t out, size_t in) {
    see_floats(visitor, name, ".weight", linear.weight, out * in);
    if (linear.bias)
        see_floats(visitor, name, ".bias", linear.bias, out);
}

static inline void see_matrix(struct visitor *visitor, const char *name, const char *part,
                              const char *scale_part, struct ue_matrix matrix, size_t rows,
                              size_t columns) {
    static const size_t sizes[UE_STORAGES] = {4, 2, 2, 1};
    CHECK(matrix.data && (uintptr_t)matrix.data % sizes[matrix.storage] == 0, "%s%s at %p", name,
          part, matrix.data);
    visitor->see(visitor, name, part, matrix.storage, matrix.data, rows * columns);
    CHECK((matrix.storage == UE_STORED_I8) == (matrix.scale != NULL), "%s%s: scale", name, part);
    if (matrix.scale)
        see_floats(visitor, name, scale_part, matrix.scale, rows);
}

static inline void see_block(struct visitor *visitor, const struct ue_weights *weights, size_t l) {
    const struct ue_config *config = &weights->config;
    const struct ue_block *block = &weights->blocks[l];
    const size_t c = config->embed_dim, hidden = config->hidden_dim;
    char name[100];
#define NAME(...) (snprintf(name, sizeof name, __VA_ARGS__), name)
    see_linear(visitor, NAME("model.blocks.%zu.norm1", l), block->norm1, c, 1);
    see_linear(visitor, NAME("model.blocks.%zu.norm2", l), block->norm2, c, 1);
    for (size_t i = 0; i < config->num_tasks; i++) {
        const struct ue_linear expert = {block->task_experts[i], NULL};
        see_linear(visitor, NAME("model.blocks.%zu.attn.qs.%zu", l, i), block->queries[i], c, c);
        see_linear(visitor, NAME("model.blocks.%zu.attn.experts.%zu", l, i), expert, c, c);
    }
    see_linear(visitor, NAME("model.blocks.%zu.attn.kv", l), block->kv, 2 * c, c);
    see_floats(visitor, NAME("model.blocks.%zu.mlp", l), ".phi", block->phi,
               c * config->num_experts * config->slots_per_expert);
    see_floats(visitor, NAME("model.blocks.%zu.mlp", l), ".scale", &block->scale, 1);
    for (size_t j = 0; j < config->num_experts; j++) {
        const struct ue_expert *expert = &block->experts[j];
        NAME("model.blocks.%zu.mlp.experts.%zu", l, j);
        see_matrix(visitor, name, ".fc1.weight", ".fc1.weight_scale", expert->fc1, hidden, c);
        see_matrix(visitor, name, ".fc2.weight", ".fc2.weight_scale", expert->fc2, c, hidden);
        see_floats(visitor, name, ".fc1.bias", expert->fc1_bias, hidden);
        see_floats(visitor, name, ".fc2.bias", expert->fc2_bias, c);
    }
}

static inline void see_weights(struct visitor *visitor, const struct ue_weights *weights) {
    const struct ue_config *config = &weights->config;
    const size_t c = config->embed_dim;
    char name[100];
    see_floats(visitor, "model", ".task_tokens", weights->task_tokens, config->num_tasks * c);
    see_linear(visitor, "model.layer1.0", weights->layer1, c, config->embed_dim_in);
    see_linear(visitor, "model.layer1.1", weights->layer1_norm, c, 1);
    see_linear(visitor, "model.norm", weights->norm, c, 1);
    for (size_t i = 0; i < config->num_tasks; i++)
        see_linear(visitor, NAME("model.heads.%zu", i), weights->heads[i], config->classes[i], c);
    see_linear(visitor, "model.pos_layer.proj", weights->positions[0], c, 49);
    see_linear(visitor, "model.pos_layer.proj1", weights->positions[1], c, 25);
    see_linear(visitor, "model.pos_layer.proj2", weights->positions[2], c, 9);
    for (size_t l = 0; l < config->depth; l++)
        see_block(visitor, weights, l);
#undef NAME
}

static inline void add_to_crc(struct visitor *visitor, const char *name, const char *part,
                              enum ue_storage storage, const void *bytes, size_t count) {
    static const size_t sizes[UE_STORAGES] = {4, 2, 2, 1};
    (void)name, (void)part;
    visitor->crc = crc_of(visitor->crc, bytes, count * sizes[storage]);
}

/* A failure has a printable text that ends in advice, and leaves nothing to close. */
static inline void check_failure(const struct ue_weights *weights, ue_status status,
                                 const struct ue_error *error) {
    const struct ue_weights nothing = {.blocks = NULL};
    CHECK(status == error->status && status >= UE_NO_MEMORY && status <= UE_BAD_WEIGHTS, "%d, %d",
          (int)status, (int)error->status);
    CHECK(memchr(error->text, '\0', sizeof error->text), "no end");
    CHECK(strpbrk(error->text, ";.") && strlen(error->text) > 20, "%s", error->text);
    for (const char *c = error->text; *c; c++)
        CHECK((unsigned char)*c >= ' ' && *c != 0x7f, "%s", error->text);
    CHECK(memcmp(weights, &nothing, sizeof nothing) == 0, "something is left open");
}

#endif

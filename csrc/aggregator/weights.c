#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "formats/safetensors.h"
#include "formats/whole_file.h"
#include "parameters.h"

/* What a ue_weights points into, besides the caller's bytes. */
struct ue_weights_owner {
    struct ue_whole_file file;
    struct ue_linear *queries; /* of all blocks; ue_block has its part, and so below */
    const float **task_experts;
    struct ue_expert *experts;
    void *copies; /* as malloc gave it */
};

static bool little_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

static ue_status no_memory(const char *file, struct ue_error *error) {
    return ue_fail(error, UE_NO_MEMORY,
                   "%s: not enough memory for these weights; close other programs, or use a "
                   "computer with more memory",
                   file);
}

/* Arrays for what the configuration counts: 17 MB at the most that its bounds allow. */
static bool allocate_arrays(struct ue_weights *weights) {
    const struct ue_config *config = &weights->config;
    const size_t tasks = config->num_tasks, experts = config->num_experts;
    struct ue_weights_owner *owner = weights->owner;
    weights->heads = calloc(tasks, sizeof *weights->heads);
    weights->blocks = calloc(config->depth, sizeof *weights->blocks);
    owner->queries = calloc(config->depth * tasks, sizeof *owner->queries);
    owner->task_experts = calloc(config->depth * tasks, sizeof *owner->task_experts);
    owner->experts = calloc(config->depth * experts, sizeof *owner->experts);
    if (!weights->heads || !weights->blocks || !owner->queries || !owner->task_experts ||
        !owner->experts)
        return false;
    for (size_t l = 0; l < config->depth; l++) {
        weights->blocks[l].queries = owner->queries + l * tasks;
        weights->blocks[l].task_experts = owner->task_experts + l * tasks;
        weights->blocks[l].experts = owner->experts + l * experts;
    }
    return true;
}

static bool allocate_copies(struct ue_binder *binder, struct ue_weights_owner *owner) {
    owner->copies = malloc(binder->copied + UE_COPY_ALIGNMENT);
    if (!owner->copies)
        return false;
    const size_t past = (uintptr_t)owner->copies % UE_COPY_ALIGNMENT;
    binder->copies = (unsigned char *)owner->copies + (past ? UE_COPY_ALIGNMENT - past : 0);
    binder->copied = 0;
    return true;
}

/* Once to check everything and to count what has to be copied, then, if need be, to copy it. */
static ue_status bind(struct ue_weights *weights, struct ue_safetensors *file,
                      struct ue_error *error) {
    struct ue_misfits misfits = {.count = {0}};
    struct ue_binder binder = {.file = file, .misfits = &misfits, .weights = weights};
    if (!allocate_arrays(weights))
        return no_memory(file->file.text, error);
    ue_bind_parameters(&binder);
    if (ue_misfits_tell(&misfits, file->file.text, error))
        return error->status;
    if (binder.too_large)
        return no_memory(file->file.text, error);
    weights->stored_bytes = file->data_size;
    weights->copied_bytes = binder.copied;
    if (!binder.copied)
        return UE_OK;
    if (!allocate_copies(&binder, weights->owner))
        return no_memory(file->file.text, error);
    ue_bind_parameters(&binder);
    return UE_OK;
}

/* Fill `weights`, whose owner is there. */
static ue_status load(struct ue_weights *weights, const char *path, const void *bytes, size_t size,
                      struct ue_error *error) {
    struct ue_safetensors file;
    ue_status status = ue_safetensors_read(&file, path, bytes, size, error);
    if (status)
        return status;
    status = ue_config_in(&weights->config, &file, error);
    status = status ? status : bind(weights, &file, error);
    ue_safetensors_free(&file);
    return status;
}

static ue_status begin(struct ue_weights *weights, const void *source, struct ue_error *error) {
    memset(weights, 0, sizeof *weights);
    if (!source)
        return ue_fail(error, UE_NULL_POINTER, "weights: no path and no bytes; pass one of them");
    if (!little_endian())
        return ue_fail(error, UE_BAD_FILE,
                       "safetensors are little-endian, this processor is not; use another one");
    weights->owner = calloc(1, sizeof *weights->owner);
    return weights->owner ? UE_OK : no_memory("weights", error);
}

ue_status ue_weights_open(struct ue_weights *weights, const char *path, struct ue_error *error) {
    ue_status status = begin(weights, path, error);
    if (status)
        return status;
    struct ue_whole_file *file = &weights->owner->file;
    status = ue_whole_file_open(file, path, error);
    status = status ? status : load(weights, path, file->bytes, file->size, error);
    if (status)
        ue_weights_close(weights);
    return status;
}

ue_status ue_weights_parse(struct ue_weights *weights, const void *bytes, size_t size,
                           struct ue_error *error) {
    ue_status status = begin(weights, bytes, error);
    if (status)
        return status;
    status = load(weights, NULL, bytes, size, error);
    if (status)
        ue_weights_close(weights);
    return status;
}

void ue_weights_close(struct ue_weights *weights) {
    struct ue_weights_owner *owner = weights->owner;
    if (owner) {
        ue_whole_file_close(&owner->file);
        free(owner->queries);
        free((void *)owner->task_experts);
        free(owner->experts);
        free(owner->copies);
    }
    free(weights->heads);
    free(weights->blocks);
    free(owner);
    memset(weights, 0, sizeof *weights);
}

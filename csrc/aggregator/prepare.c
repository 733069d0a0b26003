/* What an aggregator computes from its weights once: what is multiplied by many rows as panels,
 * PPEG as one kernel.
 */
#include <math.h>
#include <string.h>

#include "state.h"
#include "system/memory.h"

/* x + dw7(x) + dw5(x) + dw3(x) is linear: centred, the smaller kernels and the identity add up. */
static void prepare_taps(struct ue_aggregator *aggregator) {
    const struct ue_weights *weights = &aggregator->weights;
    const size_t width = weights->config.embed_dim, stride = aggregator->stride;
    for (size_t c = 0; c < width; c++)
        aggregator->taps[(UE_TAPS * UE_TAPS / 2) * stride + c] = 1.0f;
    for (size_t layer = 0; layer < 3; layer++) {
        const size_t size = UE_TAPS - 2 * layer, margin = layer;
        const struct ue_linear *kernel = &weights->positions[layer];
        for (size_t c = 0; c < width; c++) {
            aggregator->taps_bias[c] += kernel->bias[c];
            for (size_t dy = 0; dy < size; dy++)
                for (size_t dx = 0; dx < size; dx++)
                    aggregator->taps[((dy + margin) * UE_TAPS + dx + margin) * stride + c] +=
                        kernel->weight[(c * size + dy) * size + dx];
        }
    }
}

/* phi [C][S]: each column over its length, times `scale`, as panels. */
static void prepare_phi(const struct ue_aggregator *aggregator, const struct ue_block *block,
                        float *panels) {
    const size_t width = aggregator->weights.config.embed_dim, slots = aggregator->slots;
    for (size_t s = 0; s < slots; s++) {
        size_t step;
        float *column = ue_panel_column(aggregator->kernels, panels, slots, width, s, &step);
        double squares = 0;
        for (size_t c = 0; c < width; c++)
            squares += (double)block->phi[c * slots + s] * block->phi[c * slots + s];
        const float scale = block->scale / fmaxf((float)sqrt(squares), 1e-12f);
        for (size_t c = 0; c < width; c++)
            column[c * step] = block->phi[c * slots + s] * scale;
    }
}

bool ue_prepare(struct ue_aggregator *aggregator) {
    const struct ue_config *config = &aggregator->weights.config;
    const size_t stride = aggregator->stride, depth = config->embed_dim_in;
    const size_t taps = UE_TAPS * UE_TAPS, phi = aggregator->slot_stride * config->embed_dim;
    const size_t expert = stride * config->embed_dim, experts = config->depth * config->num_tasks;
    const size_t floats =
        stride * depth + (taps + 1) * stride + experts * expert + config->depth * phi;
    aggregator->prepared_bytes = floats * sizeof(float);
    aggregator->prepared = ue_allocate(aggregator->prepared_bytes);
    if (!aggregator->prepared)
        return false;
    memset(aggregator->prepared, 0, aggregator->prepared_bytes);
    aggregator->layer1 = aggregator->prepared;
    aggregator->taps = aggregator->layer1 + stride * depth;
    aggregator->taps_bias = aggregator->taps + taps * stride;
    aggregator->task_experts = aggregator->taps_bias + stride;
    aggregator->phi = aggregator->task_experts + experts * expert;
    ue_pack_rows(aggregator->weights.layer1.weight, depth, config->embed_dim, depth,
                 aggregator->layer1);
    for (size_t i = 0; i < experts; i++)
        ue_pack_rows(
            aggregator->weights.blocks[i / config->num_tasks].task_experts[i % config->num_tasks],
            config->embed_dim, config->embed_dim, config->embed_dim,
            aggregator->task_experts + i * expert);
    prepare_taps(aggregator);
    for (size_t block = 0; block < config->depth; block++)
        prepare_phi(aggregator, &aggregator->weights.blocks[block], aggregator->phi + block * phi);
    return true;
}

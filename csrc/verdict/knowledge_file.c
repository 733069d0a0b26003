/* The file of a bundle's knowledge: eight tensors, every one of them as expected. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/widen.h"
#include "formats/safetensors.h"
#include "knowledge.h"

enum { PARTS = 8, MOST_KINDS = 64 /* of a manifest */ };

/* A tensor that the file must hold, and where its numbers begin among all. */
struct part {
    const char *name;
    struct ue_shape shape;
    size_t count;
};

static void describe(struct part parts[PARTS], size_t kinds, size_t width) {
    const struct part wanted[PARTS] = {
        {"kinds.weight", {2, {kinds, width}}, kinds * width},
        {"kinds.bias", {1, {kinds}}, kinds},
        {"tokens.mean", {1, {width}}, width},
        {"tokens.covariance", {2, {width, width}}, width * width},
        {"cells.weight", {1, {width}}, width},
        {"cells.bias", {1, {1}}, 1},
        {"scale.weight", {1, {width}}, width},
        {"scale.bias", {1, {1}}, 1},
    };
    memcpy(parts, wanted, sizeof wanted);
}

static bool has_shape(const struct ue_tensor *tensor, const struct ue_shape *shape) {
    return tensor->shape.rank == shape->rank &&
           memcmp(tensor->shape.sides, shape->sides, shape->rank * sizeof shape->sides[0]) == 0;
}

static ue_status wrong(const char *name, const char *problem, struct ue_error *error) {
    return ue_fail(error, UE_BAD_WEIGHTS,
                   "knowledge: %s %s; fit the knowledge again, on this encoder", name, problem);
}

static ue_status take(const struct ue_safetensors *file, const struct part *part, double *numbers,
                      struct ue_error *error) {
    const struct ue_tensor *tensor = ue_safetensors_find(file, part->name);
    if (!tensor)
        return wrong(part->name, "is missing", error);
    if (tensor->dtype > UE_DTYPE_F16 || !has_shape(tensor, &part->shape))
        return wrong(part->name, "has another shape or type than it must", error);
    const size_t size = ue_dtype_size(tensor->dtype);
    for (size_t k = 0; k < part->count; k++) {
        float one;
        ue_widen(&one, file->data + tensor->begin + k * size, 1, tensor->dtype);
        if (!isfinite(one))
            return wrong(part->name, "is not finite", error);
        numbers[k] = one;
    }
    return UE_OK;
}

static void mark(uint8_t *aggregated, const struct ue_knowledge_spec *spec) {
    const struct ue_json_text *kinds = spec->kinds.items, *names = spec->aggregated.items;
    for (size_t k = 0; k < spec->kinds.count; k++) {
        aggregated[k] = 0;
        for (size_t i = 0; i < spec->aggregated.count; i++)
            aggregated[k] |= ue_same_text(kinds[k], names[i]);
    }
}

static ue_status make(struct ue_knowledge *knowledge, const struct ue_knowledge_spec *spec,
                      size_t width, const struct ue_safetensors *file, double *numbers,
                      struct ue_error *error) {
    struct part parts[PARTS];
    const double *found[PARTS];
    describe(parts, spec->kinds.count, width);
    for (size_t k = 0; k < PARTS; k++) {
        const ue_status status = take(file, &parts[k], numbers, error);
        if (status)
            return status;
        found[k] = numbers;
        numbers += parts[k].count;
    }
    if (file->count != PARTS)
        return wrong("a tensor", "is none of the eight that belong there", error);
    const struct ue_knowledge_parts whole = {found[0], found[1], found[2], found[3],
                                             found[4], found[5], found[6], found[7]};
    uint8_t aggregated[MOST_KINDS];
    mark(aggregated, spec);
    return ue_knowledge_make(knowledge, spec->kinds.count, width, aggregated, &whole, error);
}

ue_status ue_knowledge_load(struct ue_knowledge *knowledge, const struct ue_knowledge_spec *spec,
                            size_t width, const void *bytes, size_t size, struct ue_error *error) {
    *knowledge = (struct ue_knowledge){0};
    struct ue_safetensors file;
    ue_status status = ue_safetensors_read(&file, spec->file.bytes, bytes, size, error);
    if (status)
        return status;
    const size_t kinds = spec->kinds.count;
    double *numbers = calloc((kinds + 1) * (width + 1) + (3 + width) * width + 2, sizeof *numbers);
    status = numbers ? make(knowledge, spec, width, &file, numbers, error)
                     : ue_fail(error, UE_NO_MEMORY, "not enough memory for the knowledge");
    free(numbers);
    ue_safetensors_free(&file);
    return status;
}

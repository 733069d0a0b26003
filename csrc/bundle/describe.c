/* What a bundle's manifest says, for programs. */
#include <string.h>

#include "state.h"
#include "system/structs.h"

static void describe_numbers(const struct ue_manifest *manifest, ue_bundle_info *info) {
    const struct ue_affine_spec *scale = &manifest->input.scale;
    const struct ue_affine_spec *target = &manifest->colour.target;
    memcpy(info->mean, scale->mean, sizeof info->mean);
    memcpy(info->std, scale->std, sizeof info->std);
    memcpy(info->colour_mean, target->mean, sizeof info->colour_mean);
    memcpy(info->colour_std, target->std, sizeof info->colour_std);
    info->dtype = (ue_dtype)manifest->input.dtype;
    info->colour = (ue_bundle_colour)manifest->colour.standard;
    info->tile_px = (size_t)manifest->tile.size_px;
    info->crop_px = (size_t)manifest->tile.crop_px;
    info->field_tiles = (size_t)manifest->tile.field_tiles;
    info->max_tiles = (size_t)manifest->tile.max_tiles;
    info->um_px = manifest->tile.um_px;
}

ue_status ue_bundle_describe(const ue_bundle *bundle, ue_bundle_info *info) {
    if (!bundle || !info)
        return UE_NULL_POINTER;
    if (!bundle->usable)
        return UE_BAD_OPTIONS;
    const struct ue_manifest *manifest = &bundle->manifest;
    ue_bundle_info full = {
        .name = manifest->name.bytes,
        .version = manifest->version.bytes,
        .licence = manifest->licence.bytes,
        .intended_use = manifest->intended_use.bytes,
        .sha256 = bundle->sha256,
        .trained = manifest->trained,
        .demonstration = manifest->demonstration,
        .width = (size_t)manifest->encoder.width,
        .tasks = manifest->tasks.count,
    };
    describe_numbers(manifest, &full);
    return ue_struct_write(info, &full, sizeof full) ? UE_OK : UE_BAD_OPTIONS;
}

static const struct ue_task *task_at(const ue_bundle *bundle, size_t index) {
    const struct ue_task *tasks = bundle->manifest.tasks.items;
    return bundle->usable && index < bundle->manifest.tasks.count ? &tasks[index] : NULL;
}

ue_status ue_bundle_describe_task(const ue_bundle *bundle, size_t index, ue_bundle_task *task) {
    if (!bundle || !task)
        return UE_NULL_POINTER;
    const struct ue_task *found = task_at(bundle, index);
    if (!found)
        return UE_BAD_OPTIONS;
    const struct ue_conformal_spec *conformal = &found->conformal;
    const ue_bundle_task full = {
        .name = found->name.bytes,
        .classes = found->classes.count,
        .positive = (size_t)found->positive,
        .threshold = found->threshold,
        .temperature = found->temperature,
        .conformal_slides = (size_t)conformal->slides,
        .conformal_coverage = conformal->coverage,
        .positive_from = conformal->positive_from,
        .negative_to = conformal->negative_to,
    };
    return ue_struct_write(task, &full, sizeof full) ? UE_OK : UE_BAD_OPTIONS;
}

const char *ue_bundle_class(const ue_bundle *bundle, size_t task, size_t index) {
    const struct ue_task *found = bundle ? task_at(bundle, task) : NULL;
    const struct ue_json_text *classes = found ? found->classes.items : NULL;
    return found && index < found->classes.count ? classes[index].bytes : NULL;
}

/* The rules between the keys of bundle.json: the model validators of unicas_edge/bundle. */
#include <math.h>
#include <string.h>

#include "manifest.h"

bool ue_same_text(struct ue_json_text a, struct ue_json_text b) {
    return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

const struct ue_json_text *ue_manifest_digest(const struct ue_manifest *manifest,
                                              struct ue_json_text name) {
    const struct ue_listed_file *files = manifest->files.items;
    for (size_t i = 0; i < manifest->files.count; i++)
        if (ue_same_text(files[i].name, name))
            return &files[i].sha256;
    return NULL;
}

static bool holds(struct ue_list list, struct ue_json_text text, size_t end) {
    const struct ue_json_text *texts = list.items;
    for (size_t i = 0; i < end; i++)
        if (ue_same_text(texts[i], text))
            return true;
    return false;
}

static bool all_differ(struct ue_list list) {
    const struct ue_json_text *texts = list.items;
    for (size_t i = 0; i < list.count; i++)
        if (holds(list, texts[i], i))
            return false;
    return true;
}

static bool names_differ(struct ue_list list) {
    const struct ue_task *tasks = list.items;
    for (size_t i = 0; i < list.count; i++)
        for (size_t j = 0; j < i; j++)
            if (ue_same_text(tasks[i].name, tasks[j].name))
                return false;
    return true;
}

static const char *check_tasks(const struct ue_manifest *manifest) {
    const struct ue_task *tasks = manifest->tasks.items;
    const struct ue_config *config = &manifest->aggregator.config;
    if (manifest->tasks.count != config->num_tasks)
        return "tasks: others than aggregator.config.classes has";
    for (size_t i = 0; i < manifest->tasks.count; i++) {
        if (tasks[i].positive >= tasks[i].classes.count)
            return "tasks: positive is not one of the classes";
        if (tasks[i].classes.count != config->classes[i])
            return "tasks: other classes than aggregator.config.classes has";
    }
    return names_differ(manifest->tasks) ? NULL : "tasks: two tasks have the same name";
}

static const char *check_heads(const struct ue_manifest *manifest) {
    const struct ue_task *heads = manifest->heads.items;
    for (size_t i = 0; i < manifest->heads.count; i++) {
        const bool positive = heads[i].positive != UE_NO_NUMBER;
        if (!all_differ(heads[i].classes))
            return "heads: two classes have the same name";
        if (positive == (bool)isnan(heads[i].threshold))
            return "heads: give both positive and threshold, or null for both";
        if (positive && heads[i].positive >= heads[i].classes.count)
            return "heads: positive is not one of the classes";
        if (!ue_manifest_digest(manifest, heads[i].file))
            return "heads: a file is not listed in files";
    }
    return names_differ(manifest->heads) ? NULL : "heads: two heads have the same name";
}

static const char *check_forms(const struct ue_manifest *manifest) {
    const struct ue_encoder_form *forms = manifest->encoder.forms.items;
    for (size_t i = 0; i < manifest->encoder.forms.count; i++) {
        if (!ue_manifest_digest(manifest, forms[i].file))
            return "encoder.forms: a file is not listed in files";
        for (size_t j = 0; j < i; j++)
            if (forms[i].backend == forms[j].backend && forms[i].precision == forms[j].precision)
                return "encoder.forms: two have the same backend and precision";
    }
    return NULL;
}

static const char *check_storage(const struct ue_expert_storage *storage) {
    if (!storage->given)
        return NULL;
    const bool none = storage->bags == 0;
    if ((bool)isnan(storage->max_probability_change) != none ||
        (bool)isnan(storage->mean_probability_change) != none ||
        (storage->changed_decisions == UE_NO_NUMBER) != none)
        return "aggregator.storage: give the three figures if there are bags, and null if none";
    return NULL;
}

static const char *check_knowledge(const struct ue_manifest *manifest) {
    const struct ue_knowledge_spec *knowledge = &manifest->knowledge;
    const struct ue_json_text *kinds = knowledge->kinds.items, cell = {"cell", 4};
    const struct ue_json_text *aggregated = knowledge->aggregated.items;
    if (!knowledge->given)
        return NULL;
    if (!all_differ(knowledge->kinds) || !all_differ(knowledge->aggregated))
        return "knowledge: two kinds have the same name";
    if (!ue_same_text(kinds[0], cell))
        return "knowledge.kinds: the first must be 'cell'";
    for (size_t i = 0; i < knowledge->aggregated.count; i++)
        if (!holds(knowledge->kinds, aggregated[i], knowledge->kinds.count))
            return "knowledge.aggregated: one is not one of kinds";
    if (!holds(knowledge->aggregated, cell, knowledge->aggregated.count))
        return "knowledge.aggregated: lacks 'cell'";
    if (!ue_manifest_digest(manifest, knowledge->file))
        return "knowledge.file is not listed in files";
    const struct ue_json_text *encoder = ue_manifest_digest(manifest, manifest->encoder.file);
    if (!encoder || !ue_same_text(*encoder, knowledge->encoder_sha256))
        return "knowledge was made for another encoder";
    return NULL;
}

static const char *check_parts(const struct ue_manifest *manifest) {
    if (manifest->tile.crop_px > manifest->tile.size_px)
        return "tile: crop_px exceeds size_px";
    if (manifest->colour.standard == 2 && !manifest->colour.target.given)
        return "colour: the default mode reinhard needs a target";
    if (manifest->demonstration && !manifest->trained)
        return "demonstration can only be true if trained is true";
    if (manifest->encoder.width != manifest->aggregator.config.embed_dim_in)
        return "encoder.width is not aggregator.config.embed_dim_in";
    if (!ue_manifest_digest(manifest, manifest->encoder.file))
        return "encoder.file is not listed in files";
    if (!ue_manifest_digest(manifest, manifest->aggregator.file))
        return "aggregator.file is not listed in files";
    return check_storage(&manifest->aggregator.storage);
}

const char *ue_manifest_broken_rule(const struct ue_manifest *manifest) {
    const char *broken = check_parts(manifest);
    broken = broken ? broken : check_tasks(manifest);
    broken = broken ? broken : check_heads(manifest);
    broken = broken ? broken : check_forms(manifest);
    return broken ? broken : check_knowledge(manifest);
}

/* Opening a bundle: its manifest, then every file that is named there. */
#include <stdlib.h>
#include <string.h>

#include "aggregator/config.h"
#include "files.h"

/* ---- what it must be ------------------------------------------------------------------------- */

static ue_status no_memory(ue_bundle *bundle) {
    return ue_fail(&bundle->error, UE_NO_MEMORY, "%s: no memory to read it; close other programs",
                   bundle->shown.text);
}

/* From now on a change of this file is noticed. */
static ue_status watch(ue_bundle *bundle, const char *name, const struct ue_checked *found) {
    char *path = ue_bundle_path(bundle, name);
    if (!path)
        return no_memory(bundle);
    ue_watch_add(bundle->watch, path, found);
    return UE_OK;
}

static ue_status read_manifest(ue_bundle *bundle) {
    struct ue_checked found;
    ue_status status = ue_bundle_read_manifest(bundle, &found, &bundle->error);
    if (status)
        return status;
    bundle->text = found.kept;
    memcpy(bundle->sha256, found.sha256, sizeof bundle->sha256);
    status = ue_manifest_parse(&bundle->manifest, bundle->text.bytes, bundle->text.size,
                               ue_bundle_shown(bundle, UE_MANIFEST_NAME).text, &bundle->error);
    if (status)
        return status;
    bundle->watch = ue_watch_open(1 + bundle->manifest.files.count);
    return bundle->watch ? watch(bundle, UE_MANIFEST_NAME, &found) : no_memory(bundle);
}

/* Hash one listed file; the aggregator's bytes are kept, as it is made of them. */
static ue_status verify(ue_bundle *bundle, const struct ue_listed_file *file) {
    struct ue_checked found;
    const bool keep = ue_same_text(file->name, bundle->manifest.aggregator.file);
    const ue_status status = ue_bundle_read(bundle, file, 0, keep, &found, &bundle->error);
    if (keep)
        bundle->aggregator = found.kept;
    return status ? status : watch(bundle, file->name.bytes, &found);
}

/* The aggregator's own configuration is the manifest's. */
static ue_status compare_configs(ue_bundle *bundle) {
    const char *name = bundle->manifest.aggregator.file.bytes;
    struct ue_safetensors file;
    struct ue_config own;
    ue_status status = ue_safetensors_read(&file, name, bundle->aggregator.bytes,
                                           bundle->aggregator.size, &bundle->error);
    if (status)
        return status;
    status = ue_config_in(&own, &file, &bundle->error);
    ue_safetensors_free(&file);
    const char *differs =
        status ? NULL : ue_config_difference(&own, &bundle->manifest.aggregator.config);
    if (!differs)
        return status;
    return ue_fail(&bundle->error, UE_BAD_BUNDLE,
                   "%s: " UE_MANIFEST_NAME
                   ": aggregator.config differs from the metadata of %s in %s; "
                   "copy the file's configuration into the manifest",
                   bundle->shown.text, ue_show(name, strlen(name)).text, differs);
}

static ue_status open_bundle(ue_bundle *bundle, const char *folder) {
    if (!folder)
        return ue_fail(&bundle->error, UE_NULL_POINTER, "no folder given");
    bundle->shown = ue_show_path(folder);
    bundle->root = ue_real_path(folder);
    if (!bundle->root)
        return ue_fail(&bundle->error, UE_BAD_BUNDLE,
                       "%s: no such folder; name one with a " UE_MANIFEST_NAME " inside",
                       bundle->shown.text);
    if (read_manifest(bundle))
        return bundle->error.status;
    const struct ue_listed_file *files = bundle->manifest.files.items;
    for (size_t i = 0; i < bundle->manifest.files.count; i++)
        if (verify(bundle, &files[i]))
            return bundle->error.status;
    return compare_configs(bundle);
}

/* ---- the handle ------------------------------------------------------------------------------ */

ue_status ue_bundle_open(const char *folder, ue_bundle **out) {
    if (!out)
        return UE_NULL_POINTER;
    ue_bundle *bundle = *out = calloc(1, sizeof *bundle);
    if (!bundle)
        return UE_NO_MEMORY;
    const ue_status status = open_bundle(bundle, folder);
    bundle->usable = !status;
    return status;
}

const char *ue_bundle_error(const ue_bundle *bundle) {
    if (!bundle)
        return ue_status_text(UE_NO_MEMORY);
    const char *changed = bundle->usable ? ue_watch_changed(bundle->watch) : NULL;
    return changed ? changed : bundle->error.text;
}

ue_status ue_bundle_check_unchanged(const ue_bundle *bundle) {
    if (!bundle)
        return UE_NULL_POINTER;
    return bundle->usable ? ue_watch_check(bundle->watch) : UE_BAD_BUNDLE;
}

void ue_bundle_close(ue_bundle *bundle) {
    if (!bundle)
        return;
    ue_watch_close(bundle->watch);
    ue_manifest_free(&bundle->manifest);
    free(bundle->aggregator.bytes);
    free(bundle->text.bytes);
    free(bundle->root);
    free(bundle);
}

ue_status ue_bundle_aggregator(const ue_bundle *bundle, const ue_aggregator_options *options,
                               ue_aggregator **aggregator) {
    if (!bundle || !aggregator)
        return UE_NULL_POINTER;
    *aggregator = NULL;
    if (!bundle->usable)
        return UE_BAD_BUNDLE;
    return ue_aggregator_from_memory(bundle->aggregator.bytes, bundle->aggregator.size, options,
                                     aggregator);
}

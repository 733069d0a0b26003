/* Opening a bundle: its manifest, then every file that is named there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/config.h"
#include "state.h"
#include "system/file.h"

#define MANIFEST "bundle.json"

static const uint64_t most_manifest_bytes = 1 << 20;
/* Four times the largest encoder in use (1.1 billion parameters in fp32). */
static const uint64_t most_file_bytes = (uint64_t)16 << 30;

/* ---- where a file lies ----------------------------------------------------------------------- */

static ue_status no_memory(ue_bundle *bundle) {
    return ue_fail(&bundle->error, UE_NO_MEMORY, "%s: no memory to read it; close other programs",
                   bundle->shown.text);
}

static ue_status refuse(ue_bundle *bundle, const char *name, const char *problem) {
    return ue_fail(&bundle->error, UE_BAD_BUNDLE, "%s: %s: %s", bundle->shown.text,
                   ue_show(name, strlen(name)).text, problem);
}

/* Whether a part is "..": of the letters that a path may have it alone leads up. */
static bool leads_up(const char *name) {
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2]))
            return true;
    }
    return false;
}

/* Where a listed file lies, links followed; that has to be inside the folder. */
static ue_status find(ue_bundle *bundle, const char *name, char **path) {
    char *named = ue_join_path(bundle->root, name);
    if (!named)
        return no_memory(bundle);
    *path = leads_up(name) ? NULL : ue_real_path(named);
    free(named);
    if (*path && ue_path_inside(*path, bundle->root))
        return UE_OK;
    const bool missing = !*path && !leads_up(name);
    free(*path);
    *path = NULL;
    return refuse(bundle, name,
                  missing ? "is missing, or a link that leads nowhere; copy the bundle again"
                          : "leads outside the bundle; copy the file into the folder and name it "
                            "from there");
}

/* What messages call a file of the folder. */
static struct ue_shown shown_below(const ue_bundle *bundle, const char *name) {
    char text[2 * UE_SHOWN + 200]; /* no listed name is longer */
    snprintf(text, sizeof text, "%s/%s", bundle->shown.text, name);
    return ue_show_path(text);
}

static ue_status read_file(ue_bundle *bundle, const char *name, const char *path, uint64_t most,
                           struct ue_kept *kept, char sha256[UE_SHA256_HEX]) {
    const struct ue_shown shown = shown_below(bundle, name);
    const struct ue_checked_source source = {path, &shown, most};
    return ue_checked_read(&source, kept, sha256, &bundle->error);
}

/* ---- what it must be ------------------------------------------------------------------------- */

static ue_status read_manifest(ue_bundle *bundle) {
    char *path = ue_join_path(bundle->root, MANIFEST);
    const ue_status status =
        path ? read_file(bundle, MANIFEST, path, most_manifest_bytes, &bundle->text, bundle->sha256)
             : no_memory(bundle);
    free(path);
    return status ? status
                  : ue_manifest_parse(&bundle->manifest, bundle->text.bytes, bundle->text.size,
                                      shown_below(bundle, MANIFEST).text, &bundle->error);
}

/* Hash one listed file; the aggregator's bytes are kept, as it is made of them. */
static ue_status verify(ue_bundle *bundle, const struct ue_listed_file *file) {
    char found[UE_SHA256_HEX];
    const bool keep = ue_same_text(file->name, bundle->manifest.aggregator.file);
    char *path;
    ue_status status = find(bundle, file->name.bytes, &path);
    if (status)
        return status;
    status = read_file(bundle, file->name.bytes, path, most_file_bytes,
                       keep ? &bundle->aggregator : NULL, found);
    free(path);
    if (status)
        return status;
    if (ue_json_equals(file->sha256, found))
        return UE_OK;
    return ue_fail(&bundle->error, UE_BAD_BUNDLE,
                   "%s: %s has SHA-256 %s, the manifest says %s; the file is damaged or was "
                   "changed: copy the bundle again",
                   bundle->shown.text, ue_show(file->name.bytes, file->name.length).text, found,
                   file->sha256.bytes);
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
                   "%s: " MANIFEST ": aggregator.config differs from the metadata of %s in %s; "
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
                       "%s: no such folder; name one with a " MANIFEST " inside",
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
    return bundle ? bundle->error.text : ue_status_text(UE_NO_MEMORY);
}

void ue_bundle_close(ue_bundle *bundle) {
    if (!bundle)
        return;
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

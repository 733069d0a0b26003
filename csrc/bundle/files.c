#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t most_manifest_bytes = 1 << 20;
/* Four times the largest encoder in use (1.1 billion parameters in fp32). */
static const uint64_t most_file_bytes = (uint64_t)16 << 30;

/* ---- where a file lies ----------------------------------------------------------------------- */

static ue_status no_memory(const ue_bundle *bundle, struct ue_error *error) {
    return ue_fail(error, UE_NO_MEMORY, "%s: no memory to read it; close other programs",
                   bundle->shown.text);
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

char *ue_bundle_path(const ue_bundle *bundle, const char *name) {
    return ue_join_path(bundle->root, name);
}

/* Where a listed file lies, links followed; that has to be inside the folder. */
static ue_status find(const ue_bundle *bundle, const char *name, char **path,
                      struct ue_error *error) {
    char *named = ue_bundle_path(bundle, name);
    if (!named)
        return no_memory(bundle, error);
    *path = leads_up(name) ? NULL : ue_real_path(named);
    free(named);
    if (*path && ue_path_inside(*path, bundle->root))
        return UE_OK;
    const bool missing = !*path && !leads_up(name);
    free(*path);
    *path = NULL;
    return ue_fail(
        error, UE_BAD_BUNDLE, "%s: %s: %s", bundle->shown.text, ue_show(name, strlen(name)).text,
        missing ? "is missing, or a link that leads nowhere; copy the bundle again"
                : "leads outside the bundle; copy the file into the folder and name it from there");
}

struct ue_shown ue_bundle_shown(const ue_bundle *bundle, const char *name) {
    char text[2 * UE_SHOWN + 200]; /* no listed name is longer */
    snprintf(text, sizeof text, "%s/%s", bundle->shown.text, name);
    return ue_show_path(text);
}

/* ---- what it holds --------------------------------------------------------------------------- */

static ue_status read_file(const ue_bundle *bundle, const char *name, const char *path,
                           uint64_t most, bool keep, struct ue_checked *found,
                           struct ue_error *error) {
    const struct ue_shown shown = ue_bundle_shown(bundle, name);
    const struct ue_checked_source source = {path, &shown, most};
    return ue_checked_read(&source, keep, found, error);
}

ue_status ue_bundle_read_manifest(ue_bundle *bundle, struct ue_checked *found,
                                  struct ue_error *error) {
    char *path = ue_bundle_path(bundle, UE_MANIFEST_NAME);
    const ue_status status =
        path ? read_file(bundle, UE_MANIFEST_NAME, path, most_manifest_bytes, true, found, error)
             : no_memory(bundle, error);
    free(path);
    return status;
}

ue_status ue_bundle_read(const ue_bundle *bundle, const struct ue_listed_file *file, uint64_t most,
                         bool keep, struct ue_checked *found, struct ue_error *error) {
    char *path;
    *found = (struct ue_checked){.sha256 = ""};
    ue_status status = find(bundle, file->name.bytes, &path, error);
    if (status)
        return status;
    status = read_file(bundle, file->name.bytes, path, most ? most : most_file_bytes, keep, found,
                       error);
    free(path);
    if (status || ue_json_equals(file->sha256, found->sha256))
        return status;
    free(found->kept.bytes);
    found->kept = (struct ue_kept){NULL, 0};
    return ue_fail(error, UE_BAD_BUNDLE,
                   "%s: %s has SHA-256 %s, the manifest says %s; the file is damaged or was "
                   "changed: copy the bundle again",
                   bundle->shown.text, ue_show(file->name.bytes, file->name.length).text,
                   found->sha256, file->sha256.bytes);
}

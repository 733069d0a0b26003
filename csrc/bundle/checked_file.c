#include "checked_file.h"

#include <stdlib.h>

#include "system/file.h"

enum { AT_ONCE = 1 << 18 };

static ue_status refuse(const struct ue_checked_source *source, const char *problem,
                        struct ue_error *error) {
    return ue_fail(error, UE_BAD_BUNDLE, "%s: %s; copy the bundle again", source->name->text,
                   problem);
}

static ue_status no_memory(const struct ue_checked_source *source, struct ue_error *error) {
    return ue_fail(error, UE_NO_MEMORY, "%s: does not fit into memory; close other programs",
                   source->name->text);
}

/* Hash `size` bytes, which go to `into` one after another, or each part in the place of the last.
 */
static bool take(ue_file file, uint64_t size, char *into, bool keep, char hex[UE_SHA256_HEX]) {
    struct ue_sha256 hash;
    ue_sha256_start(&hash);
    for (uint64_t at = 0; at < size;) {
        const size_t part = size - at < AT_ONCE ? (size_t)(size - at) : AT_ONCE;
        char *to = keep ? into + at : into;
        if (!ue_file_read(file, to, part, at))
            return false;
        ue_sha256_add(&hash, to, part);
        at += part;
    }
    ue_sha256_finish(&hash, hex);
    return true;
}

static ue_status read_bytes(ue_file file, const struct ue_checked_source *source, char *bytes,
                            bool keep, const struct ue_file_identity *before,
                            char sha256[UE_SHA256_HEX], struct ue_error *error) {
    struct ue_file_identity after;
    if (!take(file, before->size, bytes, keep, sha256))
        return refuse(source, "cannot be read to its end", error);
    if (!ue_file_identify(file, &after) || !ue_same_file(before, &after))
        return ue_fail(error, UE_BAD_BUNDLE,
                       "%s: is being written to; wait until its copy is complete",
                       source->name->text);
    return UE_OK;
}

/* Read an open file into memory of its own, which becomes the caller's if that is wanted. */
static ue_status read_open(ue_file file, const struct ue_checked_source *source,
                           struct ue_kept *kept, char sha256[UE_SHA256_HEX],
                           struct ue_error *error) {
    struct ue_file_identity before;
    if (!ue_file_identify(file, &before))
        return refuse(source, "cannot be looked at", error);
    if (before.size > source->most)
        return ue_fail(error, UE_BAD_BUNDLE, "%s: is too large: over %llu bytes",
                       source->name->text, (unsigned long long)source->most);
    if (kept && before.size >= SIZE_MAX)
        return no_memory(source, error);
    char *bytes = malloc(kept ? (size_t)before.size + 1 : AT_ONCE);
    if (!bytes)
        return no_memory(source, error);
    const ue_status status = read_bytes(file, source, bytes, kept, &before, sha256, error);
    if (status || !kept) {
        free(bytes);
        return status;
    }
    bytes[before.size] = '\0';
    *kept = (struct ue_kept){bytes, (size_t)before.size};
    return UE_OK;
}

ue_status ue_checked_read(const struct ue_checked_source *source, struct ue_kept *kept,
                          char sha256[UE_SHA256_HEX], struct ue_error *error) {
    const char *why;
    const ue_file file = ue_file_open_to_read(source->path, &why);
    if (file == UE_NO_FILE)
        return refuse(source, why, error);
    const ue_status status = read_open(file, source, kept, sha256, error);
    ue_file_close(file);
    return status;
}

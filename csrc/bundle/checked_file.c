#include "checked_file.h"

#include <stdlib.h>

/* What is not kept lies on the stack, so that looking again at a file needs no memory. */
enum { AT_ONCE = 1 << 14 };

static ue_status refuse(const struct ue_checked_source *source, const char *problem,
                        struct ue_error *error) {
    return ue_fail(error, UE_BAD_BUNDLE, "%s: %s; copy the bundle again", source->name->text,
                   problem);
}

static ue_status no_memory(const struct ue_checked_source *source, struct ue_error *error) {
    return ue_fail(error, UE_NO_MEMORY, "%s: does not fit into memory; close other programs",
                   source->name->text);
}

/* Hash `size` bytes, which go to `into` one after another; NULL: to nowhere. */
static bool take(ue_file file, uint64_t size, char *into, char hex[UE_SHA256_HEX]) {
    struct ue_sha256 hash;
    char passing[AT_ONCE];
    ue_sha256_start(&hash);
    for (uint64_t at = 0; at < size;) {
        const size_t part = size - at < AT_ONCE ? (size_t)(size - at) : AT_ONCE;
        char *to = into ? into + at : passing;
        if (!ue_file_read(file, to, part, at))
            return false;
        ue_sha256_add(&hash, to, part);
        at += part;
    }
    ue_sha256_finish(&hash, hex);
    return true;
}

static ue_status read_bytes(ue_file file, const struct ue_checked_source *source,
                            struct ue_checked *found, struct ue_error *error) {
    struct ue_file_identity after;
    if (!take(file, found->identity.size, found->kept.bytes, found->sha256))
        return refuse(source, "cannot be read to its end", error);
    if (!ue_file_identify(file, &after) || !ue_same_file(&found->identity, &after))
        return ue_fail(error, UE_BAD_BUNDLE,
                       "%s: is being written to; wait until its copy is complete",
                       source->name->text);
    return UE_OK;
}

/* Room for an open file, and a NUL. */
static bool make_room(struct ue_checked *found) {
    if (found->identity.size >= SIZE_MAX)
        return false;
    found->kept.size = (size_t)found->identity.size;
    found->kept.bytes = malloc(found->kept.size + 1);
    if (found->kept.bytes)
        found->kept.bytes[found->kept.size] = '\0';
    return found->kept.bytes;
}

static ue_status read_open(ue_file file, const struct ue_checked_source *source, bool keep,
                           struct ue_checked *found, struct ue_error *error) {
    if (!ue_file_identify(file, &found->identity))
        return refuse(source, "cannot be looked at", error);
    if (found->identity.size > source->most)
        return ue_fail(error, UE_BAD_BUNDLE, "%s: is too large: over %llu bytes",
                       source->name->text, (unsigned long long)source->most);
    if (keep && !make_room(found))
        return no_memory(source, error);
    const ue_status status = read_bytes(file, source, found, error);
    if (status) {
        free(found->kept.bytes);
        found->kept = (struct ue_kept){NULL, 0};
    }
    return status;
}

ue_status ue_checked_read(const struct ue_checked_source *source, bool keep,
                          struct ue_checked *found, struct ue_error *error) {
    const char *why;
    *found = (struct ue_checked){.sha256 = ""};
    const ue_file file = ue_file_open_to_read(source->path, &why);
    if (file == UE_NO_FILE)
        return refuse(source, why, error);
    const ue_status status = read_open(file, source, keep, found, error);
    ue_file_close(file);
    return status;
}

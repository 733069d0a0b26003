/* Files of others, read once: what was hashed is what is kept. */
#ifndef UE_CHECKED_FILE_H
#define UE_CHECKED_FILE_H

#include "formats/sha256.h"
#include "formats/shown.h"
#include "system/error.h"
#include "system/file.h"

/* Which file, what messages call it, and how long it may be. */
struct ue_checked_source {
    const char *path;
    const struct ue_shown *name;
    uint64_t most;
};

/* Bytes of a file, a NUL behind them; NULL before they were read. */
struct ue_kept {
    char *bytes;
    size_t size;
};

struct ue_checked {
    struct ue_kept kept;              /* empty unless it was to be kept */
    struct ue_file_identity identity; /* before it was read */
    char sha256[UE_SHA256_HEX];       /* of a file that could be read to its end; else empty */
};

/*
 * Hash a regular file, and keep what was hashed, where that is wanted. UE_BAD_BUNDLE where it is no
 * such file, too large, or changes meanwhile; UE_NO_MEMORY only where it is to be kept.
 */
ue_status ue_checked_read(const struct ue_checked_source *source, bool keep,
                          struct ue_checked *found, struct ue_error *error);

#endif

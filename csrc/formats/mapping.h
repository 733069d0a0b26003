/* A whole file in memory, read-only. The pages are the system's own: processes that map the same
 * file share them, and need no memory of their own for it. */
#ifndef UE_MAPPING_H
#define UE_MAPPING_H

#include "system/error.h"

struct ue_mapping {
    const void *bytes; /* NULL: nothing is mapped */
    size_t size;
};

/*
 * Map the regular, non-empty file at `path` (UTF-8) and ask the system to read it ahead. A file
 * that is cut short while it is mapped ends the process (SIGBUS): replace files, do not rewrite
 * them. UE_BAD_FILE names the path and the system's reason.
 */
ue_status ue_mapping_open(struct ue_mapping *mapping, const char *path, struct ue_error *error);
void ue_mapping_close(struct ue_mapping *mapping);

#endif

/* Where a bundle's files lie, and what they hold. */
#ifndef UE_FILES_H
#define UE_FILES_H

#include "state.h"

#define UE_MANIFEST_NAME "bundle.json"

/* What messages call a file of the folder. */
struct ue_shown ue_bundle_shown(const ue_bundle *bundle, const char *name);

/* Read bundle.json, and watch it. */
ue_status ue_bundle_read_manifest(ue_bundle *bundle, struct ue_checked *found,
                                  struct ue_error *error);

/*
 * Hash a listed file of at most so many bytes (0: as any file), and keep what was hashed where that
 * is wanted. UE_BAD_BUNDLE where that is not what the manifest says, and for a file that is not
 * there, no regular one, or lies outside the folder.
 */
ue_status ue_bundle_read(const ue_bundle *bundle, const struct ue_listed_file *file, uint64_t most,
                         bool keep, struct ue_checked *found, struct ue_error *error);

/* The path of a file below the folder, links not followed, to be freed; NULL: no memory. */
char *ue_bundle_path(const ue_bundle *bundle, const char *name);

#endif

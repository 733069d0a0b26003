/* Which other files an ONNX model refers to, found in its bytes without loading it. */
#ifndef UE_NAMED_FILES_H
#define UE_NAMED_FILES_H

#include "said.h"

/* Told of a file that a model refers to; what is not UE_OK ends the search. */
typedef ue_status ue_see_name(void *self, const char *name, size_t length);

/*
 * Tell of every file that an ONNX model refers to, as often as it does. UE_BAD_MODEL, naming
 * `what`, for a model that hands its work to a file of some device's own format, or is no protobuf
 * message; else what `see` says.
 */
ue_status ue_named_files_see(const void *bytes, size_t size, const char *what, ue_see_name *see,
                             void *self);

/*
 * UE_BAD_MODEL, naming `what`, for a model that refers to a file that is not among `weights`, too.
 * A runtime would open whatever path stands there.
 */
ue_status ue_named_files_check(const ue_encoder_source *source, const char *what);

#endif

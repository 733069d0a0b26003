/* Which other files an ONNX model refers to, found in its bytes without loading it. */
#ifndef UE_NAMED_FILES_H
#define UE_NAMED_FILES_H

#include "said.h"

/*
 * UE_BAD_MODEL, naming `what`, for a model that refers to a file that is not among `weights`, hands
 * its work to a file of some device's own format, or is no protobuf message. A runtime would open
 * whatever path stands there.
 */
ue_status ue_named_files_check(const ue_encoder_source *source, const char *what);

#endif

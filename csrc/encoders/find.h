/* Whether a runtime is installed: its library is loaded, and nothing of a GPU touched. */
#ifndef UE_FIND_H
#define UE_FIND_H

#include "unicas_edge_encoder.h"

/*
 * UE_NO_RUNTIME, and what to install, where a library cannot be loaded, is too old, or was built
 * without the provider. Arguments as in ue_encoder_options.
 */
ue_status ue_onnxruntime_find(const char *library, const char *provider);
ue_status ue_openvino_find(const char *library);

#endif

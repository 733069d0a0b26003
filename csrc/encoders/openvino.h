/* An encoder around one compiled OpenVINO model, in two files: it is made, it runs. */
#ifndef UE_OPENVINO_H
#define UE_OPENVINO_H

#include "engine.h"

#include "openvino_api.h"

struct ue_openvino {
    struct ue_engine engine; /* first */
    struct ue_ov ov;
    ue_ov_handle *core, *weights, *model, *compiled;
    int elements[3]; /* OpenVINO's number of each ue_dtype */
};

/* UE_OK for 0, or what OpenVINO says is wrong. */
ue_status ue_openvino_check(const struct ue_openvino *own, int failed, ue_status status);

ue_status ue_openvino_load(struct ue_openvino *own, const char *library);

/* Load the library; the model, compiled for the batch and the workers; a request for each slot. */
ue_status ue_openvino_start(struct ue_openvino *own, const struct ue_request *request);
void ue_openvino_release(struct ue_openvino *own);

#endif

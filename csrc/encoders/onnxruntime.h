/* An encoder around one ONNX Runtime session, in two files: it is made, it runs. */
#ifndef UE_ONNXRUNTIME_H
#define UE_ONNXRUNTIME_H

#include "engine.h"

#include "onnxruntime_api.h"

/* An execution provider, what its encoder is called, and what ONNX Runtime calls it. */
struct ue_provider {
    const char *name, *encoder, *device, *own;
    bool gpu;
};

struct ue_onnxruntime {
    struct ue_engine engine; /* first */
    struct ue_ort ort;
    void *library;
    const struct ue_provider *provider;
    ue_ort_handle *env, *options, *session, *memory, *allocator;
    char *input, *output; /* names */
};

/* UE_OK, or what ONNX Runtime says is wrong, which is freed. */
ue_status ue_onnxruntime_check(const struct ue_onnxruntime *own, ue_ort_status failed,
                               ue_status status);

/* A tensor's element and shape; of a shape that is too long only its length. */
ue_ort_status ue_onnxruntime_tensor(const struct ue_ort *ort, const ue_ort_handle *tensor,
                                    struct ue_port *port);

/* Load the library, and see whether it was built with the provider. */
ue_status ue_onnxruntime_load(struct ue_onnxruntime *own, const char *library);

/* Load the library; a session of the model; a slot for each worker. */
ue_status ue_onnxruntime_start(struct ue_onnxruntime *own, const struct ue_request *request);
void ue_onnxruntime_release(struct ue_onnxruntime *own);

#endif

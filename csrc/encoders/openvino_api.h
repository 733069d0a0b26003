/*
 * The few functions of OpenVINO's C interface that are used, found by their names. A status is 0
 * for success.
 */
#ifndef UE_OPENVINO_API_H
#define UE_OPENVINO_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define UE_OV_CALL __cdecl
#else
#define UE_OV_CALL
#endif

/* A handle of OpenVINO's own. */
typedef struct ue_ov_handle ue_ov_handle;

/* Structs that its functions take by value, or fill. */
struct ue_ov_version {
    const char *build, *description;
};

struct ue_ov_shape {
    int64_t rank;
    int64_t *dims;
};

struct ue_ov_range {
    int64_t least, most; /* alike where a dimension is known */
};

struct ue_ov_partial_shape {
    struct ue_ov_range rank;
    struct ue_ov_range *dims;
};

/* Result, name here, name there, arguments. */
#define UE_OV_FUNCTIONS(X)                                                                     \
    X(int, version, "ov_get_openvino_version", (struct ue_ov_version * version))               \
    X(void, free_version, "ov_version_free", (struct ue_ov_version * version))                 \
    X(const char *, status_text, "ov_get_error_info", (int status))                            \
    X(const char *, last_message, "ov_get_last_err_msg", (void))                               \
    X(void, free_text, "ov_free", (const char *text))                                          \
    X(int, create_core, "ov_core_create", (ue_ov_handle * *core))                              \
    X(void, free_core, "ov_core_free", (ue_ov_handle * core))                                  \
    X(int, read_file, "ov_core_read_model",                                                    \
      (const ue_ov_handle *core, const char *path, const char *weights, ue_ov_handle **model)) \
    X(int, read_memory, "ov_core_read_model_from_memory_buffer",                               \
      (const ue_ov_handle *core, const char *bytes, size_t size, const ue_ov_handle *weights,  \
       ue_ov_handle **model))                                                                  \
    X(int, compile, "ov_core_compile_model",                                                   \
      (const ue_ov_handle *core, const ue_ov_handle *model, const char *device, size_t count,  \
       ue_ov_handle **compiled, ...))                                                          \
    X(int, core_property, "ov_core_get_property",                                              \
      (const ue_ov_handle *core, const char *device, const char *key, char **value))           \
    X(void, free_model, "ov_model_free", (ue_ov_handle * model))                               \
    X(int, count_inputs, "ov_model_inputs_size", (const ue_ov_handle *model, size_t *count))   \
    X(int, count_outputs, "ov_model_outputs_size", (const ue_ov_handle *model, size_t *count)) \
    X(int, input, "ov_model_const_input_by_index",                                             \
      (const ue_ov_handle *model, size_t index, ue_ov_handle **port))                          \
    X(int, output, "ov_model_const_output_by_index",                                           \
      (const ue_ov_handle *model, size_t index, ue_ov_handle **port))                          \
    X(int, port_element, "ov_port_get_element_type", (const ue_ov_handle *port, int *element)) \
    X(int, port_shape, "ov_port_get_partial_shape",                                            \
      (const ue_ov_handle *port, struct ue_ov_partial_shape *shape))                           \
    X(void, free_port, "ov_output_const_port_free", (ue_ov_handle * port))                     \
    X(void, free_partial_shape, "ov_partial_shape_free", (struct ue_ov_partial_shape * shape)) \
    X(int, reshape, "ov_model_reshape_single_input",                                           \
      (const ue_ov_handle *model, struct ue_ov_partial_shape shape))                           \
    X(void, free_compiled, "ov_compiled_model_free", (ue_ov_handle * compiled))                \
    X(int, compiled_property, "ov_compiled_model_get_property",                                \
      (const ue_ov_handle *compiled, const char *key, char **value))                           \
    X(int, create_request, "ov_compiled_model_create_infer_request",                           \
      (const ue_ov_handle *compiled, ue_ov_handle **request))                                  \
    X(void, free_request, "ov_infer_request_free", (ue_ov_handle * request))                   \
    X(int, set_input, "ov_infer_request_set_input_tensor_by_index",                            \
      (ue_ov_handle * request, size_t index, const ue_ov_handle *tensor))                      \
    X(int, get_output, "ov_infer_request_get_output_tensor_by_index",                          \
      (const ue_ov_handle *request, size_t index, ue_ov_handle **tensor))                      \
    X(int, infer, "ov_infer_request_infer", (ue_ov_handle * request))                          \
    X(int, cancel, "ov_infer_request_cancel", (ue_ov_handle * request))                        \
    X(int, create_tensor, "ov_tensor_create",                                                  \
      (int element, struct ue_ov_shape shape, ue_ov_handle **tensor))                          \
    X(int, wrap_tensor, "ov_tensor_create_from_host_ptr",                                      \
      (int element, struct ue_ov_shape shape, void *bytes, ue_ov_handle **tensor))             \
    X(int, tensor_size, "ov_tensor_get_byte_size", (const ue_ov_handle *tensor, size_t *size)) \
    X(int, tensor_element, "ov_tensor_get_element_type",                                       \
      (const ue_ov_handle *tensor, int *element))                                              \
    X(int, tensor_bytes, "ov_tensor_data", (const ue_ov_handle *tensor, void **bytes))         \
    X(void, free_tensor, "ov_tensor_free", (ue_ov_handle * tensor))

struct ue_ov {
#define UE_OV_FIELD(result, name, symbol, arguments) result(UE_OV_CALL *name) arguments;
    UE_OV_FUNCTIONS(UE_OV_FIELD)
#undef UE_OV_FIELD
};

#endif

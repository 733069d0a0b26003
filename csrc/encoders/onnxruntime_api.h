/*
 * The few functions of ONNX Runtime's C interface that are used, by their places in its table. The
 * table only grows: what version 1.18 (18 there) has stays where it is for ever.
 */
#ifndef UE_ONNXRUNTIME_API_H
#define UE_ONNXRUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#include <wchar.h>
#define UE_ORT_CALL __stdcall
typedef wchar_t ue_ort_path;
#else
#define UE_ORT_CALL
typedef char ue_ort_path;
#endif

/* The oldest version of the table that takes a model's weights from memory. */
enum { UE_ORT_VERSION = 18 };

/* Handles of ONNX Runtime's own; a status is NULL for success. */
typedef struct ue_ort_handle ue_ort_handle;
typedef ue_ort_handle *ue_ort_status;

/* The one symbol, OrtGetApiBase, returns this. */
struct ue_ort_base {
    void(UE_ORT_CALL *const *(UE_ORT_CALL *table)(uint32_t version))(void);
    const char *(UE_ORT_CALL *version)(void);
};

enum ue_ort_element { UE_ORT_FLOAT = 1, UE_ORT_UINT8 = 2, UE_ORT_FLOAT16 = 10 };

/* Place in the table, result, name, arguments. */
#define UE_ORT_FUNCTIONS(X)                                                                     \
    X(2, const char *, message, (const ue_ort_handle *status))                                  \
    X(3, ue_ort_status, create_env, (int level, const char *name, ue_ort_handle **env))         \
    X(7, ue_ort_status, create_session,                                                         \
      (const ue_ort_handle *env, const ue_ort_path *path, const ue_ort_handle *options,         \
       ue_ort_handle **session))                                                                \
    X(8, ue_ort_status, create_session_from_memory,                                             \
      (const ue_ort_handle *env, const void *bytes, size_t size, const ue_ort_handle *options,  \
       ue_ort_handle **session))                                                                \
    X(9, ue_ort_status, run,                                                                    \
      (ue_ort_handle * session, const ue_ort_handle *options, const char *const *input_names,   \
       const ue_ort_handle *const *inputs, size_t input_count, const char *const *output_names, \
       size_t output_count, ue_ort_handle **outputs))                                           \
    X(10, ue_ort_status, create_session_options, (ue_ort_handle * *options))                    \
    X(17, ue_ort_status, disable_memory_pattern, (ue_ort_handle * options))                     \
    X(22, ue_ort_status, set_log_level, (ue_ort_handle * options, int level))                   \
    X(24, ue_ort_status, set_threads_within, (ue_ort_handle * options, int threads))            \
    X(25, ue_ort_status, set_threads_between, (ue_ort_handle * options, int threads))           \
    X(30, ue_ort_status, count_inputs, (const ue_ort_handle *session, size_t *count))           \
    X(31, ue_ort_status, count_outputs, (const ue_ort_handle *session, size_t *count))          \
    X(33, ue_ort_status, input_type,                                                            \
      (const ue_ort_handle *session, size_t index, ue_ort_handle **type))                       \
    X(34, ue_ort_status, output_type,                                                           \
      (const ue_ort_handle *session, size_t index, ue_ort_handle **type))                       \
    X(36, ue_ort_status, input_name,                                                            \
      (const ue_ort_handle *session, size_t index, ue_ort_handle *allocator, char **name))      \
    X(37, ue_ort_status, output_name,                                                           \
      (const ue_ort_handle *session, size_t index, ue_ort_handle *allocator, char **name))      \
    X(39, ue_ort_status, create_run_options, (ue_ort_handle * *options))                        \
    X(46, ue_ort_status, terminate, (ue_ort_handle * options))                                  \
    X(49, ue_ort_status, create_tensor,                                                         \
      (const ue_ort_handle *memory, void *bytes, size_t size, const int64_t *dims, size_t rank, \
       int element, ue_ort_handle **value))                                                     \
    X(51, ue_ort_status, tensor_bytes, (ue_ort_handle * value, void **bytes))                   \
    X(55, ue_ort_status, tensor_of_type,                                                        \
      (const ue_ort_handle *type, const ue_ort_handle **tensor))                                \
    X(60, ue_ort_status, element_of, (const ue_ort_handle *tensor, int *element))               \
    X(61, ue_ort_status, rank_of, (const ue_ort_handle *tensor, size_t *rank))                  \
    X(62, ue_ort_status, dims_of, (const ue_ort_handle *tensor, int64_t *dims, size_t rank))    \
    X(65, ue_ort_status, tensor_of_value, (const ue_ort_handle *value, ue_ort_handle **tensor)) \
    X(69, ue_ort_status, create_cpu_memory, (int allocator, int type, ue_ort_handle **memory))  \
    X(76, ue_ort_status, free_name, (ue_ort_handle * allocator, void *name))                    \
    X(78, ue_ort_status, usual_allocator, (ue_ort_handle * *allocator))                         \
    X(92, void, release_env, (ue_ort_handle * env))                                             \
    X(93, void, release_status, (ue_ort_handle * status))                                       \
    X(94, void, release_memory, (ue_ort_handle * memory))                                       \
    X(95, void, release_session, (ue_ort_handle * session))                                     \
    X(96, void, release_value, (ue_ort_handle * value))                                         \
    X(97, void, release_run_options, (ue_ort_handle * options))                                 \
    X(98, void, release_type, (ue_ort_handle * type))                                           \
    X(99, void, release_tensor, (ue_ort_handle * tensor))                                       \
    X(100, void, release_session_options, (ue_ort_handle * options))                            \
    X(125, ue_ort_status, list_providers, (char ***names, int *count))                          \
    X(126, ue_ort_status, free_providers, (char **names, int count))                            \
    X(130, ue_ort_status, set_entry,                                                            \
      (ue_ort_handle * options, const char *key, const char *value))                            \
    X(170, ue_ort_status, append_tensorrt,                                                      \
      (ue_ort_handle * options, const ue_ort_handle *tensorrt))                                 \
    X(171, ue_ort_status, create_tensorrt, (ue_ort_handle * *tensorrt))                         \
    X(174, void, release_tensorrt, (ue_ort_handle * tensorrt))                                  \
    X(204, ue_ort_status, append_cuda, (ue_ort_handle * options, const ue_ort_handle *cuda))    \
    X(205, ue_ort_status, create_cuda, (ue_ort_handle * *cuda))                                 \
    X(208, void, release_cuda, (ue_ort_handle * cuda))                                          \
    X(279, ue_ort_status, add_weights,                                                          \
      (ue_ort_handle * options, const ue_ort_path *const *names, char *const *bytes,            \
       const size_t *sizes, size_t count))

struct ue_ort {
#define UE_ORT_FIELD(place, result, name, arguments) result(UE_ORT_CALL *name) arguments;
    UE_ORT_FUNCTIONS(UE_ORT_FIELD)
#undef UE_ORT_FIELD
};

#endif

/*
 * Reading safetensors, all of whose header is checked before any of it is used: eight bytes of
 * length, a JSON object that says where each tensor lies, and the tensors, which fill the rest
 * without gap or overlap. Nothing that the reference implementation refuses is accepted; beyond it,
 * a name or a metadata key given twice, an unknown field, a tensor of more than UE_MAX_RANK
 * dimensions and a header that does not start with '{' are errors.
 */
#ifndef UE_SAFETENSORS_H
#define UE_SAFETENSORS_H

#include "json.h"
#include "shown.h"
#include "system/error.h"

enum { UE_MAX_RANK = 8, UE_MAX_TENSORS = 1000000 };

/* The types that weights may have; further ones are known by their size and name only. */
enum ue_dtype_index { UE_DTYPE_F32, UE_DTYPE_F16, UE_DTYPE_BF16, UE_DTYPE_I8, UE_DTYPES_USABLE };

struct ue_shape {
    size_t rank;
    size_t sides[UE_MAX_RANK];
};

struct ue_tensor {
    struct ue_json_text name;
    struct ue_shape shape;
    size_t begin, end; /* of its bytes, from the first of all tensors' */
    unsigned dtype;
    bool used; /* for whoever looks tensors up */
};

struct ue_safetensors {
    struct ue_shown file; /* what messages call it */
    const unsigned char *data;
    size_t data_size;
    struct ue_tensor *tensors; /* by name */
    size_t count, capacity;
    char *config; /* of the metadata, NULL if there is none; it may be overwritten */
    size_t config_length;
    char *header; /* what names and config point into */
};

/*
 * Read `size` bytes whose name for messages is `path` (NULL: memory). They are only looked at here;
 * `data` points into them. On failure nothing is left to be freed.
 */
ue_status ue_safetensors_read(struct ue_safetensors *file, const char *path, const void *bytes,
                              size_t size, struct ue_error *error);
void ue_safetensors_free(struct ue_safetensors *file);

/* The tensor of that name, or NULL. */
struct ue_tensor *ue_safetensors_find(const struct ue_safetensors *file, const char *name);

const char *ue_dtype_name(unsigned dtype);

/* Bytes of one element. */
size_t ue_dtype_size(unsigned dtype);

#endif

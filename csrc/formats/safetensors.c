#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

/* The format's own limit: https://github.com/huggingface/safetensors#format */
static const uint64_t largest_header = 100000000;

#define COPY "; copy or export the file again"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [UE_DTYPE_F32] = {"F32", 4},
    [UE_DTYPE_F16] = {"F16", 2},
    [UE_DTYPE_BF16] = {"BF16", 2},
    [UE_DTYPE_I8] = {"I8", 1},
    [UE_DTYPES_USABLE] = {"F64", 8},
    {"I64", 8},
    {"U64", 8},
    {"I32", 4},
    {"U32", 4},
    {"I16", 2},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
    {"F8_E5M2", 1},
    {"F8_E4M3", 1},
};

enum { DTYPES = sizeof dtypes / sizeof *dtypes };

const char *ue_dtype_name(unsigned dtype) {
    return dtypes[dtype].name;
}

size_t ue_dtype_size(unsigned dtype) {
    return dtypes[dtype].size;
}

/* ---- one tensor's entry ---------------------------------------------------------------------- */

static bool read_dtype(struct ue_json *json, struct ue_tensor *tensor) {
    struct ue_json_text name;
    if (!ue_json_string(json, &name))
        return false;
    for (tensor->dtype = 0; tensor->dtype < DTYPES; tensor->dtype++)
        if (ue_json_equals(name, dtypes[tensor->dtype].name))
            return true;
    return ue_json_fail(json, "unknown dtype");
}

static bool read_size(struct ue_json *json, size_t *size) {
    uint64_t value;
    if (!ue_json_whole(json, &value))
        return false;
    *size = (size_t)value;
    return value <= SIZE_MAX || ue_json_fail(json, "a number is too large");
}

static bool read_shape(struct ue_json *json, struct ue_shape *shape) {
    ue_json_enter(json, '[');
    for (shape->rank = 0; ue_json_more(json, ']'); shape->rank++) {
        if (shape->rank == UE_MAX_RANK)
            return ue_json_fail(json, "more than 8 dimensions");
        if (!read_size(json, &shape->sides[shape->rank]))
            return false;
    }
    return !json->problem;
}

static bool read_offsets(struct ue_json *json, struct ue_tensor *tensor) {
    const char *two = "data_offsets are two numbers";
    if (!ue_json_enter(json, '[') || !ue_json_more(json, ']') || !read_size(json, &tensor->begin) ||
        !ue_json_more(json, ']') || !read_size(json, &tensor->end))
        return ue_json_fail(json, two);
    return !ue_json_more(json, ']') ? !json->problem : ue_json_fail(json, two);
}

/* The fields of an entry, each of which comes once, in any order. */
static bool read_entry(struct ue_json *json, struct ue_tensor *tensor) {
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    struct ue_json_text key;
    int seen = 0, field;
    ue_json_enter(json, '{');
    while (ue_json_more(json, '}') && ue_json_key(json, &key)) {
        field = ue_json_equals(key, "dtype")          ? DTYPE
                : ue_json_equals(key, "shape")        ? SHAPE
                : ue_json_equals(key, "data_offsets") ? OFFSETS
                                                      : 0;
        if (!field || seen & field)
            return ue_json_fail(json, field ? "a field is given twice" : "unknown field");
        seen |= field;
        if (!(field == DTYPE   ? read_dtype(json, tensor)
              : field == SHAPE ? read_shape(json, &tensor->shape)
                               : read_offsets(json, tensor)))
            return false;
    }
    if (seen != ALL)
        ue_json_fail(json, "dtype, shape or data_offsets is missing");
    return !json->problem;
}

/* ---- the header ------------------------------------------------------------------------------ */

/* The metadata map texts to texts; what we need of them is the configuration. */
static bool read_metadata(struct ue_safetensors *file, struct ue_json *json) {
    struct ue_json_text key, value;
    ue_json_enter(json, '{');
    while (ue_json_more(json, '}')) {
        if (!ue_json_key(json, &key) || !ue_json_string(json, &value))
            return false;
        if (!ue_json_equals(key, "config"))
            continue;
        if (file->config)
            return ue_json_fail(json, "config is given twice");
        file->config = file->header + (value.bytes - file->header);
        file->config_length = value.length;
    }
    return !json->problem;
}

static ue_status grow(struct ue_safetensors *file, struct ue_error *error) {
    file->capacity = file->capacity ? 2 * file->capacity : 256;
    void *moved = realloc(file->tensors, file->capacity * sizeof *file->tensors);
    if (!moved)
        return ue_fail(error, UE_NO_MEMORY,
                       "%s: no memory for a table of %zu tensors; close other programs",
                       file->file.text, file->capacity);
    file->tensors = moved;
    return UE_OK;
}

static ue_status read_tensor(struct ue_safetensors *file, struct ue_json *json,
                             struct ue_json_text name, struct ue_error *error) {
    if (file->count == UE_MAX_TENSORS)
        return ue_fail(error, UE_BAD_FILE, "%s: more than %d tensors; pass an aggregator's weights",
                       file->file.text, UE_MAX_TENSORS);
    if (file->count == file->capacity && grow(file, error))
        return error->status;
    struct ue_tensor *tensor = &file->tensors[file->count++];
    *tensor = (struct ue_tensor){.name = name};
    read_entry(json, tensor);
    return UE_OK;
}

static ue_status fail_at(const struct ue_safetensors *file, const struct ue_json *json,
                         struct ue_json_text name, struct ue_error *error) {
    return ue_fail(error, UE_BAD_FILE, "%s: header, byte %zu%s%s: %s" COPY, file->file.text,
                   ue_json_offset(json), name.length ? ", in " : "",
                   ue_show(name.bytes, name.length).text, json->problem);
}

static ue_status read_header(struct ue_safetensors *file, struct ue_json *json,
                             struct ue_error *error) {
    struct ue_json_text name = {"", 0};
    bool metadata = false;
    ue_json_enter(json, '{');
    while (ue_json_more(json, '}') && ue_json_key(json, &name)) {
        if (!ue_json_equals(name, "__metadata__")) {
            if (read_tensor(file, json, name, error))
                return error->status;
        } else if (metadata) {
            ue_json_fail(json, "given twice");
        } else {
            metadata = true;
            read_metadata(file, json);
        }
        name.length = json->problem ? name.length : 0;
    }
    return ue_json_finish(json) ? UE_OK : fail_at(file, json, name, error);
}

/* ---- what the tensors have to be, together --------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const struct ue_tensor *left = a, *right = b;
    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    return (left->end > right->end) - (left->end < right->end);
}

static int compare_names(struct ue_json_text left, struct ue_json_text right) {
    const size_t shorter = left.length < right.length ? left.length : right.length;
    const int order = memcmp(left.bytes, right.bytes, shorter);
    return order ? order : (left.length > right.length) - (left.length < right.length);
}

static int by_name(const void *a, const void *b) {
    const struct ue_tensor *left = a, *right = b;
    return compare_names(left->name, right->name);
}

static const char *size_problem(const struct ue_tensor *tensor) {
    size_t size = ue_dtype_size(tensor->dtype);
    for (size_t i = 0; i < tensor->shape.rank; i++) {
        const size_t side = tensor->shape.sides[i];
        if (side && size > SIZE_MAX / side)
            return "its shape is too large";
        size *= side;
    }
    return tensor->end - tensor->begin == size ? NULL : "its shape and dtype need another size";
}

static const char *place_problem(const struct ue_tensor *tensor, size_t previous_end,
                                 size_t data_size) {
    if (tensor->end < tensor->begin)
        return "it ends before it begins";
    if (tensor->end > data_size)
        return "it ends after the file";
    if (tensor->begin != previous_end)
        return tensor->begin > previous_end ? "bytes before it belong to no tensor"
                                            : "it overlaps another tensor";
    return size_problem(tensor);
}

static ue_status check_places(struct ue_safetensors *file, struct ue_error *error) {
    size_t end = 0;
    if (file->count)
        qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    for (size_t i = 0; i < file->count; i++) {
        const struct ue_tensor *tensor = &file->tensors[i];
        const char *problem = place_problem(tensor, end, file->data_size);
        if (problem)
            return ue_fail(error, UE_BAD_FILE,
                           "%s: tensor %s: data_offsets [%zu, %zu] of %zu bytes: %s" COPY,
                           file->file.text, ue_show(tensor->name.bytes, tensor->name.length).text,
                           tensor->begin, tensor->end, file->data_size, problem);
        end = tensor->end;
    }
    if (end != file->data_size)
        return ue_fail(error, UE_BAD_FILE, "%s: the last %zu bytes belong to no tensor" COPY,
                       file->file.text, file->data_size - end);
    return UE_OK;
}

static ue_status check_names(struct ue_safetensors *file, struct ue_error *error) {
    if (file->count)
        qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
    for (size_t i = 1; i < file->count; i++) {
        const struct ue_json_text name = file->tensors[i].name;
        if (compare_names(file->tensors[i - 1].name, name) == 0)
            return ue_fail(error, UE_BAD_FILE, "%s: tensor %s is given twice" COPY, file->file.text,
                           ue_show(name.bytes, name.length).text);
    }
    return UE_OK;
}

/* ---- a file ---------------------------------------------------------------------------------- */

/* Copy the header, so that what was checked stays what it was, whoever writes to the file. */
static ue_status copy_header(struct ue_safetensors *file, const unsigned char *bytes, size_t size,
                             size_t *length, struct ue_error *error) {
    uint64_t stated = 0;
    for (int i = 7; i >= 0 && size >= 8; i--)
        stated = stated << 8 | bytes[i];
    if (size < 8 || stated > size - 8 || stated > largest_header)
        return ue_fail(error, UE_BAD_FILE,
                       "%s: not a safetensors file, or cut short: it has %zu bytes and states a "
                       "header of %llu; pass a .safetensors file, or copy it again",
                       file->file.text, size, (unsigned long long)stated);
    *length = (size_t)stated;
    if (stated == 0 || bytes[8] != '{')
        return ue_fail(error, UE_BAD_FILE,
                       "%s: not a safetensors file: its header does not start with {; pass a "
                       ".safetensors file",
                       file->file.text);
    file->header = malloc(*length + 1);
    if (!file->header)
        return ue_fail(error, UE_NO_MEMORY,
                       "%s: no memory for a header of %zu bytes; close other programs",
                       file->file.text, *length);
    memcpy(file->header, bytes + 8, *length);
    file->header[*length] = '\0';
    file->data = bytes + 8 + *length;
    file->data_size = size - 8 - *length;
    return UE_OK;
}

ue_status ue_safetensors_read(struct ue_safetensors *file, const char *path, const void *bytes,
                              size_t size, struct ue_error *error) {
    struct ue_json json;
    size_t length = 0;
    *file = (struct ue_safetensors){.file = ue_show_path(path ? path : "memory")};
    ue_status status = copy_header(file, bytes, size, &length, error);
    if (!status) {
        ue_json_start(&json, file->header, length);
        status = read_header(file, &json, error);
    }
    status = status ? status : check_places(file, error);
    status = status ? status : check_names(file, error);
    if (status)
        ue_safetensors_free(file);
    return status;
}

void ue_safetensors_free(struct ue_safetensors *file) {
    free(file->tensors);
    free(file->header);
    *file = (struct ue_safetensors){.tensors = NULL};
}

struct ue_tensor *ue_safetensors_find(const struct ue_safetensors *file, const char *name) {
    const struct ue_tensor wanted = {.name = {name, strlen(name)}};
    if (!file->count)
        return NULL;
    return bsearch(&wanted, file->tensors, file->count, sizeof *file->tensors, by_name);
}

/*
 * The protobuf wire format (protobuf.dev/programming-guides/encoding), along the few fields of
 * onnx.proto that lead to tensors: engines/onnx_file.py does the same.
 */
#include "named_files.h"

#include <stdbool.h>
#include <string.h>

enum { MOST_DEPTH = 32 };
enum message { NONE, MODEL, TRAINING, FUNCTION, GRAPH, NODE, ATTRIBUTE, SPARSE, TENSOR, ENTRY };
enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

/* A message's field, and what message it holds. */
static const struct {
    enum message in;
    uint32_t field;
    enum message holds;
} steps[] = {
    {MODEL, 7, GRAPH},         {MODEL, 20, TRAINING},   {MODEL, 25, FUNCTION},
    {TRAINING, 1, GRAPH},      {TRAINING, 2, GRAPH},    {FUNCTION, 7, NODE},
    {FUNCTION, 11, ATTRIBUTE}, {GRAPH, 1, NODE},        {GRAPH, 5, TENSOR},
    {GRAPH, 15, SPARSE},       {NODE, 5, ATTRIBUTE},    {ATTRIBUTE, 5, TENSOR},
    {ATTRIBUTE, 6, GRAPH},     {ATTRIBUTE, 10, TENSOR}, {ATTRIBUTE, 11, GRAPH},
    {ATTRIBUTE, 22, SPARSE},   {ATTRIBUTE, 23, SPARSE}, {SPARSE, 1, TENSOR},
    {SPARSE, 2, TENSOR},       {TENSOR, 13, ENTRY},
};

struct span {
    const unsigned char *at, *end;
};

struct walk {
    const char *what;
    ue_see_name *see;
    void *self;
};

static ue_status unreadable(const struct walk *walk, const char *why) {
    return ue_encoder_fail(UE_BAD_MODEL, "%s: not a readable ONNX file: %s; export it again",
                           walk->what, why);
}

/* A number of more than 64 bits counts as the largest there is: no message is so long. */
static bool varint(struct span *span, uint64_t *value) {
    bool large = false;
    *value = 0;
    for (unsigned shift = 0; shift < 70 && span->at < span->end; shift += 7) {
        const unsigned char byte = *span->at++;
        large = large || (shift == 63 && (byte & 0x7e));
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = large ? UINT64_MAX : *value;
            return true;
        }
    }
    return false;
}

/* The next field; a value of BYTES in `value`, empty for other wires. NULL: all is well. */
static const char *next_field(struct span *span, uint32_t *field, struct span *value) {
    uint64_t tag, size = 0;
    if (!varint(span, &tag))
        return "a number does not end";
    if (tag >> 32) /* readers keep 32 bits, and would see another field than we do */
        return "a field's number is too large";
    const unsigned wire = tag & 7;
    if (wire == VARINT || wire == BYTES) {
        if (!varint(span, &size))
            return "a number does not end";
        size = wire == BYTES ? size : 0;
    } else if (wire == FIXED64 || wire == FIXED32)
        size = wire == FIXED64 ? 8 : 4;
    else
        return "it has fields of an unknown kind";
    if (size > (uint64_t)(span->end - span->at))
        return "a field reaches past its message";
    *field = wire == BYTES ? (uint32_t)(tag >> 3) : 0;
    *value = (struct span){span->at, span->at + size};
    span->at += size;
    return NULL;
}

static bool equals(struct span span, const char *text) {
    const size_t size = (size_t)(span.end - span.at);
    return strlen(text) == size && !memcmp(span.at, text, size);
}

/* Of a tensor's entries, `location` names a file; of two values, readers take the last. */
static ue_status check_entry(const struct walk *walk, struct span entry) {
    struct span key = entry, name = entry, value;
    key.end = key.at, name.end = name.at;
    for (uint32_t field; entry.at < entry.end;) {
        const char *why = next_field(&entry, &field, &value);
        if (why)
            return unreadable(walk, why);
        key = field == 1 ? value : key;
        name = field == 2 ? value : name;
    }
    return equals(key, "location")
               ? walk->see(walk->self, (const char *)name.at, (size_t)(name.end - name.at))
               : UE_OK;
}

static enum message held(enum message in, uint32_t field) {
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
        if (steps[k].in == in && steps[k].field == field)
            return steps[k].holds;
    return NONE;
}

static ue_status check_message(const struct walk *walk, struct span span, enum message kind,
                               unsigned depth) {
    ue_status status = UE_OK;
    if (depth > MOST_DEPTH)
        return unreadable(walk, "messages are nested too deeply");
    while (!status && span.at < span.end) {
        uint32_t field;
        struct span value;
        const char *why = next_field(&span, &field, &value);
        if (why)
            return unreadable(walk, why);
        const enum message inner = held(kind, field);
        if (inner == ENTRY)
            status = check_entry(walk, value);
        else if (kind == NODE && field == 4 && equals(value, "EPContext"))
            status = unreadable(walk, "it runs a compiled file, which nobody vouches for");
        else if (inner)
            status = check_message(walk, value, inner, depth + 1);
    }
    return status;
}

ue_status ue_named_files_see(const void *bytes, size_t size, const char *what, ue_see_name *see,
                             void *self) {
    const struct walk walk = {what, see, self};
    const unsigned char *begin = bytes;
    return size ? check_message(&walk, (struct span){begin, begin + size}, MODEL, 0)
                : unreadable(&walk, "it is empty");
}

/* A source, and what it is called. */
struct given {
    const ue_encoder_source *source;
    const char *what;
};

static ue_status need_given(void *self, const char *name, size_t length) {
    const struct given *given = self;
    const ue_encoder_file *weights = given->source->weights;
    for (size_t k = 0; k < given->source->weights_count; k++)
        if (strlen(weights[k].name) == length && !memcmp(weights[k].name, name, length))
            return UE_OK;
    return ue_encoder_fail(UE_BAD_MODEL,
                           "%s: refers to the file '%.*s', which was not given; give "
                           "it among the weights, or export the model in one file",
                           given->what, (int)(length < 200 ? length : 200), name);
}

ue_status ue_named_files_check(const ue_encoder_source *source, const char *what) {
    struct given given = {source, what};
    return ue_named_files_see(source->bytes, source->size, what, need_given, &given);
}

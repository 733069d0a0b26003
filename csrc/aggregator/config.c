#include "config.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "formats/shown.h"

#define EXPORT "export the aggregator again"

enum kind { COUNT, REAL, BOOLEAN, COUNTS };

enum { CLASSES_LOW = 1, CLASSES_HIGH = 1024 };

/* AggregatorConfig (config.h); of a REAL the lower bound itself is excluded. */
static const struct field {
    const char *name;
    enum kind kind;
    bool required;
    double low, high;
} fields[] = {
    {"embed_dim_in", COUNT, true, 1, 65536},
    {"embed_dim", COUNT, true, 1, 65536},
    {"depth", COUNT, true, 1, 256},
    {"num_heads", COUNT, true, 1, 256},
    {"num_tasks", COUNT, true, 1, UE_MAX_TASKS},
    {"num_experts", COUNT, true, 1, 1024},
    {"slots_per_expert", COUNT, false, 1, 64},
    {"top_m", COUNT, true, 1, 1000000},
    {"mlp_ratio", REAL, true, 0, 64},
    {"norm_eps", REAL, false, 0, 1},
    {"layer1_norm_eps", REAL, false, 0, 1},
    {"qkv_bias", BOOLEAN, false, 0, 1},
    {"classes", COUNTS, true, CLASSES_LOW, CLASSES_HIGH},
};

enum { FIELDS = sizeof fields / sizeof *fields, FIRST_REAL = 8, REALS = 3 };

/* Values as read, in the order of `fields`. */
struct values {
    uint64_t counts[FIRST_REAL];
    double reals[REALS];
    bool qkv_bias, seen[FIELDS];
    size_t listed; /* classes */
};

/* ---- reading --------------------------------------------------------------------------------- */

static bool read_count(struct ue_json *json, const struct field *field, uint64_t *value) {
    if (!ue_json_whole(json, value))
        return false;
    return (*value >= (uint64_t)field->low && *value <= (uint64_t)field->high) ||
           ue_json_fail(json, "the number is out of range");
}

static bool read_real(struct ue_json *json, const struct field *field, double *value) {
    if (!ue_json_real(json, value))
        return false;
    return (*value > field->low && *value <= field->high) ||
           ue_json_fail(json, "the number is out of range");
}

static bool read_classes(struct ue_json *json, const struct field *field, struct ue_config *config,
                         struct values *values) {
    uint64_t value;
    ue_json_enter(json, '[');
    for (values->listed = 0; ue_json_more(json, ']'); values->listed++) {
        if (values->listed == UE_MAX_TASKS)
            return ue_json_fail(json, "the list is too long");
        if (!read_count(json, field, &value))
            return false;
        config->classes[values->listed] = (size_t)value;
    }
    return !json->problem;
}

static bool read_field(struct ue_json *json, size_t index, struct ue_config *config,
                       struct values *values) {
    const struct field *field = &fields[index];
    switch (field->kind) {
    case COUNT:
        return read_count(json, field, &values->counts[index]);
    case REAL:
        return read_real(json, field, &values->reals[index - FIRST_REAL]);
    case BOOLEAN:
        return ue_json_boolean(json, &values->qkv_bias);
    case COUNTS:
        break;
    }
    return read_classes(json, field, config, values);
}

static bool read_fields(struct ue_json *json, struct ue_config *config, struct values *values,
                        struct ue_json_text *key) {
    ue_json_enter(json, '{');
    while (ue_json_more(json, '}') && ue_json_key(json, key)) {
        size_t index = 0;
        while (index < FIELDS && !ue_json_equals(*key, fields[index].name))
            index++;
        if (index == FIELDS || values->seen[index])
            return ue_json_fail(json, index == FIELDS ? "unknown key" : "given twice");
        values->seen[index] = true;
        if (!read_field(json, index, config, values))
            return false;
        key->length = 0;
    }
    return !json->problem;
}

/* ---- checking -------------------------------------------------------------------------------- */

/* Where the counts lie, in the order of `fields`. */
static const size_t count_at[FIRST_REAL] = {
    offsetof(struct ue_config, embed_dim_in),
    offsetof(struct ue_config, embed_dim),
    offsetof(struct ue_config, depth),
    offsetof(struct ue_config, num_heads),
    offsetof(struct ue_config, num_tasks),
    offsetof(struct ue_config, num_experts),
    offsetof(struct ue_config, slots_per_expert),
    offsetof(struct ue_config, top_m),
};

static void fill(struct ue_config *config, const struct values *values) {
    for (size_t i = 0; i < FIRST_REAL; i++)
        *(size_t *)(void *)((char *)config + count_at[i]) = (size_t)values->counts[i];
    config->mlp_ratio = values->reals[0];
    config->norm_eps = values->reals[1];
    config->layer1_norm_eps = values->reals[2];
    config->qkv_bias = values->qkv_bias;
    config->head_dim = config->embed_dim / config->num_heads;
    config->hidden_dim = (size_t)((double)config->embed_dim * config->mlp_ratio);
}

static ue_status check(const struct ue_config *config, size_t listed, const char *place,
                       const char *remedy, struct ue_error *error) {
    if (config->embed_dim % config->num_heads)
        return ue_fail(error, UE_BAD_CONFIG,
                       "%s: embed_dim %zu is not num_heads %zu times a whole number; %s", place,
                       config->embed_dim, config->num_heads, remedy);
    if (listed != config->num_tasks)
        return ue_fail(error, UE_BAD_CONFIG, "%s: classes lists %zu tasks, num_tasks %zu; %s",
                       place, listed, config->num_tasks, remedy);
    if (config->hidden_dim < 1)
        return ue_fail(error, UE_BAD_CONFIG,
                       "%s: mlp_ratio %g leaves the experts no hidden unit; %s", place,
                       config->mlp_ratio, remedy);
    return UE_OK;
}

ue_status ue_config_read(struct ue_config *config, struct ue_json *json, const char *place,
                         const char *remedy, struct ue_error *error) {
    struct values values = {.counts = {[6] = 1}, .reals = {0, 1e-6, 1e-5}, .qkv_bias = true};
    struct ue_json_text key = {"", 0};
    memset(config, 0, sizeof *config);
    if (!read_fields(json, config, &values, &key))
        return ue_fail(error, UE_BAD_CONFIG, "%s: %s%sbyte %zu: %s; %s", place,
                       ue_show(key.bytes, key.length).text, key.length ? ": " : "",
                       ue_json_offset(json), json->problem, remedy);
    for (size_t i = 0; i < FIELDS; i++)
        if (fields[i].required && !values.seen[i])
            return ue_fail(error, UE_BAD_CONFIG, "%s: %s is missing; %s", place, fields[i].name,
                           remedy);
    fill(config, &values);
    return check(config, values.listed, place, remedy, error);
}

ue_status ue_config_parse(struct ue_config *config, char *text, size_t length, const char *file,
                          struct ue_error *error) {
    char place[UE_SHOWN + 32];
    struct ue_json json;
    snprintf(place, sizeof place, "%s: metadata config", file);
    ue_json_start(&json, text, length);
    const ue_status status = ue_config_read(config, &json, place, EXPORT, error);
    if (!status && !ue_json_finish(&json))
        return ue_fail(error, UE_BAD_CONFIG, "%s: byte %zu: %s; " EXPORT, place,
                       ue_json_offset(&json), json.problem);
    return status;
}

ue_status ue_config_in(struct ue_config *config, struct ue_safetensors *file,
                       struct ue_error *error) {
    if (!file->config)
        return ue_fail(error, UE_BAD_CONFIG,
                       "%s: the metadata has no `config`; " EXPORT
                       " so that the file carries its configuration",
                       file->file.text);
    return ue_config_parse(config, file->config, file->config_length, file->file.text, error);
}

static const char *count_difference(const struct ue_config *a, const struct ue_config *b) {
    for (size_t i = 0; i < FIRST_REAL; i++)
        if (memcmp((const char *)a + count_at[i], (const char *)b + count_at[i], sizeof(size_t)))
            return fields[i].name;
    return NULL;
}

const char *ue_config_difference(const struct ue_config *a, const struct ue_config *b) {
    if (a->mlp_ratio != b->mlp_ratio)
        return "mlp_ratio";
    if (a->norm_eps != b->norm_eps)
        return "norm_eps";
    if (a->layer1_norm_eps != b->layer1_norm_eps)
        return "layer1_norm_eps";
    if (a->qkv_bias != b->qkv_bias)
        return "qkv_bias";
    if (memcmp(a->classes, b->classes, sizeof a->classes) != 0)
        return "classes";
    return count_difference(a, b);
}

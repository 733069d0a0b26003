/* The configuration in a file's metadata: the JSON text of AggregatorConfig in
 * unicas_edge/bundle/manifest.py, with its keys, types, bounds, defaults and rules. */
#ifndef UE_CONFIG_H
#define UE_CONFIG_H

#include "formats/json.h"
#include "formats/safetensors.h"
#include "weights.h"

/*
 * Read `length` bytes that may be overwritten (text[length] is NUL) into `config`. `file` is what
 * messages call the file. What pydantic accepts is accepted, except that a key given twice and a
 * number of more than 100 characters are errors here.
 */
ue_status ue_config_parse(struct ue_config *config, char *text, size_t length, const char *file,
                          struct ue_error *error);

/*
 * Read the object that comes next. Messages begin with `place`, and end in what to do, `remedy`.
 */
ue_status ue_config_read(struct ue_config *config, struct ue_json *json, const char *place,
                         const char *remedy, struct ue_error *error);

/* Read the configuration in a file's metadata; its text there is overwritten. */
ue_status ue_config_in(struct ue_config *config, struct ue_safetensors *file,
                       struct ue_error *error);

/* The name of a field in which two configurations differ; NULL: they are the same. */
const char *ue_config_difference(const struct ue_config *a, const struct ue_config *b);

#endif

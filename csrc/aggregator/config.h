/* The configuration in a file's metadata: the JSON text of AggregatorConfig in
 * unicas_edge/bundle/manifest.py, with its keys, types, bounds, defaults and rules. */
#ifndef UE_CONFIG_H
#define UE_CONFIG_H

#include "weights.h"

/*
 * Read `length` bytes that may be overwritten (text[length] is NUL) into `config`. `file` is what
 * messages call the file. What pydantic accepts is accepted, except that a key given twice and a
 * number of more than 100 characters are errors here.
 */
ue_status ue_config_parse(struct ue_config *config, char *text, size_t length, const char *file,
                          struct ue_error *error);

#endif

/* Reading objects by tables that say which keys they have, of what kind and in which bounds. */
#ifndef UE_FIELDS_H
#define UE_FIELDS_H

#include "manifest.h"

enum ue_kind {
    UE_TEXT,     /* from `low` to `high` characters; `pattern` may say more */
    UE_CHOICE,   /* one of `words`, as its index */
    UE_WHOLE,    /* from `low` to `high` */
    UE_REAL,     /* from `low` to `high`, without `low` where `above` */
    UE_TRIPLE,   /* three of UE_REAL */
    UE_BOOLEAN,  /* true or false */
    UE_OBJECT,   /* of `object` */
    UE_LIST,     /* of `element`, from `low` to `high` of them */
    UE_DIGESTS,  /* an object of any paths and SHA-256, as ue_listed_file */
    UE_CONFIG,   /* the aggregator's, which has its own reader */
    UE_NULL_ONLY /* what is not there yet */
};

enum ue_pattern { UE_ANY_TEXT, UE_PATH, UE_DIGEST, UE_WORD };

struct ue_field_rule {
    const char *name; /* NULL ends a table */
    enum ue_kind kind;
    size_t offset;
    double low, high;
    bool optional, nullable, above;
    enum ue_pattern pattern;
    const char *const *words; /* NULL ends them */
    const struct ue_field_rule *object, *element;
    size_t size; /* of an element */
    bool marked; /* an object that begins with `given` */
};

struct ue_reader {
    struct ue_json json;
    struct ue_manifest *manifest;
    struct ue_error *error;
    const char *file;
    size_t used; /* of path */
    char path[256];
};

extern const struct ue_field_rule ue_manifest_rules[];

/* Read an object into `into`, whose defaults are there. False: the error is told. */
bool ue_read_object(struct ue_reader *reader, const struct ue_field_rule *rules, void *into);

#endif

#include "fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/config.h"
#include "formats/shown.h"

#define REMEDY "correct the manifest; its schema is unicas_edge/schemas/bundle.schema.json"

struct ue_chunk {
    struct ue_chunk *next;
    max_align_t items[];
};

static bool refuse(struct ue_reader *reader, const char *problem) {
    ue_json_fail(&reader->json, problem);
    if (!reader->error->status)
        ue_fail(reader->error, UE_BAD_BUNDLE, "%s: %s: byte %zu: %s; " REMEDY, reader->file,
                reader->used ? reader->path : "manifest", ue_json_offset(&reader->json),
                reader->json.problem);
    return false;
}

/* ---- where a message is about ---------------------------------------------------------------- */

/* Go into a key; the path stays as it was where it has no room. */
static size_t step_into(struct ue_reader *reader, const char *bytes, size_t length) {
    const struct ue_shown key = ue_show(bytes, length);
    const size_t before = reader->used, room = sizeof reader->path - before;
    const int wrote = snprintf(reader->path + before, room, "%s%s", before ? "." : "", key.text);
    if (wrote > 0 && (size_t)wrote < room)
        reader->used += (size_t)wrote;
    reader->path[reader->used] = '\0';
    return before;
}

static void step_out(struct ue_reader *reader, size_t before) {
    reader->used = before;
    reader->path[before] = '\0';
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Memory that is freed with the manifest. */
static void *block_of(struct ue_reader *reader, size_t bytes) {
    struct ue_chunk *block = malloc(sizeof *block + bytes);
    if (!block) {
        ue_fail(reader->error, UE_NO_MEMORY, "%s: no memory to read it; close other programs",
                reader->file);
        return NULL;
    }
    block->next = reader->manifest->blocks;
    reader->manifest->blocks = block;
    return block->items;
}

void ue_manifest_free(struct ue_manifest *manifest) {
    while (manifest->blocks) {
        struct ue_chunk *next = manifest->blocks->next;
        free(manifest->blocks);
        manifest->blocks = next;
    }
}

/* A list's next element, empty; its room doubles, so that all of it stays near the text's size. */
static void *next_item(struct ue_reader *reader, struct ue_list *list, size_t size, size_t *room) {
    if (list->count == *room) {
        const size_t wider = *room ? 2 * *room : 4;
        char *items = block_of(reader, wider * size);
        if (!items)
            return NULL;
        if (list->count)
            memcpy(items, list->items, list->count * size);
        list->items = items;
        *room = wider;
    }
    char *item = (char *)list->items + list->count++ * size;
    memset(item, 0, size);
    return item;
}

/* ---- single values --------------------------------------------------------------------------- */

static bool is_word(struct ue_json_text text) {
    for (size_t i = 0; i < text.length; i++) {
        const char c = text.bytes[i];
        const bool later = (c >= '0' && c <= '9') || c == '_';
        if (!(c >= 'a' && c <= 'z') && !(later && i))
            return false;
    }
    return text.length > 0;
}

static bool is_digest(struct ue_json_text text) {
    for (size_t i = 0; i < text.length; i++) {
        const char c = text.bytes[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
    }
    return text.length == 64;
}

/* Parts of plain letters between single slashes. */
static bool is_path(struct ue_json_text text) {
    static const char plain[] = "._-";
    bool part = false;
    for (size_t i = 0; i < text.length; i++) {
        const char c = text.bytes[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool fits = letter || (c >= '0' && c <= '9') || (c && strchr(plain, c));
        if (!fits && !(c == '/' && part))
            return false;
        part = fits;
    }
    return part;
}

static bool fits_pattern(struct ue_json_text text, enum ue_pattern pattern) {
    switch (pattern) {
    case UE_PATH:
        return is_path(text);
    case UE_DIGEST:
        return is_digest(text);
    case UE_WORD:
        return is_word(text);
    case UE_ANY_TEXT:
        break;
    }
    return true;
}

/* The text of a key or a value, against its rule. */
static bool check_text(struct ue_reader *reader, const struct ue_field_rule *rule,
                       struct ue_json_text text) {
    size_t characters = 0;
    for (size_t i = 0; i < text.length; i++)
        characters += ((unsigned char)text.bytes[i] & 0xc0) != 0x80;
    if ((double)characters < rule->low || (double)characters > rule->high)
        return refuse(reader, "the text is too short or too long");
    return fits_pattern(text, rule->pattern) || refuse(reader, "the text may not look like this");
}

static bool read_text(struct ue_reader *reader, const struct ue_field_rule *rule,
                      struct ue_json_text *text) {
    return ue_json_string(&reader->json, text) ? check_text(reader, rule, *text)
                                               : refuse(reader, "");
}

static bool read_choice(struct ue_reader *reader, const struct ue_field_rule *rule,
                        unsigned *choice) {
    struct ue_json_text text;
    if (!ue_json_string(&reader->json, &text))
        return refuse(reader, "");
    for (*choice = 0; rule->words[*choice]; ++*choice)
        if (ue_json_equals(text, rule->words[*choice]))
            return true;
    return refuse(reader, "none of the words that may stand here");
}

static bool read_whole(struct ue_reader *reader, const struct ue_field_rule *rule,
                       uint64_t *value) {
    if (!ue_json_whole(&reader->json, value))
        return refuse(reader, "");
    return (*value != UE_NO_NUMBER && (double)*value >= rule->low &&
            (double)*value <= rule->high) ||
           refuse(reader, "the number is out of range");
}

static bool read_real(struct ue_reader *reader, const struct ue_field_rule *rule, double *value) {
    if (!ue_json_real(&reader->json, value))
        return refuse(reader, "");
    const bool low = rule->above ? *value > rule->low : *value >= rule->low;
    return (isfinite(*value) && low && *value <= rule->high) ||
           refuse(reader, "the number is out of range");
}

/* ---- what holds others ----------------------------------------------------------------------- */

static bool read_value(struct ue_reader *reader, const struct ue_field_rule *rule, void *at);

static bool read_triple(struct ue_reader *reader, const struct ue_field_rule *rule,
                        double *values) {
    size_t count = 0;
    ue_json_enter(&reader->json, '[');
    while (ue_json_more(&reader->json, ']')) {
        if (count == 3)
            return refuse(reader, "three numbers belong here");
        if (!read_real(reader, rule, &values[count++]))
            return false;
    }
    return (!reader->json.problem && count == 3) || refuse(reader, "three numbers belong here");
}

static bool read_list(struct ue_reader *reader, const struct ue_field_rule *rule,
                      struct ue_list *list) {
    size_t room = 0;
    ue_json_enter(&reader->json, '[');
    while (ue_json_more(&reader->json, ']')) {
        char index[24];
        if ((double)list->count >= rule->high)
            return refuse(reader, "the list is too long");
        const int digits = snprintf(index, sizeof index, "%zu", list->count);
        void *item = next_item(reader, list, rule->size, &room);
        const size_t before = step_into(reader, index, (size_t)digits);
        if (!item || !read_value(reader, rule->element, item))
            return false;
        step_out(reader, before);
    }
    return (!reader->json.problem && (double)list->count >= rule->low) ||
           refuse(reader, "the list is too short");
}

static bool listed_before(const struct ue_list *list, struct ue_json_text name) {
    const struct ue_listed_file *files = list->items;
    for (size_t i = 0; i < list->count; i++)
        if (ue_same_text(files[i].name, name))
            return true;
    return false;
}

static bool read_digests(struct ue_reader *reader, const struct ue_field_rule *rule,
                         struct ue_list *list) {
    static const struct ue_field_rule path = {.high = 200, .pattern = UE_PATH};
    static const struct ue_field_rule digest = {.high = 64, .pattern = UE_DIGEST};
    struct ue_json_text name;
    size_t room = 0;
    ue_json_enter(&reader->json, '{');
    while (ue_json_more(&reader->json, '}') && ue_json_key(&reader->json, &name)) {
        if (listed_before(list, name) || (double)list->count >= rule->high)
            return refuse(reader, "a file is given twice, or there are too many");
        struct ue_listed_file *file = next_item(reader, list, sizeof *file, &room);
        const size_t before = step_into(reader, name.bytes, name.length);
        if (!file || !check_text(reader, &path, file->name = name) ||
            !read_text(reader, &digest, &file->sha256))
            return false;
        step_out(reader, before);
    }
    return (!reader->json.problem && (double)list->count >= rule->low) ||
           refuse(reader, "no file is listed");
}

static bool read_config(struct ue_reader *reader, struct ue_config *config) {
    char place[sizeof reader->path + UE_SHOWN];
    snprintf(place, sizeof place, "%s: %s", reader->file, reader->path);
    if (!ue_config_read(config, &reader->json, place, REMEDY, reader->error))
        return true;
    reader->error->status = UE_BAD_BUNDLE; /* which the manifest is a part of */
    return false;
}

static bool read_value(struct ue_reader *reader, const struct ue_field_rule *rule, void *at) {
    if (rule->kind == UE_NULL_ONLY || rule->nullable)
        if (ue_json_null(&reader->json))
            return true;
    switch (rule->kind) {
    case UE_TEXT:
        return read_text(reader, rule, at);
    case UE_CHOICE:
        return read_choice(reader, rule, at);
    case UE_WHOLE:
        return read_whole(reader, rule, at);
    case UE_REAL:
        return read_real(reader, rule, at);
    case UE_TRIPLE:
        return read_triple(reader, rule, at);
    case UE_BOOLEAN:
        return ue_json_boolean(&reader->json, at) || refuse(reader, "");
    case UE_OBJECT:
        if (rule->marked)
            *(bool *)at = true;
        return ue_read_object(reader, rule->object, at);
    case UE_LIST:
        return read_list(reader, rule, at);
    case UE_DIGESTS:
        return read_digests(reader, rule, at);
    case UE_CONFIG:
        return read_config(reader, at);
    case UE_NULL_ONLY:
        break;
    }
    return refuse(reader, "null belongs here");
}

/* ---- objects --------------------------------------------------------------------------------- */

/* What an optional or nullable number is where it is not given; all else is zeros. */
static void set_absent(const struct ue_field_rule *rules, char *into) {
    for (; rules->name; rules++) {
        if (!rules->nullable)
            continue;
        if (rules->kind == UE_REAL)
            *(double *)(void *)(into + rules->offset) = NAN;
        if (rules->kind == UE_WHOLE)
            *(uint64_t *)(void *)(into + rules->offset) = UE_NO_NUMBER;
    }
}

static bool nothing_missing(struct ue_reader *reader, const struct ue_field_rule *rules,
                            uint64_t seen) {
    for (size_t i = 0; rules[i].name; i++) {
        if (rules[i].optional || seen >> i & 1)
            continue;
        step_into(reader, rules[i].name, strlen(rules[i].name));
        return refuse(reader, "the key is missing");
    }
    return true;
}

bool ue_read_object(struct ue_reader *reader, const struct ue_field_rule *rules, void *into) {
    struct ue_json_text key;
    uint64_t seen = 0;
    set_absent(rules, into);
    ue_json_enter(&reader->json, '{');
    while (ue_json_more(&reader->json, '}') && ue_json_key(&reader->json, &key)) {
        const size_t before = step_into(reader, key.bytes, key.length);
        size_t i = 0;
        while (rules[i].name && !ue_json_equals(key, rules[i].name))
            i++;
        if (!rules[i].name || seen >> i & 1)
            return refuse(reader, rules[i].name ? "the key is given twice" : "no such key");
        seen |= (uint64_t)1 << i;
        if (!read_value(reader, &rules[i], (char *)into + rules[i].offset))
            return false;
        step_out(reader, before);
    }
    return reader->json.problem ? refuse(reader, "") : nothing_missing(reader, rules, seen);
}

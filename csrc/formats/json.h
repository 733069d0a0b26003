/*
 * A strict reader of JSON (RFC 8259) that goes through a text in memory once.
 *
 * The caller says what has to come next, and anything else is an error: nothing is ever skipped, so
 * there is no recursion and no depth that a text could exhaust. Strings are decoded in place.
 */
#ifndef UE_JSON_H
#define UE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ue_json {
    char *begin, *next, *end;
    bool fresh;          /* an object or array was opened and nothing in it was read */
    const char *problem; /* NULL, or what is wrong at `next`; then every call returns false */
};

/* UTF-8, decoded. A NUL follows, but there may be others: U+0000 is a character of JSON. */
struct ue_json_text {
    const char *bytes;
    size_t length;
};

/* Read `length` bytes that may be overwritten; text[length] is NUL. */
void ue_json_start(struct ue_json *json, char *text, size_t length);

/* Go into an object ('{') or array ('['). */
bool ue_json_enter(struct ue_json *json, char bracket);

/*
 * Whether another member (bracket '}') or element (']') follows, whose comma is then behind us. If
 * none does the bracket is behind us, unless there is a problem.
 */
bool ue_json_more(struct ue_json *json, char bracket);

/* The name of a member, and its colon. */
bool ue_json_key(struct ue_json *json, struct ue_json_text *key);

bool ue_json_string(struct ue_json *json, struct ue_json_text *text);
bool ue_json_boolean(struct ue_json *json, bool *value);
/* Whether null is next; it is then behind us. */
bool ue_json_null(struct ue_json *json);

/* A number from 0 to 2^64 - 1 without sign, fraction or exponent. */
bool ue_json_whole(struct ue_json *json, uint64_t *value);

/* Any number of up to 100 characters, rounded to nearest; infinite if it is too large. */
bool ue_json_real(struct ue_json *json, double *value);

/* Nothing but white space is left. */
bool ue_json_finish(struct ue_json *json);

/* Note a problem at the current place; returns false. The first one stays. */
bool ue_json_fail(struct ue_json *json, const char *problem);

/* How many bytes into the text the current place is. */
size_t ue_json_offset(const struct ue_json *json);

bool ue_json_equals(struct ue_json_text text, const char *word);

#endif

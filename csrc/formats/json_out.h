/* Writing JSON (RFC 8259), in the order of the calls; commas come by themselves. */
#ifndef UE_JSON_OUT_H
#define UE_JSON_OUT_H

#include "json.h"
#include "text.h"

/* Zeroes are the beginning. */
struct ue_json_out {
    struct ue_text text;
    bool follows; /* a value was written: a comma comes before the next one */
};

void ue_out_open(struct ue_json_out *out, char bracket);
void ue_out_close(struct ue_json_out *out, char bracket);
/* The name of a member, whose value is next; of ASCII letters. */
void ue_out_key(struct ue_json_out *out, const char *key);

/* What is no UTF-8 becomes U+FFFD. A NULL is null. */
void ue_out_string(struct ue_json_out *out, const char *text);
void ue_out_text(struct ue_json_out *out, struct ue_json_text text);
/* What JSON has no number for (infinity, NaN) is null. */
void ue_out_real(struct ue_json_out *out, double value);
void ue_out_whole(struct ue_json_out *out, int64_t value);
void ue_out_boolean(struct ue_json_out *out, bool value);
void ue_out_null(struct ue_json_out *out);

/* A member: its name and its value. */
void ue_put_string(struct ue_json_out *out, const char *key, const char *text);
void ue_put_text(struct ue_json_out *out, const char *key, struct ue_json_text text);
void ue_put_real(struct ue_json_out *out, const char *key, double value);
void ue_put_whole(struct ue_json_out *out, const char *key, int64_t value);
void ue_put_boolean(struct ue_json_out *out, const char *key, bool value);

#endif

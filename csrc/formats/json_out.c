#include "json_out.h"

#include <math.h>
#include <string.h>

#include "utf8.h"

static void begin(struct ue_json_out *out) {
    if (out->follows)
        ue_text_add(&out->text, ",", 1);
    out->follows = true;
}

static void word(struct ue_json_out *out, const char *text) {
    begin(out);
    ue_text_add(&out->text, text, strlen(text));
}

void ue_out_open(struct ue_json_out *out, char bracket) {
    begin(out);
    ue_text_add(&out->text, &bracket, 1);
    out->follows = false;
}

void ue_out_close(struct ue_json_out *out, char bracket) {
    ue_text_add(&out->text, &bracket, 1);
    out->follows = true;
}

void ue_out_key(struct ue_json_out *out, const char *key) {
    begin(out);
    ue_text_print(&out->text, "\"%s\":", key);
    out->follows = false;
}

/* One character; how many bytes of the text it took. */
static size_t put(struct ue_text *text, const char *bytes, size_t left) {
    const unsigned char c = (unsigned char)bytes[0];
    if (c == '"' || c == '\\') {
        ue_text_print(text, "\\%c", c);
    } else if (c < 0x20 || c == 0x7f) {
        ue_text_print(text, "\\u%04x", c);
    } else if (c > 0x7f) {
        const size_t length = ue_utf8_length((const unsigned char *)bytes);
        if (length && length <= left) {
            ue_text_add(text, bytes, length);
            return length;
        }
        ue_text_add(text, "\xef\xbf\xbd", 3);
    } else {
        ue_text_add(text, bytes, 1);
    }
    return 1;
}

void ue_out_text(struct ue_json_out *out, struct ue_json_text text) {
    begin(out);
    ue_text_add(&out->text, "\"", 1);
    for (size_t at = 0; at < text.length;)
        at += put(&out->text, text.bytes + at, text.length - at);
    ue_text_add(&out->text, "\"", 1);
}

void ue_out_string(struct ue_json_out *out, const char *text) {
    if (text)
        ue_out_text(out, (struct ue_json_text){text, strlen(text)});
    else
        ue_out_null(out);
}

void ue_out_real(struct ue_json_out *out, double value) {
    word(out, isfinite(value) ? ue_exact(value).text : "null");
}

void ue_out_whole(struct ue_json_out *out, int64_t value) {
    begin(out);
    ue_text_print(&out->text, "%lld", (long long)value);
}

void ue_out_boolean(struct ue_json_out *out, bool value) {
    word(out, value ? "true" : "false");
}

void ue_out_null(struct ue_json_out *out) {
    word(out, "null");
}

/* ---- members --------------------------------------------------------------------------------- */

#define UE_PUT(kind, type)                                                     \
    void ue_put_##kind(struct ue_json_out *out, const char *key, type value) { \
        ue_out_key(out, key);                                                  \
        ue_out_##kind(out, value);                                             \
    }
UE_PUT(string, const char *)
UE_PUT(text, struct ue_json_text)
UE_PUT(real, double)
UE_PUT(whole, int64_t)
UE_PUT(boolean, bool)
#undef UE_PUT

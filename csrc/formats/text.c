#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- growing --------------------------------------------------------------------------------- */

static bool make_room(struct ue_text *text, size_t more) {
    if (text->broken || more > SIZE_MAX / 4 - text->length)
        text->broken = true;
    if (text->broken || text->length + more < text->room)
        return !text->broken;
    const size_t room = 2 * (text->length + more) + 64;
    char *bytes = realloc(text->bytes, room);
    if (!bytes)
        return !(text->broken = true);
    text->bytes = bytes;
    text->room = room;
    return true;
}

void ue_text_add(struct ue_text *text, const char *bytes, size_t length) {
    if (!make_room(text, length + 1))
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void ue_text_print(struct ue_text *text, const char *format, ...) {
    va_list first, second;
    va_start(first, format);
    va_copy(second, first);
    const int length = vsnprintf(NULL, 0, format, first);
    if (length >= 0 && make_room(text, (size_t)length + 1)) {
        vsnprintf(text->bytes + text->length, (size_t)length + 1, format, second);
        text->length += (size_t)length;
    }
    text->broken |= length < 0;
    va_end(second);
    va_end(first);
}

void ue_text_free(struct ue_text *text) {
    free(text->bytes);
    *text = (struct ue_text){0};
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* What the host's locale puts between the digits, of one byte or more, becomes a point. */
static struct ue_figure pointed(struct ue_figure figure) {
    char *out = figure.text;
    for (const char *in = figure.text; *in; in++) {
        if (strchr("+-0123456789abcdefghijklmnopqrstuvwxyz", *in))
            *out++ = *in;
        else if (out[-1] != '.')
            *out++ = '.';
    }
    *out = '\0';
    return figure;
}

static struct ue_figure in_locale(double value, int digits) {
    struct ue_figure figure;
    snprintf(figure.text, sizeof figure.text, "%.*g", digits, value);
    return figure;
}

struct ue_figure ue_general(double value, int digits) {
    return pointed(in_locale(value, digits));
}

struct ue_figure ue_fixed(double value, int digits) {
    struct ue_figure figure;
    snprintf(figure.text, sizeof figure.text, "%.*f", digits, value);
    return pointed(figure);
}

struct ue_figure ue_exact(double value) {
    struct ue_figure figure = in_locale(value, 15);
    for (int digits = 16; digits <= 17 && strtod(figure.text, NULL) != value; digits++)
        figure = in_locale(value, digits);
    return pointed(figure);
}

struct ue_figure ue_grouped(uint64_t count) {
    char plain[24];
    struct ue_figure figure;
    const int length = snprintf(plain, sizeof plain, "%llu", (unsigned long long)count);
    char *out = figure.text;
    for (int k = 0; k < length; k++) {
        if (k && (length - k) % 3 == 0)
            *out++ = ',';
        *out++ = plain[k];
    }
    *out = '\0';
    return figure;
}

#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

enum { LONGEST_NUMBER = 100 };

/* Far outside of what a double holds, far inside of what a long holds. */
enum { LARGEST_EXPONENT = 99999 };

void ue_json_start(struct ue_json *json, char *text, size_t length) {
    *json = (struct ue_json){.begin = text, .next = text, .end = text + length};
}

bool ue_json_fail(struct ue_json *json, const char *problem) {
    json->problem = json->problem ? json->problem : problem;
    return false;
}

size_t ue_json_offset(const struct ue_json *json) {
    return (size_t)(json->next - json->begin);
}

bool ue_json_equals(struct ue_json_text text, const char *word) {
    return text.length == strlen(word) && memcmp(text.bytes, word, text.length) == 0;
}

static char peek(struct ue_json *json) {
    while (*json->next == ' ' || *json->next == '\n' || *json->next == '\r' || *json->next == '\t')
        json->next++;
    return *json->next;
}

static bool expect(struct ue_json *json, char sign, const char *problem) {
    if (json->problem || peek(json) != sign)
        return ue_json_fail(json, problem);
    json->next++;
    return true;
}

bool ue_json_finish(struct ue_json *json) {
    if (json->problem)
        return false;
    peek(json);
    return json->next == json->end || ue_json_fail(json, "nothing may follow here");
}

/* ---- objects and arrays ---------------------------------------------------------------------- */

bool ue_json_enter(struct ue_json *json, char bracket) {
    json->fresh = true;
    return expect(json, bracket, bracket == '{' ? "an object belongs here" : "a list belongs here");
}

bool ue_json_more(struct ue_json *json, char bracket) {
    const bool first = json->fresh;
    json->fresh = false;
    if (json->problem)
        return false;
    if (peek(json) == bracket) {
        json->next++;
        return false;
    }
    return first || expect(json, ',', "a comma or a closing bracket belongs here");
}

bool ue_json_key(struct ue_json *json, struct ue_json_text *key) {
    return ue_json_string(json, key) && expect(json, ':', "a colon belongs here");
}

/* ---- strings --------------------------------------------------------------------------------- */

static char *put_utf8(char *out, uint32_t point) {
    if (point < 0x80) {
        *out++ = (char)point;
        return out;
    }
    if (point < 0x800) {
        *out++ = (char)(0xc0 | point >> 6);
    } else if (point < 0x10000) {
        *out++ = (char)(0xe0 | point >> 12);
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
    } else {
        *out++ = (char)(0xf0 | point >> 18);
        *out++ = (char)(0x80 | (point >> 12 & 0x3f));
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (point & 0x3f));
    return out;
}

/* Read `u` and four hexadecimal digits; false without a message if they are not there. */
static bool four_digits(struct ue_json *json, uint32_t *unit) {
    *unit = 0;
    if (*json->next != 'u')
        return false;
    json->next++;
    for (int i = 0; i < 4; i++) {
        const char c = *json->next;
        const bool digit = c >= '0' && c <= '9', small = c >= 'a' && c <= 'f';
        if (!digit && !small && !(c >= 'A' && c <= 'F'))
            return false;
        *unit = *unit << 4 | (uint32_t)(digit ? c - '0' : (small ? c - 'a' : c - 'A') + 10);
        json->next++;
    }
    return true;
}

/* \uXXXX, or a pair of surrogates that stands for one character. */
static bool unicode_escape(struct ue_json *json, char **out) {
    uint32_t point, low;
    if (!four_digits(json, &point))
        return ue_json_fail(json, "\\u needs four hexadecimal digits");
    if (point >= 0xd800 && point <= 0xdbff) {
        if (*json->next != '\\')
            return ue_json_fail(json, "half a pair of surrogates");
        json->next++;
        if (!four_digits(json, &low) || low < 0xdc00 || low > 0xdfff)
            return ue_json_fail(json, "half a pair of surrogates");
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point <= 0xdfff) {
        return ue_json_fail(json, "half a pair of surrogates");
    }
    *out = put_utf8(*out, point);
    return true;
}

static bool escape(struct ue_json *json, char **out) {
    static const char signs[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    json->next++;
    const char *sign = *json->next ? strchr(signs, *json->next) : NULL;
    if (!sign)
        return unicode_escape(json, out);
    *(*out)++ = meanings[sign - signs];
    json->next++;
    return true;
}

static bool character(struct ue_json *json, char **out) {
    const unsigned char *bytes = (const unsigned char *)json->next;
    if (*bytes < 0x20)
        return ue_json_fail(json, "a string ends early or holds a control character");
    if (*bytes == '\\')
        return escape(json, out);
    const size_t length = *bytes < 0x80 ? 1 : ue_utf8_length(bytes);
    if (!length)
        return ue_json_fail(json, "not UTF-8");
    memmove(*out, bytes, length);
    *out += length;
    json->next += length;
    return true;
}

bool ue_json_string(struct ue_json *json, struct ue_json_text *text) {
    if (!expect(json, '"', "a string belongs here"))
        return false;
    char *out = json->next;
    text->bytes = out;
    while (*json->next != '"')
        if (!character(json, &out))
            return false;
    json->next++;
    text->length = (size_t)(out - text->bytes);
    *out = '\0';
    return true;
}

/* ---- numbers and booleans -------------------------------------------------------------------- */

bool ue_json_boolean(struct ue_json *json, bool *value) {
    if (json->problem)
        return false;
    *value = peek(json) == 't';
    const char *word = *value ? "true" : "false";
    if (strncmp(json->next, word, strlen(word)) != 0)
        return ue_json_fail(json, "true or false belongs here");
    json->next += strlen(word);
    return true;
}

bool ue_json_null(struct ue_json *json) {
    static const char word[] = "null";
    if (json->problem || peek(json) != 'n' || strncmp(json->next, word, sizeof word - 1) != 0)
        return false;
    json->next += sizeof word - 1;
    return true;
}

static const char *skip_digits(const char *s) {
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

/* One past the number that starts at `s`, or NULL. */
static const char *number_end(const char *s) {
    const char *digits = s + (*s == '-'), *end = skip_digits(digits), *part;
    if (end == digits || (*digits == '0' && end != digits + 1))
        return NULL;
    if (*end == '.') {
        part = end + 1;
        if ((end = skip_digits(part)) == part)
            return NULL;
    }
    if (*end == 'e' || *end == 'E') {
        part = end + 1 + (end[1] == '+' || end[1] == '-');
        if ((end = skip_digits(part)) == part)
            return NULL;
    }
    return end;
}

bool ue_json_whole(struct ue_json *json, uint64_t *value) {
    if (json->problem)
        return false;
    peek(json);
    const char *end = number_end(json->next), *digits = json->next;
    if (!end || skip_digits(digits) != end)
        return ue_json_fail(json, "a whole number belongs here");
    for (*value = 0; digits < end; digits++) {
        const uint64_t digit = (uint64_t)(*digits - '0');
        if (*value > (UINT64_MAX - digit) / 10)
            return ue_json_fail(json, "a number is too large");
        *value = *value * 10 + digit;
    }
    json->next += end - json->next;
    return true;
}

/* The value of an exponent's text, limited to what makes any number of ours 0 or infinite. */
static long exponent_of(const char *text) {
    const bool negative = *text == '-';
    long value = 0;
    for (text += *text == '-' || *text == '+'; *text >= '0' && *text <= '9'; text++)
        value = value > LARGEST_EXPONENT ? value : value * 10 + (*text - '0');
    return negative ? -value : value;
}

/*
 * strtod rounds correctly, but its decimal point is the locale's, which belongs to the host. So it
 * is given none: 1.25e-3 is written 125e-5.
 */
static double real_of(const char *text, const char *end) {
    char plain[LONGEST_NUMBER + 32];
    size_t used = 0;
    long exponent = 0;
    for (bool fraction = false; text < end && *text != 'e' && *text != 'E'; text++) {
        if (*text != '.') {
            plain[used++] = *text;
            exponent -= fraction;
        } else {
            fraction = true;
        }
    }
    exponent += text < end ? exponent_of(text + 1) : 0;
    snprintf(plain + used, sizeof plain - used, "e%ld", exponent);
    return strtod(plain, NULL);
}

bool ue_json_real(struct ue_json *json, double *value) {
    if (json->problem)
        return false;
    peek(json);
    const char *end = number_end(json->next);
    if (!end)
        return ue_json_fail(json, "a number belongs here");
    if (end - json->next > LONGEST_NUMBER)
        return ue_json_fail(json, "a number has too many digits");
    *value = real_of(json->next, end);
    json->next += end - json->next;
    return true;
}

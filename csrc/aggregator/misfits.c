#include "misfits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char advice[] = ". Export them again with their own configuration";

enum { SHOWN = 3 };

UE_PRINTF(3, 4)
static void note(struct ue_misfits *misfits, enum ue_misfit kind, const char *format, ...) {
    const size_t index = misfits->count[kind]++;
    va_list arguments;
    if (index >= SHOWN)
        return;
    va_start(arguments, format);
    vsnprintf(misfits->words[kind][index], sizeof misfits->words[kind][index], format, arguments);
    va_end(arguments);
}

/* A shape as Python writes it. */
struct shape_text {
    char text[64];
};

static struct shape_text show_shape(const struct ue_shape *shape) {
    struct shape_text shown = {"["};
    size_t used = 1;
    for (size_t i = 0; i < shape->rank && used < sizeof shown.text; i++)
        used += (size_t)snprintf(shown.text + used, sizeof shown.text - used, "%s%zu",
                                 i ? ", " : "", shape->sides[i]);
    if (used > sizeof shown.text - 2)
        strcpy(shown.text + sizeof shown.text - 5, "...");
    strcat(shown.text, "]");
    return shown;
}

static struct ue_shown show_name(const struct ue_tensor *tensor) {
    return ue_show(tensor->name.bytes, tensor->name.length);
}

void ue_missing(struct ue_misfits *misfits, const char *key, const struct ue_shape *wanted) {
    note(misfits, UE_MISSING, "missing %s %s", key, show_shape(wanted).text);
}

void ue_unexpected(struct ue_misfits *misfits, const struct ue_tensor *tensor) {
    note(misfits, UE_UNEXPECTED, "unexpected %s", show_name(tensor).text);
}

void ue_unlike(struct ue_misfits *misfits, const struct ue_tensor *tensor, const char *types,
               const struct ue_shape *wanted) {
    note(misfits, UE_UNLIKE, "%s is %s %s, not %s %s", show_name(tensor).text,
         ue_dtype_name(tensor->dtype), show_shape(&tensor->shape).text, types,
         show_shape(wanted).text);
}

void ue_bad_scale(struct ue_misfits *misfits, const struct ue_tensor *tensor) {
    note(misfits, UE_UNLIKE, "%s holds a scale that is not finite and positive",
         show_name(tensor).text);
}

/* ---- one message of limited length ----------------------------------------------------------- */

struct message {
    char text[sizeof((struct ue_error *)0)->text];
    size_t used;
};

/* Append as much of `text` as ends before `end`. */
static void append(struct message *message, const char *text, size_t end) {
    const size_t room = end > message->used ? end - message->used : 0;
    const size_t length = strlen(text) < room ? strlen(text) : room;
    memcpy(message->text + message->used, text, length);
    message->used += length;
    message->text[message->used] = '\0';
}

/* The first of a kind at any price, further ones if they fit before `end`, how many are left. */
static void append_kind(struct message *message, const struct ue_misfits *misfits,
                        enum ue_misfit kind, size_t end) {
    char more[40];
    size_t shown = 0;
    const size_t count = misfits->count[kind], known = count < SHOWN ? count : SHOWN;
    const size_t items_end = end - sizeof more;
    for (; shown < known; shown++) {
        const char *words = misfits->words[kind][shown];
        if (shown && message->used + 2 + strlen(words) > items_end)
            break;
        append(message, shown ? ", " : "", items_end);
        append(message, words, items_end);
    }
    snprintf(more, sizeof more, " and %zu more", count - shown);
    append(message, count > shown ? more : "", end);
}

ue_status ue_misfits_tell(const struct ue_misfits *misfits, const char *file,
                          struct ue_error *error) {
    struct message message = {.used = 0};
    const size_t end = sizeof message.text - sizeof advice;
    size_t kinds = 0;
    for (int kind = 0; kind < UE_MISFITS; kind++)
        kinds += misfits->count[kind] > 0;
    if (!kinds)
        return UE_OK;
    append(&message, file, end);
    append(&message, ": the aggregator's weights do not fit its configuration: ", end);
    for (int kind = 0; kind < UE_MISFITS; kind++) {
        if (!misfits->count[kind])
            continue;
        append_kind(&message, misfits, (enum ue_misfit)kind,
                    message.used + (end - message.used) / kinds--);
        append(&message, kinds ? "; " : advice, sizeof message.text - 1);
    }
    return ue_fail(error, UE_BAD_WEIGHTS, "%s", message.text);
}

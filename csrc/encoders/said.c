#include "said.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char said[1024];

/* Runtimes write several lines, and a path may hold anything: one line, nothing that a terminal
 * would obey. */
static void flatten(char *text) {
    char *out = text;
    for (; *text; text++) {
        const char c = (unsigned char)*text < ' ' || *text == 127 ? ' ' : *text;
        if (c != ' ' || (out > said && out[-1] != ' '))
            *out++ = c;
    }
    while (out > said && out[-1] == ' ')
        out--;
    *out = '\0';
}

ue_status ue_encoder_fail(ue_status status, const char *format, ...) {
    char text[sizeof said]; /* an argument may be what was said before */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (size_t k = 0; k < sizeof said; k++)
        said[k] = text[k];
    flatten(said);
    return status;
}

const char *ue_encoder_error(void) {
    return said;
}

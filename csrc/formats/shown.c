#include "shown.h"

#include <stdio.h>
#include <string.h>

static const char dots[] = "...";

enum { ROOM = UE_SHOWN - sizeof dots };

struct ue_shown ue_show(const char *bytes, size_t length) {
    struct ue_shown shown;
    const size_t skipped = length > ROOM ? length - ROOM : 0;
    char *out = shown.text;
    if (skipped) {
        memcpy(out, dots, sizeof dots - 1);
        out += sizeof dots - 1;
    }
    for (size_t i = skipped; i < length; i++)
        *out++ = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '?';
    *out = '\0';
    return shown;
}

struct ue_shown ue_show_path(const char *path) {
    struct ue_shown shown;
    const size_t length = strlen(path);
    const char *tail = length > ROOM ? path + (length - ROOM) : path;
    while (tail > path && ((unsigned char)*tail & 0xc0) == 0x80)
        tail++;
    snprintf(shown.text, sizeof shown.text, "%s%s", tail > path ? dots : "", tail);
    return shown;
}

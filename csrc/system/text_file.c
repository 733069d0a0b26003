#include "text_file.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* The flags of a processor take some 2,500 bytes of a line. */
enum { PATH = 4096, LINE = 1 << 14 };

static FILE *open_below(const char *root, const char *name) {
    char path[PATH];
    const int length = snprintf(path, sizeof path, "%s%s", root, name);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, "rb") : NULL;
}

/* Take away the white space around it. */
static void strip(char *text) {
    size_t size = strlen(text), first = 0;
    while (size && isspace((unsigned char)text[size - 1]))
        size--;
    while (first < size && isspace((unsigned char)text[first]))
        first++;
    memmove(text, text + first, size - first);
    text[size - first] = '\0';
}

bool ue_text_file(const char *root, const char *name, char *text, size_t room) {
    FILE *file = open_below(root, name);
    if (!file)
        return false;
    text[fread(text, 1, room - 1, file)] = '\0';
    fclose(file);
    strip(text);
    return *text;
}

/* Whether a line is of that key; its value is then behind the colon. */
static char *value_of(char *line, const char *key) {
    char *colon = strchr(line, ':');
    if (!colon)
        return NULL;
    *colon = '\0';
    strip(line);
    return strcmp(line, key) ? NULL : colon + 1;
}

bool ue_text_value(const char *root, const char *name, const char *key, char *value, size_t room) {
    char line[LINE], *found = NULL;
    FILE *file = open_below(root, name);
    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file))
        found = value_of(line, key);
    fclose(file);
    if (!found)
        return false;
    strip(found);
    snprintf(value, room, "%s", found);
    return true;
}

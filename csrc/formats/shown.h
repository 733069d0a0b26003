/* Names that come out of files, made fit for a message: short, printable, one line. */
#ifndef UE_SHOWN_H
#define UE_SHOWN_H

#include <stddef.h>

enum { UE_SHOWN = 100 };

struct ue_shown {
    char text[UE_SHOWN];
};

/* What is not printable ASCII becomes '?'; of a long name the end is kept, which tells most. */
struct ue_shown ue_show(const char *bytes, size_t length);

/* The end of a path: its bytes as they are, not begun inside of a UTF-8 character. */
struct ue_shown ue_show_path(const char *path);

#endif

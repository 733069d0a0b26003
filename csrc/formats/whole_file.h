/*
 * A whole file in memory of this process, read-only. What was read stays what it was, whoever
 * writes to the file or cuts it short; pages of the system's own would not (and end the process,
 * SIGBUS).
 */
#ifndef UE_WHOLE_FILE_H
#define UE_WHOLE_FILE_H

#include "system/error.h"

struct ue_whole_file {
    const void *bytes; /* NULL: nothing was read */
    size_t size;
};

/*
 * Read the regular, non-empty file at `path` (UTF-8). UE_BAD_FILE names the path and the system's
 * reason, UE_NO_MEMORY the bytes that could not be had. On Windows it is mapped, because there
 * nobody can write to a file that is.
 */
ue_status ue_whole_file_open(struct ue_whole_file *file, const char *path, struct ue_error *error);
void ue_whole_file_close(struct ue_whole_file *file);

#endif

/*
 * Regular files: one that is written and read in places, by one process at a time, and those of
 * others, which are only read and may be anything.
 */
#ifndef UE_FILE_H
#define UE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
typedef void *ue_file;
#define UE_NO_FILE ((ue_file)(intptr_t)-1)
#else
typedef int ue_file;
#define UE_NO_FILE (-1)
#endif

/*
 * Open a regular file of this user, for it alone, made new where there is none, and lock it until
 * it is closed; UE_NO_FILE, with why in a few words.
 */
ue_file ue_file_open(const char *path, const char **why);
void ue_file_close(ue_file file);
/* Let others lock it, though a fork may have it open still; for the process that opened it. */
void ue_file_unlock(ue_file file);

/*
 * Open a regular file of others for reading, links followed; never waits for another program.
 * UE_NO_FILE for one that is not there, and for a folder, pipe or device, with why in a few words.
 */
ue_file ue_file_open_to_read(const char *path, const char **why);

/* Which file it is, and when it last changed. */
struct ue_file_identity {
    uint64_t device, number, size;
    int64_t modified, changed; /* in the system's own units */
};

/* Of an open file; false where the system does not say. */
bool ue_file_identify(ue_file file, struct ue_file_identity *identity);
bool ue_same_file(const struct ue_file_identity *a, const struct ue_file_identity *b);

/* Where a path leads when all links are followed, to be freed; NULL: nowhere, or no memory. */
char *ue_real_path(const char *path);
/* A path below a folder that ue_real_path gave, to be freed; `name` has '/' between its parts. */
char *ue_join_path(const char *folder, const char *name);
/* Whether what ue_real_path gave lies below a folder that it gave. */
bool ue_path_inside(const char *path, const char *folder);

/* In bytes; -1 where it cannot be told. */
int64_t ue_file_size(ue_file file);

/* All of it or false. Reading past the end is false too. */
bool ue_file_write(ue_file file, const void *bytes, size_t size, uint64_t at);
bool ue_file_read(ue_file file, void *bytes, size_t size, uint64_t at);

#endif

/* A file that is written and read in places, by one process at a time. */
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

/* In bytes; -1 where it cannot be told. */
int64_t ue_file_size(ue_file file);

/* All of it or false. Reading past the end is false too. */
bool ue_file_write(ue_file file, const void *bytes, size_t size, uint64_t at);
bool ue_file_read(ue_file file, void *bytes, size_t size, uint64_t at);

#endif

/* pread and flock are not C11's. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#endif
#include "file.h"

#ifdef _WIN32

#include <stdlib.h>
#include <windows.h>

/* Nobody else may open it: that is the lock. */
static HANDLE opened(const char *path) {
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *name = length > 0 ? malloc((size_t)length * sizeof *name) : NULL;
    if (!name)
        return INVALID_HANDLE_VALUE;
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, name, length);
    const HANDLE file = CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_ALWAYS,
                                    FILE_ATTRIBUTE_NORMAL, NULL);
    free(name);
    return file;
}

ue_file ue_file_open(const char *path, const char **why) {
    const HANDLE file = opened(path);
    *why = GetLastError() == ERROR_SHARING_VIOLATION ? "another program uses it"
                                                     : "it cannot be opened for writing";
    if (file != INVALID_HANDLE_VALUE && GetFileType(file) != FILE_TYPE_DISK) {
        CloseHandle(file);
        *why = "it is no regular file";
        return UE_NO_FILE;
    }
    return file;
}

void ue_file_unlock(ue_file file) {
    (void)file; /* the lock goes with the handle, which no other process has */
}

void ue_file_close(ue_file file) {
    CloseHandle(file);
}

int64_t ue_file_size(ue_file file) {
    LARGE_INTEGER size;
    return GetFileSizeEx(file, &size) ? size.QuadPart : -1;
}

static OVERLAPPED place(uint64_t at) {
    OVERLAPPED found = {0};
    found.Offset = (DWORD)at;
    found.OffsetHigh = (DWORD)(at >> 32);
    return found;
}

bool ue_file_write(ue_file file, const void *bytes, size_t size, uint64_t at) {
    OVERLAPPED where = place(at);
    DWORD done;
    return size <= MAXDWORD && WriteFile(file, bytes, (DWORD)size, &done, &where) && done == size;
}

bool ue_file_read(ue_file file, void *bytes, size_t size, uint64_t at) {
    OVERLAPPED where = place(at);
    DWORD done;
    return size <= MAXDWORD && ReadFile(file, bytes, (DWORD)size, &done, &where) && done == size;
}

#else

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A link is not followed, a pipe does not block, and what another user made is not trusted, who
 * could read and forge it: the path may lie where others write.
 */
ue_file ue_file_open(const char *path, const char **why) {
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    const int file = open(path, flags, 0600);
    struct stat about;
    *why = "it cannot be opened for writing";
    if (file < 0)
        return UE_NO_FILE;
    if (fstat(file, &about) || !S_ISREG(about.st_mode))
        *why = "it is no regular file";
    else if (about.st_uid != geteuid())
        *why = "it belongs to another user";
    else if (flock(file, LOCK_EX | LOCK_NB))
        *why = "another program uses it";
    else {
        (void)fchmod(file, 0600); /* a wish: some file systems have no owners */
        return file;
    }
    close(file);
    return UE_NO_FILE;
}

void ue_file_unlock(ue_file file) {
    (void)flock(file, LOCK_UN);
}

void ue_file_close(ue_file file) {
    close(file);
}

int64_t ue_file_size(ue_file file) {
    struct stat about;
    return fstat(file, &about) ? -1 : (int64_t)about.st_size;
}

bool ue_file_write(ue_file file, const void *bytes, size_t size, uint64_t at) {
    const char *from = bytes;
    while (size) {
        const ssize_t done = pwrite(file, from, size, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        from += done;
        at += (uint64_t)done;
        size -= (size_t)done;
    }
    return true;
}

bool ue_file_read(ue_file file, void *bytes, size_t size, uint64_t at) {
    char *to = bytes;
    while (size) {
        const ssize_t done = pread(file, to, size, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        to += done;
        at += (uint64_t)done;
        size -= (size_t)done;
    }
    return true;
}

#endif

#ifndef _WIN32
#undef _GNU_SOURCE /* with it glibc's strerror_r is not POSIX's */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#endif

#include "whole_file.h"

#include "shown.h"

#define PASS "; pass a .safetensors file that can be read"

static ue_status cannot(const char *path, const char *action, const char *reason,
                        struct ue_error *error) {
    return ue_fail(error, UE_BAD_FILE, "%s: cannot %s: %s" PASS, ue_show_path(path).text, action,
                   reason);
}

#ifdef _WIN32

#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

static ue_status cannot_now(const char *path, const char *action, struct ue_error *error) {
    char reason[64];
    snprintf(reason, sizeof reason, "Windows error %lu", (unsigned long)GetLastError());
    return cannot(path, action, reason, error);
}

/* The path in UTF-16, to be freed; NULL if it is not UTF-8 or there is no memory. */
static wchar_t *wide(const char *path) {
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *text = length > 0 ? malloc((size_t)length * sizeof *text) : NULL;
    if (text)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, text, length);
    return text;
}

static ue_status map_file(struct ue_whole_file *whole, HANDLE file, const char *path,
                          struct ue_error *error) {
    LARGE_INTEGER size;
    if (GetFileType(file) != FILE_TYPE_DISK || !GetFileSizeEx(file, &size))
        return cannot(path, "map it", "not a regular file", error);
    if (size.QuadPart <= 0 || (ULONGLONG)size.QuadPart > SIZE_MAX)
        return cannot(path, "map it", size.QuadPart > 0 ? "it is too large" : "it is empty", error);
    const HANDLE section = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!section)
        return cannot_now(path, "map it", error);
    whole->bytes = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
    whole->size = (size_t)size.QuadPart;
    const ue_status status = whole->bytes ? UE_OK : cannot_now(path, "map it", error);
    CloseHandle(section); /* the view keeps it alive */
    return status;
}

ue_status ue_whole_file_open(struct ue_whole_file *whole, const char *path,
                             struct ue_error *error) {
    *whole = (struct ue_whole_file){NULL, 0};
    wchar_t *name = wide(path);
    if (!name)
        return cannot(path, "open it", "the path is not UTF-8", error);
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    const HANDLE file =
        CreateFileW(name, GENERIC_READ, share, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    free(name);
    if (file == INVALID_HANDLE_VALUE)
        return cannot_now(path, "open it", error);
    const ue_status status = map_file(whole, file, path, error);
    CloseHandle(file);
    return status;
}

void ue_whole_file_close(struct ue_whole_file *whole) {
    if (whole->bytes)
        UnmapViewOfFile(whole->bytes);
    *whole = (struct ue_whole_file){NULL, 0};
}

#else

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Systems read no more than some 2 GB at once. */
static const size_t most_at_once = (size_t)1 << 30;

static ue_status cannot_now(const char *path, const char *action, struct ue_error *error) {
    char reason[128];
    if (strerror_r(errno, reason, sizeof reason))
        strcpy(reason, "unknown error");
    return cannot(path, action, reason, error);
}

static ue_status fill(unsigned char *bytes, size_t size, int file, const char *path,
                      struct ue_error *error) {
    for (size_t done = 0; done < size;) {
        const size_t left = size - done;
        const ssize_t got = read(file, bytes + done, left < most_at_once ? left : most_at_once);
        if (got < 0 && errno != EINTR)
            return cannot_now(path, "read it", error);
        if (got == 0)
            return cannot(path, "read it", "it was cut short while it was read", error);
        done += got > 0 ? (size_t)got : 0;
    }
    return UE_OK;
}

static ue_status read_file(struct ue_whole_file *whole, int file, const char *path,
                           struct ue_error *error) {
    struct stat about;
    if (fstat(file, &about))
        return cannot_now(path, "look at it", error);
    if (!S_ISREG(about.st_mode))
        return cannot(path, "read it", "not a regular file", error);
    if (about.st_size <= 0 || (uintmax_t)about.st_size > SIZE_MAX)
        return cannot(path, "read it", about.st_size > 0 ? "it is too large" : "it is empty",
                      error);
    void *bytes = malloc((size_t)about.st_size);
    if (!bytes)
        return ue_fail(error, UE_NO_MEMORY, "%s: no memory for its %ju bytes; close other programs",
                       ue_show_path(path).text, (uintmax_t)about.st_size);
    *whole = (struct ue_whole_file){bytes, (size_t)about.st_size};
    const ue_status status = fill(bytes, whole->size, file, path, error);
    if (status)
        ue_whole_file_close(whole);
    return status;
}

/* O_NONBLOCK: a pipe would otherwise be waited for, until somebody writes to it. */
ue_status ue_whole_file_open(struct ue_whole_file *whole, const char *path,
                             struct ue_error *error) {
    *whole = (struct ue_whole_file){NULL, 0};
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return cannot_now(path, "open it", error);
    const ue_status status = read_file(whole, file, path, error);
    close(file);
    return status;
}

void ue_whole_file_close(struct ue_whole_file *whole) {
    free((void *)(uintptr_t)whole->bytes);
    *whole = (struct ue_whole_file){NULL, 0};
}

#endif

#ifndef _WIN32
#undef _GNU_SOURCE /* with it glibc's strerror_r is not POSIX's */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#endif

#include "mapping.h"

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

static ue_status map_file(struct ue_mapping *mapping, HANDLE file, const char *path,
                          struct ue_error *error) {
    LARGE_INTEGER size;
    if (GetFileType(file) != FILE_TYPE_DISK || !GetFileSizeEx(file, &size))
        return cannot(path, "map it", "not a regular file", error);
    if (size.QuadPart <= 0 || (ULONGLONG)size.QuadPart > SIZE_MAX)
        return cannot(path, "map it", size.QuadPart > 0 ? "it is too large" : "it is empty", error);
    const HANDLE section = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!section)
        return cannot_now(path, "map it", error);
    mapping->bytes = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
    mapping->size = (size_t)size.QuadPart;
    const ue_status status = mapping->bytes ? UE_OK : cannot_now(path, "map it", error);
    CloseHandle(section); /* the view keeps it alive */
    return status;
}

ue_status ue_mapping_open(struct ue_mapping *mapping, const char *path, struct ue_error *error) {
    *mapping = (struct ue_mapping){NULL, 0};
    wchar_t *name = wide(path);
    if (!name)
        return cannot(path, "open it", "the path is not UTF-8", error);
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    const HANDLE file =
        CreateFileW(name, GENERIC_READ, share, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    free(name);
    if (file == INVALID_HANDLE_VALUE)
        return cannot_now(path, "open it", error);
    const ue_status status = map_file(mapping, file, path, error);
    CloseHandle(file);
    return status;
}

void ue_mapping_close(struct ue_mapping *mapping) {
    if (mapping->bytes)
        UnmapViewOfFile(mapping->bytes);
    *mapping = (struct ue_mapping){NULL, 0};
}

#else

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static ue_status cannot_now(const char *path, const char *action, struct ue_error *error) {
    char reason[128];
    if (strerror_r(errno, reason, sizeof reason))
        strcpy(reason, "unknown error");
    return cannot(path, action, reason, error);
}

static ue_status map_file(struct ue_mapping *mapping, int file, const char *path,
                          struct ue_error *error) {
    struct stat about;
    if (fstat(file, &about))
        return cannot_now(path, "look at it", error);
    if (!S_ISREG(about.st_mode))
        return cannot(path, "map it", "not a regular file", error);
    if (about.st_size <= 0 || (uintmax_t)about.st_size > SIZE_MAX)
        return cannot(path, "map it", about.st_size > 0 ? "it is too large" : "it is empty", error);
    void *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        return cannot_now(path, "map it", error);
    *mapping = (struct ue_mapping){bytes, (size_t)about.st_size};
    posix_madvise(bytes, mapping->size, POSIX_MADV_WILLNEED);
    return UE_OK;
}

/* O_NONBLOCK: a pipe would otherwise be waited for, until somebody writes to it. */
ue_status ue_mapping_open(struct ue_mapping *mapping, const char *path, struct ue_error *error) {
    *mapping = (struct ue_mapping){NULL, 0};
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return cannot_now(path, "open it", error);
    const ue_status status = map_file(mapping, file, path, error);
    close(file);
    return status;
}

void ue_mapping_close(struct ue_mapping *mapping) {
    if (mapping->bytes)
        munmap((void *)(uintptr_t)mapping->bytes, mapping->size);
    *mapping = (struct ue_mapping){NULL, 0};
}

#endif

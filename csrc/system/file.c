/* pread and flock are not C11's. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#endif
#include "file.h"

#include <stdlib.h>
#include <string.h>

#ifdef _WIN32

#include <windows.h>

static const char separator = '\\';

static HANDLE opened(const char *path, DWORD access, DWORD share, DWORD how, DWORD flags) {
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *name = length > 0 ? malloc((size_t)length * sizeof *name) : NULL;
    if (!name)
        return INVALID_HANDLE_VALUE;
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, name, length);
    const HANDLE file = CreateFileW(name, access, share, NULL, how, flags, NULL);
    free(name);
    return file;
}

/* Nobody else may open it: that is the lock. */
ue_file ue_file_open(const char *path, const char **why) {
    const DWORD access = GENERIC_READ | GENERIC_WRITE;
    const HANDLE file = opened(path, access, 0, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL);
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

/* Nobody may write to it meanwhile. */
ue_file ue_file_open_to_read(const char *path, const char **why) {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_DELETE;
    const HANDLE file = opened(path, GENERIC_READ, share, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL);
    *why = "no regular file, or it cannot be opened";
    if (file != INVALID_HANDLE_VALUE && GetFileType(file) != FILE_TYPE_DISK) {
        CloseHandle(file);
        return UE_NO_FILE;
    }
    return file;
}

static uint64_t both(DWORD high, DWORD low) {
    return (uint64_t)high << 32 | low;
}

bool ue_file_identify(ue_file file, struct ue_file_identity *identity) {
    BY_HANDLE_FILE_INFORMATION about;
    if (!GetFileInformationByHandle(file, &about))
        return false;
    const FILETIME *written = &about.ftLastWriteTime, *made = &about.ftCreationTime;
    *identity = (struct ue_file_identity){
        about.dwVolumeSerialNumber,
        both(about.nFileIndexHigh, about.nFileIndexLow),
        both(about.nFileSizeHigh, about.nFileSizeLow),
        (int64_t)both(written->dwHighDateTime, written->dwLowDateTime),
        (int64_t)both(made->dwHighDateTime, made->dwLowDateTime),
    };
    return true;
}

/* To UTF-8, to be freed. */
static char *narrow(const wchar_t *name) {
    const int length = WideCharToMultiByte(CP_UTF8, 0, name, -1, NULL, 0, NULL, NULL);
    char *text = length > 0 ? malloc((size_t)length) : NULL;
    if (text)
        WideCharToMultiByte(CP_UTF8, 0, name, -1, text, length, NULL, NULL);
    return text;
}

char *ue_real_path(const char *path) {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    const HANDLE file = opened(path, 0, share, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
    if (file == INVALID_HANDLE_VALUE)
        return NULL;
    const DWORD length = GetFinalPathNameByHandleW(file, NULL, 0, VOLUME_NAME_DOS);
    wchar_t *name = length ? malloc((length + (size_t)1) * sizeof *name) : NULL;
    const DWORD wrote =
        name ? GetFinalPathNameByHandleW(file, name, length + 1, VOLUME_NAME_DOS) : 0;
    char *found = wrote && wrote <= length ? narrow(name) : NULL;
    free(name);
    CloseHandle(file);
    return found;
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

#ifdef __APPLE__
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

static const char separator = '/';

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

/* What it is is asked before it is opened, too: opening a device may do something. */
ue_file ue_file_open_to_read(const char *path, const char **why) {
    struct stat about;
    *why = "no such file";
    if (stat(path, &about))
        return UE_NO_FILE;
    *why = "not a regular file";
    if (!S_ISREG(about.st_mode))
        return UE_NO_FILE;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        *why = "it cannot be opened for reading";
        return UE_NO_FILE;
    }
    if (!fstat(file, &about) && S_ISREG(about.st_mode))
        return file;
    close(file);
    return UE_NO_FILE;
}

static int64_t nanoseconds(struct timespec time) {
    return (int64_t)((uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec);
}

bool ue_file_identify(ue_file file, struct ue_file_identity *identity) {
    struct stat about;
    if (fstat(file, &about))
        return false;
    *identity = (struct ue_file_identity){
        (uint64_t)about.st_dev,     (uint64_t)about.st_ino,     (uint64_t)about.st_size,
        nanoseconds(about.st_mtim), nanoseconds(about.st_ctim),
    };
    return true;
}

char *ue_real_path(const char *path) {
    return realpath(path, NULL);
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

bool ue_same_file(const struct ue_file_identity *a, const struct ue_file_identity *b) {
    return a->device == b->device && a->number == b->number && a->size == b->size &&
           a->modified == b->modified && a->changed == b->changed;
}

char *ue_join_path(const char *folder, const char *name) {
    const size_t before = strlen(folder), length = strlen(name);
    char *path = malloc(before + length + 2);
    if (!path)
        return NULL;
    memcpy(path, folder, before);
    path[before] = separator;
    for (size_t i = 0; i <= length; i++) /* Windows takes no '/' in what ue_real_path gives */
        path[before + 1 + i] = name[i] == '/' ? separator : name[i];
    return path;
}

bool ue_path_inside(const char *path, const char *folder) {
    const size_t length = strlen(folder);
    if (strncmp(path, folder, length) != 0)
        return false;
    return path[length] == separator || (length && folder[length - 1] == separator);
}

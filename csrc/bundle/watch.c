/* Threads of POSIX are not C11's. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "watch.h"

#include <stdlib.h>
#include <string.h>

#include "system/threads.h"

struct watched {
    char *path;
    struct ue_file_identity identity;
    char sha256[UE_SHA256_HEX];
    bool in_place;
};

struct ue_watch {
    ue_mutex lock;
    struct watched *files;
    size_t count;
    struct ue_error changed; /* once it is set it stays */
};

struct ue_watch *ue_watch_open(size_t most) {
    struct ue_watch *watch = calloc(1, sizeof *watch);
    struct watched *files = calloc(most, sizeof *files);
    if (!watch || !files || ue_mutex_init(&watch->lock)) {
        free(watch);
        free(files);
        return NULL;
    }
    watch->files = files;
    return watch;
}

void ue_watch_close(struct ue_watch *watch) {
    if (!watch)
        return;
    for (size_t i = 0; i < watch->count; i++)
        free(watch->files[i].path);
    ue_mutex_destroy(&watch->lock);
    free(watch->files);
    free(watch);
}

void ue_watch_add(struct ue_watch *watch, char *path, const struct ue_checked *found) {
    struct watched *file = &watch->files[watch->count++];
    file->path = path;
    file->identity = found->identity;
    memcpy(file->sha256, found->sha256, sizeof file->sha256);
}

uint64_t ue_watch_size(struct ue_watch *watch, size_t number) {
    ue_lock(&watch->lock);
    const uint64_t size = watch->files[number].identity.size;
    ue_unlock(&watch->lock);
    return size;
}

void ue_watch_in_place(struct ue_watch *watch, size_t number) {
    ue_lock(&watch->lock);
    watch->files[number].in_place = true;
    ue_unlock(&watch->lock);
}

static bool identify(const char *path, struct ue_file_identity *identity) {
    const char *why;
    const ue_file file = ue_file_open_to_read(path, &why);
    if (file == UE_NO_FILE)
        return false;
    const bool known = ue_file_identify(file, identity);
    ue_file_close(file);
    return known;
}

/* Whether a file still is what was hashed. */
static bool stands(struct watched *file) {
    const struct ue_shown name = ue_show_path(file->path);
    const struct ue_checked_source source = {file->path, &name, file->identity.size};
    struct ue_file_identity now;
    struct ue_checked found;
    struct ue_error error = {UE_OK, ""};
    if (!identify(file->path, &now))
        return false;
    if (ue_same_file(&now, &file->identity))
        return true;
    if (file->in_place || now.size != file->identity.size)
        return false;
    /* One that is touched while it is read will be seen to be another, and is then read again. */
    (void)ue_checked_read(&source, false, &found, &error);
    if (strcmp(found.sha256, file->sha256) != 0)
        return false;
    file->identity = found.identity;
    return true;
}

ue_status ue_watch_check(struct ue_watch *watch) {
    ue_lock(&watch->lock);
    for (size_t i = 0; !watch->changed.status && i < watch->count; i++)
        if (!stands(&watch->files[i]))
            ue_fail(&watch->changed, UE_BAD_BUNDLE,
                    "%s: changed while the bundle was in use, so that results could not say what "
                    "made them; put the bundle's own files back and open the bundle again",
                    ue_show_path(watch->files[i].path).text);
    const ue_status status = watch->changed.status;
    ue_unlock(&watch->lock);
    return status;
}

const char *ue_watch_changed(struct ue_watch *watch) {
    ue_lock(&watch->lock);
    const char *text = watch->changed.status ? watch->changed.text : NULL;
    ue_unlock(&watch->lock);
    return text;
}

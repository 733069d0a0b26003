/*
 * Threads that ask at once whether files changed, while one writes them anew with the same bytes
 * and at last with others: FOLDER holds file0 to file2.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bundle/watch.h"
#include "check.h"

enum { FILES = 3, THREADS = 4, ROUNDS = 20 };

static struct ue_watch *watch;
static atomic_int asked;

static char *path_of(const char *folder, int number) {
    const size_t room = strlen(folder) + 16;
    char *path = malloc(room);
    snprintf(path, room, "%s/file%d", folder, number);
    return path;
}

static struct ue_checked read_whole(const char *path) {
    const struct ue_shown name = ue_show_path(path);
    const struct ue_checked_source source = {path, &name, 1 << 20};
    struct ue_checked found;
    struct ue_error error = {UE_OK, ""};
    CHECK(!ue_checked_read(&source, true, &found, &error), "%s", error.text);
    return found;
}

/* In one step, so that no other thread sees half of it. */
static void write_anew(const char *path, const struct ue_checked *content) {
    char beside[4096];
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *file = fopen(beside, "wb");
    CHECK(file && fwrite(content->kept.bytes, 1, content->kept.size, file) && !fclose(file), "%s",
          beside);
    CHECK(!rename(beside, path), "%s", path);
}

/* Until it is told that a file changed: then always, and of the same one. */
static void *ask(void *unused) {
    (void)unused;
    while (!ue_watch_check(watch))
        atomic_fetch_add(&asked, 1);
    const char *text = ue_watch_changed(watch);
    CHECK(text && strstr(text, "file1: changed"), "%s", text ? text : "no text");
    CHECK(ue_watch_check(watch) == UE_BAD_BUNDLE && ue_watch_changed(watch) == text, "%s", text);
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS];
    struct ue_checked content[FILES];
    char *paths[FILES];
    CHECK(count == 2 && (watch = ue_watch_open(FILES)), "usage: %s FOLDER", arguments[0]);
    for (int k = 0; k < FILES; k++) {
        paths[k] = path_of(arguments[1], k);
        content[k] = read_whole(paths[k]);
        ue_watch_add(watch, path_of(arguments[1], k), &content[k]);
    }
    for (int k = 0; k < THREADS; k++)
        CHECK(!pthread_create(&threads[k], NULL, ask, NULL), "thread %d", k);
    for (int round = 0; round < ROUNDS || atomic_load(&asked) < ROUNDS; round++)
        write_anew(paths[round % FILES], &content[round % FILES]);
    CHECK(!ue_watch_check(watch) && !ue_watch_changed(watch), "the same bytes");
    CHECK(ue_watch_size(watch, 1) == content[1].kept.size, "its size");
    content[1].kept.bytes[7] ^= 1;
    write_anew(paths[1], &content[1]);
    for (int k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
    for (int k = 0; k < FILES; k++) {
        free(content[k].kept.bytes);
        free(paths[k]);
    }
    ue_watch_close(watch);
    ue_watch_close(NULL);
    return 0;
}

/*
 * Opens a file with its first, second, ... allocation failing, until none fails. Linked with
 * --wrap, so that only calls from our own code count.
 */
#define _DEFAULT_SOURCE

#include "weights_case.h"

static int allocations, failing;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

void *__wrap_malloc(size_t size) {
    return ++allocations == failing ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return ++allocations == failing ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size) {
    return ++allocations == failing ? NULL : __real_realloc(block, size);
}

int main(int count, char **arguments) {
    struct ue_weights weights;
    CHECK(count == 2, "usage: %s FILE", arguments[0]);
    for (failing = 1;; failing++) {
        struct ue_error error = {UE_OK, ""};
        allocations = 0;
        const ue_status status = ue_weights_open(&weights, arguments[1], &error);
        if (!status)
            break;
        CHECK(status == UE_NO_MEMORY && allocations >= failing, "%d: %s", (int)status, error.text);
        check_failure(&weights, status, &error);
    }
    ue_weights_close(&weights);
    printf("%d allocations\n", allocations);
    return 0;
}

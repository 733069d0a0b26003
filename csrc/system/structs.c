#include "structs.h"

#include <string.h>

static bool is_possible(size_t size) {
    return size >= sizeof size && size % sizeof(void *) == 0;
}

bool ue_struct_read(void *ours, size_t size, const void *given) {
    size_t given_size;
    memset(ours, 0, size);
    memcpy(&given_size, given, sizeof given_size);
    if (!is_possible(given_size) || given_size > size)
        return false;
    memcpy(ours, given, given_size);
    return true;
}

bool ue_struct_write(void *given, const void *ours, size_t size) {
    size_t given_size;
    memcpy(&given_size, given, sizeof given_size);
    if (!is_possible(given_size))
        return false;
    given_size = given_size < size ? given_size : size;
    memcpy(given, ours, given_size);
    memcpy(given, &given_size, sizeof given_size);
    return true;
}

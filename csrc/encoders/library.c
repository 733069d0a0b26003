#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "library.h"

#include <stdio.h>
#include <string.h>

#ifdef _WIN32

#include <stdlib.h>
#include <windows.h>

wchar_t *ue_library_wide(const char *text) {
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide = length > 0 ? malloc((size_t)length * sizeof *wide) : NULL;
    if (wide)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, length);
    return wide;
}

/* Not from the working folder, where anybody may have put one; beside a path, its own helpers. */
void *ue_library_open(const char *name, char *reason, size_t room) {
    const DWORD beside = strpbrk(name, "/\\") ? LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR : 0;
    wchar_t *wide = ue_library_wide(name);
    void *library =
        wide ? LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | beside) : NULL;
    if (!library)
        snprintf(reason, room, "%s: Windows error %lu", name, (unsigned long)GetLastError());
    free(wide);
    return library;
}

ue_function ue_library_function(void *library, const char *name) {
    return (ue_function)GetProcAddress(library, name);
}

#else

#include <dlfcn.h>

void *ue_library_open(const char *name, char *reason, size_t room) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        snprintf(reason, room, "%s", why ? why : "it cannot be loaded");
    }
    return library;
}

/* C knows no cast from an object's address to a function's; POSIX has them alike. */
ue_function ue_library_function(void *library, const char *name) {
    void *address = dlsym(library, name);
    ue_function function = NULL;
    memcpy(&function, &address, sizeof function);
    return function;
}

#endif

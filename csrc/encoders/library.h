/* A runtime's shared library, loaded when it is needed; it stays in the process. */
#ifndef UE_LIBRARY_H
#define UE_LIBRARY_H

#include <stddef.h>

/* What a caller casts to the function's true type. */
typedef void (*ue_function)(void);

/*
 * The library of that path or name; NULL where it cannot be loaded, and then `reason` says why.
 * It is never unloaded: runtimes leave threads and thread-local destructors behind.
 */
void *ue_library_open(const char *name, char *reason, size_t room);

/* NULL where the library has no such function. */
ue_function ue_library_function(void *library, const char *name);

/* UTF-16 on Windows, to be freed; NULL where the text is not UTF-8 or memory runs out. */
#ifdef _WIN32
#include <wchar.h>
wchar_t *ue_library_wide(const char *text);
#endif

#endif

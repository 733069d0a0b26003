/* How the aggregator's parts tell what went wrong: a status and a sentence, kept on the handle. */
#ifndef UE_ERROR_H
#define UE_ERROR_H

#include "unicas_edge.h"

struct ue_error {
    ue_status status;
    char text[512]; /* empty while status is UE_OK */
};

/*
 * Which argument is printf's format, and which its first value. mingw checks against the old names
 * of Microsoft's C library by default, but what is called knows all of C11's (%zu).
 */
#if defined(__MINGW32__) && !defined(__clang__)
#define UE_PRINTF(format_at, values_at) __attribute__((format(gnu_printf, format_at, values_at)))
#elif defined(__GNUC__)
#define UE_PRINTF(format_at, values_at) __attribute__((format(printf, format_at, values_at)))
#else
#define UE_PRINTF(format_at, values_at)
#endif

/* Store `status` and a printf-style text in `error` (cut to fit, never overflowing), return it. */
UE_PRINTF(3, 4)
ue_status ue_fail(struct ue_error *error, ue_status status, const char *format, ...);

#endif

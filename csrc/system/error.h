/* How the aggregator's parts tell what went wrong: a status and a sentence, kept on the handle. */
#ifndef UE_ERROR_H
#define UE_ERROR_H

#include "unicas_edge.h"

struct ue_error {
    ue_status status;
    char text[512]; /* empty while status is UE_OK */
};

/* Store `status` and a printf-style text in `error` (cut to fit, never overflowing), return it. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
ue_status ue_fail(struct ue_error *error, ue_status status, const char *format, ...);

#endif

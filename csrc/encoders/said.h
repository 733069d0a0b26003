/* What went wrong in this thread: encoders are used by many threads at once. */
#ifndef UE_SAID_H
#define UE_SAID_H

#include "system/error.h"
#include "unicas_edge_encoder.h"

/* Keep a sentence for ue_encoder_error, on one line; return `status`. */
UE_PRINTF(2, 3)
ue_status ue_encoder_fail(ue_status status, const char *format, ...);

#endif

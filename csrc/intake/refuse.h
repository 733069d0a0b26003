/* What a session refuses: a status, and a sentence for the thread that asked. */
#ifndef UE_REFUSE_H
#define UE_REFUSE_H

#include "system/error.h"

/* Keep a sentence for the calling thread; return the status. */
UE_PRINTF(2, 3)
ue_status ue_refuse(ue_status status, const char *format, ...);

/* UE_NULL_POINTER where a pointer is NULL, UE_ENDED in another process than its own. */
ue_status ue_check_process(const void *pointer, long process);

#endif

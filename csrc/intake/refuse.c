/* What a session refuses: a status, and a sentence for the thread that asked. */
#include "state.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(_MSC_VER)
static __declspec(thread) struct ue_error said;
#else
static _Thread_local struct ue_error said;
#endif

const char *ue_intake_error(void) {
    return said.text;
}

ue_status ue_refuse(ue_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    said.status = status;
    vsnprintf(said.text, sizeof said.text, format, arguments);
    va_end(arguments);
    return status;
}

ue_status ue_intake_check(const ue_intake *intake) {
    if (!intake)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (intake->process != ue_process())
        return ue_refuse(UE_ENDED, "the session was opened before this process was forked, and its "
                                   "threads stayed behind; open a new one in this process");
    return UE_OK;
}

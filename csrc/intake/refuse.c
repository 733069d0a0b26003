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

ue_status ue_check_process(const void *pointer, long process) {
    if (!pointer)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (process != ue_process())
        return ue_refuse(UE_ENDED, "the session was opened before this process was forked, and its "
                                   "threads stayed behind; open a new one in this process");
    return UE_OK;
}

ue_status ue_intake_check(const ue_intake *intake) {
    return ue_check_process(intake, intake ? intake->process : 0);
}

#include "error.h"

#include <stdarg.h>
#include <stdio.h>

ue_status ue_fail(struct ue_error *error, ue_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

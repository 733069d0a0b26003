/* Whether a session still works, and why not. */
#include "state.h"

#include "system/clock.h"

ue_status ue_session_check(ue_session *session) {
    ue_status status = ue_check_process(session, session ? session->process : 0);
    if (status)
        return status;
    ue_lock(&session->lock);
    if (session->failure.status)
        status = ue_refuse(session->failure.status, "%s", session->failure.text);
    ue_unlock(&session->lock);
    return status;
}

ue_status ue_session_why(ue_session *session, ue_status status) {
    const ue_status failed = status == UE_ENDED ? ue_session_check(session) : UE_OK;
    return failed ? failed : status;
}

ue_status ue_session_wait(ue_session *session, uint32_t milliseconds,
                          ue_status (*ask)(ue_intake *intake, unsigned milliseconds)) {
    const double end = ue_seconds() + milliseconds / 1e3;
    for (;;) {
        const double left = milliseconds == UE_FOREVER ? UE_POLL_MS : 1e3 * (end - ue_seconds());
        const unsigned most = left > UE_POLL_MS ? UE_POLL_MS : left > 0 ? (unsigned)left : 0;
        const ue_status status = ask(session->intake, most);
        const ue_status failed = ue_session_check(session);
        if (failed || status != UE_BUSY || left <= 0)
            return failed ? failed : status;
    }
}

const char *ue_session_error(void) {
    return ue_intake_error();
}

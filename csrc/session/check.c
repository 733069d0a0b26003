/* Whether a session still works, and why not. */
#include "state.h"

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

const char *ue_session_error(void) {
    return ue_intake_error();
}

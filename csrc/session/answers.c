/* What programs ask of a finished session. */
#include "state.h"

#include "system/structs.h"

/* Another thread may finish it just now. */
static bool is_finished(const ue_session *session) {
    ue_session *own = (ue_session *)session;
    if (!session || session->process != ue_process())
        return false;
    ue_lock(&own->lock);
    const bool finished = own->finished;
    ue_unlock(&own->lock);
    return finished;
}

const char *ue_session_result_json(const ue_session *session) {
    return is_finished(session) ? session->json.text.bytes : NULL;
}

ue_status ue_session_answer(const ue_session *session, size_t task, ue_answer *answer) {
    const ue_status status = ue_check_process(session, session ? session->process : 0);
    if (status)
        return status;
    if (!answer)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (!is_finished(session))
        return ue_refuse(UE_BUSY, "finish the session first");
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    const struct ue_task *tasks = manifest->tasks.items;
    if (task >= manifest->tasks.count)
        return ue_refuse(UE_BAD_SIZE, "the bundle has %zu tasks", manifest->tasks.count);
    const ue_answer full = {.name = tasks[task].name.bytes,
                            .decision = session->verdict.tasks[task].decision,
                            .probability = session->verdict.tasks[task].probability,
                            .threshold = tasks[task].threshold};
    return ue_struct_write(answer, &full, sizeof full)
               ? UE_OK
               : ue_refuse(UE_BAD_OPTIONS, "struct_size is not that of an answer");
}

const char *ue_session_reason(const ue_session *session, size_t index) {
    return is_finished(session) ? ue_reason(&session->verdict.reasons, index) : NULL;
}

const ue_tile *ue_session_tiles(const ue_session *session, size_t *count) {
    if (count)
        *count = is_finished(session) ? session->verdict.planned : 0;
    return is_finished(session) ? session->verdict.tiles : NULL;
}

const char *ue_session_kind(const ue_session *session, size_t kind) {
    if (!session || !session->screener->knows)
        return NULL;
    const struct ue_list *kinds = &session->screener->bundle->manifest.knowledge.kinds;
    const struct ue_json_text *names = kinds->items;
    return kind < kinds->count ? names[kind].bytes : NULL;
}

const float *ue_session_tokens(const ue_session *session, size_t *count) {
    if (count)
        *count = is_finished(session) ? session->found.encoded_count : 0;
    return is_finished(session) ? session->found.tokens : NULL;
}

const float *ue_session_attention(const ue_session *session, size_t task) {
    if (!is_finished(session) || task >= session->screener->bundle->manifest.tasks.count)
        return NULL;
    return session->verdict.attention + task * session->verdict.planned;
}

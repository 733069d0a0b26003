/* What programs ask of a finished session. */
#include "state.h"

#include <string.h>

static bool is_finished(const ue_session *session) {
    return session && session->finished;
}

const char *ue_session_result_json(const ue_session *session) {
    return is_finished(session) ? session->json.text.bytes : NULL;
}

ue_status ue_session_answer(const ue_session *session, size_t task, ue_answer *answer) {
    if (!session || !answer)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (answer->struct_size != sizeof *answer)
        return ue_refuse(UE_BAD_OPTIONS, "struct_size is not that of this version's answer");
    if (!is_finished(session))
        return ue_refuse(UE_BUSY, "finish the session first");
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    const struct ue_task *tasks = manifest->tasks.items;
    if (task >= manifest->tasks.count)
        return ue_refuse(UE_BAD_SIZE, "the bundle has %zu tasks", manifest->tasks.count);
    answer->name = tasks[task].name.bytes;
    answer->decision = session->verdict.tasks[task].decision;
    answer->probability = session->verdict.tasks[task].probability;
    answer->threshold = tasks[task].threshold;
    return UE_OK;
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
    return session->found.by_tile + task * session->verdict.planned;
}

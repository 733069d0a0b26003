/* The end of a session: its result. */
#include "state.h"

#include <string.h>

#include "system/clock.h"

static struct ue_context context_of(const ue_session *session) {
    const ue_encoder *encoder = &session->screener->encoder;
    const struct ue_context context = {
        .manifest = &session->screener->bundle->manifest,
        .grid = session->grid,
        .width = session->options.width,
        .height = session->options.height,
        .downsample = session->downsample,
        .um_px = session->options.um_px,
        .um_px_source = session->texts[UE_TEXT_UM_PX_SOURCE],
        .colour_mode = session->texts[UE_TEXT_COLOUR_MODE],
        .colour_warnings = (const char *const *)&session->texts[UE_TEXT_COLOUR_WARNING],
        .colour_warnings_count = session->texts[UE_TEXT_COLOUR_WARNING] ? 1 : 0,
        .unverified = encoder->unverified,
    };
    return context;
}

static struct ue_evidence evidence_of(const ue_session *session) {
    const struct ue_found *found = &session->found;
    ue_aggregator_info info = {.struct_size = sizeof info};
    ue_aggregator_describe(session->screener->aggregator, &info);
    const struct ue_evidence evidence = {
        .planned = found->planned,
        .planned_count = found->planned_count,
        .status = found->status,
        .score = found->score,
        .cellular = found->cellular,
        .focus = found->focus,
        .tokens = found->tokens,
        .reading = session->screener->knows ? &found->reading : NULL,
        .logits = found->logits,
        .most_classes = info.most_classes,
        .attention = found->attention,
        .causes = found->causes,
    };
    return evidence;
}

static ue_status decide(ue_session *session) {
    const double begin = ue_seconds();
    const ue_status status = ue_find(session, &session->found);
    if (status)
        return status;
    const struct ue_context context = context_of(session);
    const struct ue_evidence evidence = evidence_of(session);
    struct ue_error error = {0};
    const ue_status judged = ue_judge(&session->verdict, &context, &evidence, &error);
    if (judged)
        return ue_refuse(judged, "%s", error.text);
    session->timings[2] = ue_seconds() - begin;
    ue_write_result(&session->json, session, &context, &evidence);
    return session->json.text.broken ? ue_refuse(UE_NO_MEMORY, "not enough memory for the result")
                                     : UE_OK;
}

/* What a try that failed has left. */
static void clear(ue_session *session) {
    ue_found_free(&session->found);
    ue_verdict_free(&session->verdict);
    ue_text_free(&session->json.text);
    session->json.follows = false;
}

static ue_status finish(ue_session *session, uint32_t milliseconds) {
    ue_status status = ue_intake_end(session->intake);
    if (status && status != UE_ENDED)
        return status;
    status = ue_session_wait(session, milliseconds, ue_intake_drained);
    if (status)
        return status;
    ue_crew_join(session);
    session->timings[0] = ue_seconds() - session->opened;
    session->timings[1] = session->busy_seconds;
    status = decide(session);
    if (!status && ue_bundle_check_unchanged(session->screener->bundle))
        status = ue_refuse(UE_BAD_BUNDLE, "a file of the bundle changed while the slide was "
                                          "screened; open the bundle again");
    if (status)
        clear(session);
    return status;
}

/* Whether it is this thread's to finish. UE_BUSY: another thread takes longer than that. */
static ue_status take_turn(ue_session *session, uint32_t milliseconds, bool *mine) {
    const double end = ue_seconds() + milliseconds / 1e3;
    ue_status status = UE_OK;
    ue_lock(&session->lock);
    while (session->finishing && !status) {
        if (milliseconds != UE_FOREVER && ue_seconds() >= end)
            status = ue_refuse(UE_BUSY, "another thread finishes the session");
        else
            ue_wait_for(&session->changed, &session->lock, UE_POLL_MS);
    }
    *mine = !status && !session->finished;
    session->finishing |= *mine;
    ue_unlock(&session->lock);
    return status;
}

ue_status ue_session_finish(ue_session *session, uint32_t milliseconds) {
    bool mine;
    ue_status status = ue_session_check(session);
    if (!status)
        status = take_turn(session, milliseconds, &mine);
    if (status || !mine)
        return status;
    status = finish(session, milliseconds);
    ue_lock(&session->lock);
    session->finished = !status;
    session->finishing = false;
    ue_wake_all(&session->changed);
    ue_unlock(&session->lock);
    return status;
}

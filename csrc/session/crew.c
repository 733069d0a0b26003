/* The threads that encode a session's tiles, the best first. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "system/clock.h"
#include "system/memory.h"

/* What a thread has for itself. */
struct batch {
    void *planes;
    uint32_t *cells;
    float *tokens;
};

static size_t plane_bytes(const ue_encoder *encoder) {
    const size_t size = encoder->dtype == UE_FLOAT32 ? 4 : encoder->dtype == UE_FLOAT16 ? 2 : 1;
    return encoder->batch * 3 * encoder->crop * encoder->crop * size;
}

static bool allocate(struct batch *batch, const ue_encoder *encoder) {
    batch->planes = ue_allocate(plane_bytes(encoder));
    batch->cells = calloc(encoder->batch, sizeof *batch->cells);
    batch->tokens = calloc(encoder->batch * encoder->width, sizeof *batch->tokens);
    if (batch->planes) /* rows that are never filled are encoded, too */
        memset(batch->planes, 0, plane_bytes(encoder));
    return batch->planes && batch->cells && batch->tokens;
}

static void release(struct batch *batch) {
    ue_free(batch->planes);
    free(batch->cells);
    free(batch->tokens);
}

/* The first failure ends the session for all its threads. */
static void give_up(ue_session *session, ue_status status, const char *why) {
    ue_lock(&session->lock);
    if (!session->failure.status)
        ue_fail(&session->failure, status, "%s", why);
    ue_unlock(&session->lock);
    ue_intake_cancel(session->intake);
}

static ue_status encode(ue_session *session, struct batch *batch) {
    ue_screener *screener = session->screener;
    if (!ue_screener_enter(screener, session->intake))
        return UE_ENDED;
    const double begin = ue_seconds();
    const ue_status status = ue_encoder_encode(&screener->encoder, batch->planes, batch->tokens);
    const double seconds = ue_seconds() - begin;
    ue_screener_leave(screener);
    ue_lock(&session->lock);
    session->busy_seconds += seconds;
    ue_unlock(&session->lock);
    if (status)
        give_up(session, UE_RUN_FAILED, ue_encoder_error()); /* whatever status a host gave */
    return status;
}

static ue_status deliver(ue_session *session, const struct batch *batch, size_t count) {
    size_t bad = 0;
    const ue_status status = ue_intake_deliver(session->intake, batch->cells, count, batch->tokens,
                                               session->screener->encoder.width, &bad);
    if (status && status != UE_ENDED)
        give_up(session, status, ue_session_error());
    return status;
}

static void work(ue_session *session, struct batch *batch) {
    for (;;) {
        size_t count = 0;
        const ue_status status =
            ue_intake_take(session->intake, batch->planes, batch->cells, &count, UE_POLL_MS);
        if (status == UE_BUSY)
            continue;
        if (status && status != UE_ENDED)
            give_up(session, status, ue_session_error());
        if (status || encode(session, batch) || deliver(session, batch, count))
            return;
    }
}

static ue_thread_result UE_THREAD_CALL run(void *argument) {
    ue_session *session = argument;
    struct batch batch = {0};
    if (allocate(&batch, &session->screener->encoder))
        work(session, &batch);
    else
        give_up(session, UE_NO_MEMORY, "not enough memory for a batch of tiles");
    release(&batch);
    return 0;
}

ue_status ue_crew_start(ue_session *session) {
    const size_t count = session->screener->encoder.workers;
    session->threads = calloc(count, sizeof *session->threads);
    if (!session->threads)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the session");
    while (session->thread_count < count &&
           !ue_thread_start(&session->threads[session->thread_count], run, session))
        session->thread_count++;
    return session->thread_count
               ? UE_OK
               : ue_refuse(UE_NO_MEMORY, "the system starts no thread for the session");
}

void ue_crew_join(ue_session *session) {
    for (size_t k = 0; k < session->thread_count; k++)
        ue_thread_join(session->threads[k]);
    session->thread_count = 0;
}

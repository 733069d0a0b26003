/* Opening and closing a session, and waiting for it. */
#include "state.h"

#include <math.h>
#include <stdlib.h>

/* ---- opening --------------------------------------------------------------------------------- */

/* Far beyond any model; sizes of memory that are computed of these do not overflow. */
enum { MOST_WIDTH = 1 << 20, MOST_BATCH = 1 << 20 };

static bool possible(const ue_session_options *o) {
    return o->struct_size == sizeof *o && o->tile && o->tile <= UE_MAX_SIDE && o->crop &&
           o->crop <= o->tile && o->token_width && o->token_width <= MOST_WIDTH && o->batch &&
           o->batch <= MOST_BATCH && o->most_held && o->most_open &&
           isfinite(o->background_share) && o->bag && o->capacity && o->capacity <= UE_MAX_TILES &&
           ue_normalise_variant(o->affine, o->dtype);
}

static bool allocate(ue_session *session) {
    const size_t cells = session->cells;
    session->status = calloc(cells, sizeof *session->status);
    session->score = calloc(cells, sizeof *session->score);
    session->cellular = calloc(cells, sizeof *session->cellular);
    session->focus = calloc(cells, sizeof *session->focus);
    session->fields =
        calloc(session->grid.field_rows * session->grid.field_cols, sizeof *session->fields);
    return session->status && session->score && session->cellular && session->focus &&
           session->fields && ue_tokens_open(&session->tokens, cells);
}

static void release(ue_session *session) {
    ue_tokens_close(&session->tokens);
    ue_spool_close(&session->spool);
    free(session->kept.entries);
    free(session->ready.entries);
    for (size_t k = 0; session->fields && k < session->grid.field_rows * session->grid.field_cols;
         k++)
        ue_crop_free_all(session->fields[k].crops);
    for (struct ue_crop *next, *crop = session->crops.urgent.first; crop; crop = next) {
        next = crop->after;
        free(crop);
    }
    ue_crop_free_all(session->crops.idle);
    free(session->status);
    free(session->score);
    free(session->cellular);
    free(session->focus);
    free(session->fields);
    free(session);
}

static ue_session *session_of(const ue_session_options *options, const struct ue_grid *grid) {
    ue_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->options = *options;
    session->grid = *grid;
    session->cells = grid->rows * grid->cols;
    session->process = ue_process();
    session->spool.file = UE_NO_FILE;
    session->ready.best_first = true;
    session->crops.bytes = options->crop * options->crop * 3;
    session->tokens.bag = options->bag;
    session->tokens.capacity = options->capacity;
    session->tokens.width = options->token_width;
    if (allocate(session) && !ue_mutex_init(&session->lock)) {
        if (!ue_condition_init(&session->changed))
            return session;
        ue_mutex_destroy(&session->lock);
    }
    release(session);
    return NULL;
}

ue_status ue_session_open(const ue_session_options *options, ue_session **session) {
    if (!options || !session)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    *session = NULL;
    struct ue_grid grid;
    if (!possible(options) ||
        !ue_grid_of(options->width, options->height, (double)options->tile * options->downsample,
                    options->field, &grid))
        return ue_refuse(UE_BAD_OPTIONS, "the options of the session are not possible");
    *session = session_of(options, &grid);
    if (!*session)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the session");
    ue_status status = ue_spool_open(&(*session)->spool, options, (*session)->cells);
    if (status == UE_OK && options->spool && !(*session)->spool.fresh)
        status = ue_session_replay(*session);
    (*session)->options.spool = NULL; /* the path is the caller's */
    if (status != UE_OK) {
        ue_session_destroy(*session);
        *session = NULL;
    }
    return status;
}

/* In a fork the lock may be held by a thread that is not there; it goes with the process. */
void ue_session_destroy(ue_session *session) {
    if (!session)
        return;
    if (session->process == ue_process()) {
        ue_condition_destroy(&session->changed);
        ue_mutex_destroy(&session->lock);
    }
    release(session);
}

/* ---- waiting --------------------------------------------------------------------------------- */

void ue_session_cancel(ue_session *session) {
    if (ue_session_check(session) != UE_OK)
        return;
    ue_lock(&session->lock);
    session->ended = session->cancelled = true;
    ue_wake_all(&session->changed);
    ue_unlock(&session->lock);
}

ue_status ue_session_let_go(ue_session *session) {
    const ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    ue_lock(&session->lock);
    session->ended = true;
    ue_spool_close(&session->spool);
    ue_unlock(&session->lock);
    return UE_OK;
}

ue_status ue_session_drained(ue_session *session, unsigned milliseconds) {
    ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    ue_lock(&session->lock);
    if (session->ready_count + session->encoding && !session->cancelled)
        ue_wait_for(&session->changed, &session->lock, milliseconds);
    if (session->cancelled)
        status = ue_refuse(UE_ENDED, "the session was closed while it waited for the encoder");
    else if (!session->ended || session->ready_count + session->encoding)
        status = ue_refuse(UE_BUSY, "tiles are still to be encoded");
    ue_unlock(&session->lock);
    return status;
}

bool ue_crowded(const ue_session *session) {
    const ue_session_options *options = &session->options;
    return !session->ended &&
           ((options->most_ready && session->ready_count >= options->most_ready) ||
            session->held_count >= options->most_held);
}

/* Where pixels of open fields fill the memory, a batch of the oldest is encoded before its time. */
static void relieve(ue_session *session) {
    struct ue_crop *crop;
    for (size_t k = 0; k < session->options.batch && (crop = session->crops.open.first); k++) {
        struct ue_crop **link = &session->fields[ue_grid_field(&session->grid, crop->cell)].crops;
        while (*link != crop)
            link = &(*link)->sibling;
        *link = crop->sibling;
        ue_queue_remove(&session->crops.open, crop);
        ue_queue_add(&session->crops.urgent, crop);
        session->ready_count++;
    }
    ue_wake_all(&session->changed);
}

ue_status ue_session_room(ue_session *session, unsigned milliseconds) {
    ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    ue_lock(&session->lock);
    if (ue_crowded(session)) {
        if (!session->ready_count)
            relieve(session);
        ue_wait_for(&session->changed, &session->lock, milliseconds);
        if (session->cancelled)
            status = ue_refuse(UE_ENDED, "the session was closed while it waited for the encoder");
        else if (ue_crowded(session))
            status = ue_refuse(UE_BUSY, "the encoder is behind");
    }
    ue_unlock(&session->lock);
    return status;
}

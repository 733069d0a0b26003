/* Opening and closing a session, and waiting for it. */
#include "state.h"

#include <math.h>
#include <stdlib.h>

/* ---- opening --------------------------------------------------------------------------------- */

/* Far beyond any model; sizes of memory that are computed of these do not overflow. */
enum { MOST_WIDTH = 1 << 20, MOST_BATCH = 1 << 20 };

static bool possible(const ue_intake_options *o) {
    return o->struct_size == sizeof *o && o->tile && o->tile <= UE_MAX_SIDE && o->crop &&
           o->crop <= o->tile && o->token_width && o->token_width <= MOST_WIDTH && o->batch &&
           o->batch <= MOST_BATCH && o->most_held && o->most_open &&
           isfinite(o->background_share) && o->bag && o->capacity && o->capacity <= UE_MAX_TILES &&
           ue_normalise_variant(o->affine, o->dtype);
}

static bool allocate(ue_intake *intake) {
    const size_t cells = intake->cells;
    intake->status = calloc(cells, sizeof *intake->status);
    intake->score = calloc(cells, sizeof *intake->score);
    intake->cellular = calloc(cells, sizeof *intake->cellular);
    intake->focus = calloc(cells, sizeof *intake->focus);
    intake->fields =
        calloc(intake->grid.field_rows * intake->grid.field_cols, sizeof *intake->fields);
    return intake->status && intake->score && intake->cellular && intake->focus && intake->fields &&
           ue_tokens_open(&intake->tokens, cells);
}

static void release(ue_intake *intake) {
    ue_tokens_close(&intake->tokens);
    ue_spool_close(&intake->spool);
    free(intake->kept.entries);
    free(intake->ready.entries);
    for (size_t k = 0; intake->fields && k < intake->grid.field_rows * intake->grid.field_cols; k++)
        ue_crop_free_all(intake->fields[k].crops);
    for (struct ue_crop *next, *crop = intake->crops.urgent.first; crop; crop = next) {
        next = crop->after;
        free(crop);
    }
    ue_crop_free_all(intake->crops.idle);
    free(intake->status);
    free(intake->score);
    free(intake->cellular);
    free(intake->focus);
    free(intake->fields);
    free(intake);
}

static ue_intake *intake_of(const ue_intake_options *options, const struct ue_grid *grid) {
    ue_intake *intake = calloc(1, sizeof *intake);
    if (!intake)
        return NULL;
    intake->options = *options;
    intake->grid = *grid;
    intake->cells = grid->rows * grid->cols;
    intake->process = ue_process();
    intake->spool.file = UE_NO_FILE;
    intake->ready.best_first = true;
    intake->crops.bytes = options->crop * options->crop * 3;
    intake->tokens.bag = options->bag;
    intake->tokens.capacity = options->capacity;
    intake->tokens.width = options->token_width;
    if (allocate(intake) && !ue_mutex_init(&intake->lock)) {
        if (!ue_condition_init(&intake->changed))
            return intake;
        ue_mutex_destroy(&intake->lock);
    }
    release(intake);
    return NULL;
}

ue_status ue_intake_open(const ue_intake_options *options, ue_intake **intake) {
    if (!options || !intake)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    *intake = NULL;
    struct ue_grid grid;
    if (!possible(options) ||
        !ue_grid_of(options->width, options->height, (double)options->tile * options->downsample,
                    options->field, &grid))
        return ue_refuse(UE_BAD_OPTIONS, "the options of the session are not possible");
    *intake = intake_of(options, &grid);
    if (!*intake)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the session");
    ue_status status = ue_spool_open(&(*intake)->spool, options, (*intake)->cells);
    if (status == UE_OK && options->spool && !(*intake)->spool.fresh)
        status = ue_intake_replay(*intake);
    (*intake)->options.spool = NULL; /* the path is the caller's */
    if (status != UE_OK) {
        ue_intake_destroy(*intake);
        *intake = NULL;
    }
    return status;
}

/* In a fork the lock may be held by a thread that is not there; it goes with the process. */
void ue_intake_destroy(ue_intake *intake) {
    if (!intake)
        return;
    if (intake->process == ue_process()) {
        ue_condition_destroy(&intake->changed);
        ue_mutex_destroy(&intake->lock);
    }
    release(intake);
}

/* ---- waiting --------------------------------------------------------------------------------- */

void ue_intake_cancel(ue_intake *intake) {
    if (ue_intake_check(intake) != UE_OK)
        return;
    ue_lock(&intake->lock);
    intake->ended = intake->cancelled = true;
    ue_wake_all(&intake->changed);
    ue_unlock(&intake->lock);
}

bool ue_intake_cancelled(ue_intake *intake) {
    if (ue_intake_check(intake) != UE_OK)
        return false;
    ue_lock(&intake->lock);
    const bool cancelled = intake->cancelled;
    ue_unlock(&intake->lock);
    return cancelled;
}

ue_status ue_intake_let_go(ue_intake *intake) {
    const ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    intake->ended = true;
    ue_spool_close(&intake->spool);
    ue_unlock(&intake->lock);
    return UE_OK;
}

ue_status ue_intake_drained(ue_intake *intake, unsigned milliseconds) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    if (intake->ready_count + intake->encoding && !intake->cancelled)
        ue_wait_for(&intake->changed, &intake->lock, milliseconds);
    if (intake->cancelled)
        status = ue_refuse(UE_ENDED, "the session was closed while it waited for the encoder");
    else if (!intake->ended || intake->ready_count + intake->encoding)
        status = ue_refuse(UE_BUSY, "tiles are still to be encoded");
    ue_unlock(&intake->lock);
    return status;
}

bool ue_crowded(const ue_intake *intake) {
    const ue_intake_options *options = &intake->options;
    return !intake->ended && ((options->most_ready && intake->ready_count >= options->most_ready) ||
                              intake->held_count >= options->most_held);
}

/* Where pixels of open fields fill the memory, a batch of the oldest is encoded before its time. */
static void relieve(ue_intake *intake) {
    struct ue_crop *crop;
    for (size_t k = 0; k < intake->options.batch && (crop = intake->crops.open.first); k++) {
        struct ue_crop **link = &intake->fields[ue_grid_field(&intake->grid, crop->cell)].crops;
        while (*link != crop)
            link = &(*link)->sibling;
        *link = crop->sibling;
        ue_queue_remove(&intake->crops.open, crop);
        ue_queue_add(&intake->crops.urgent, crop);
        intake->ready_count++;
    }
    ue_wake_all(&intake->changed);
}

ue_status ue_intake_room(ue_intake *intake, unsigned milliseconds) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    if (ue_crowded(intake)) {
        if (!intake->ready_count)
            relieve(intake);
        ue_wait_for(&intake->changed, &intake->lock, milliseconds);
        if (intake->cancelled)
            status = ue_refuse(UE_ENDED, "the session was closed while it waited for the encoder");
        else if (ue_crowded(intake))
            status = ue_refuse(UE_BUSY, "the encoder is behind");
    }
    ue_unlock(&intake->lock);
    return status;
}

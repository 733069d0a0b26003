/*
 * A session goes on from its spool. What came is entered again: of the best complete fields and of
 * the open ones with its tokens or pixels, of the others by their entries alone, as they had been
 * dropped. The result is that of a session that was never interrupted.
 */
#include "state.h"

#include <stdlib.h>

enum { AT_ONCE = 4096 };

/* ---- entries --------------------------------------------------------------------------------- */

static void record(ue_session *session, size_t cell, const struct ue_entry *entry) {
    if (entry->status == UE_TILE_UNSEEN)
        return;
    session->status[cell] = entry->status;
    session->score[cell] = entry->score;
    session->cellular[cell] = entry->cellular;
    session->focus[cell] = entry->focus;
    session->fields[ue_grid_field(&session->grid, cell)].taken++;
    session->seen++;
    if (entry->pushed) {
        session->scoring_known = true;
        session->scores_given = entry->given;
    }
}

static bool read_entries(ue_session *session, uint32_t *slots) {
    struct ue_entry *entries = malloc(AT_ONCE * sizeof *entries);
    bool done = entries != NULL;
    for (size_t first = 0; done && first < session->cells; first += AT_ONCE) {
        const size_t left = session->cells - first, count = left < AT_ONCE ? left : AT_ONCE;
        done = ue_spool_entries(&session->spool, first, entries, count);
        for (size_t k = 0; done && k < count; k++) {
            record(session, first + k, &entries[k]);
            slots[first + k] = entries[k].slot;
        }
    }
    free(entries);
    return done;
}

/* ---- tokens and pixels ----------------------------------------------------------------------- */

static bool restore_pixels(ue_session *session, uint32_t cell, uint32_t slot) {
    struct ue_crop *crop = ue_crop_new(&session->crops);
    if (!crop || !ue_spool_pixels(&session->spool, cell, slot, crop->pixels)) {
        if (crop)
            ue_crop_rest(&session->crops, crop);
        return false;
    }
    crop->cell = cell;
    ue_hold(session, crop);
    return true;
}

static ue_status restore(ue_session *session, uint32_t cell, uint32_t slot, float *token) {
    if (session->status[cell] != UE_TILE_ENCODED)
        return UE_OK;
    if (ue_spool_token(&session->spool, cell, token)) {
        session->encoded++;
        const ue_status status = ue_tokens_put(&session->tokens, cell, token);
        if (status != UE_OK && status != UE_NO_MEMORY)
            ue_refuse(status, "%s", ue_aggregator_bag_error(session->options.bag));
        return status;
    }
    if (restore_pixels(session, cell, slot))
        return UE_OK;
    int64_t x, y;
    ue_grid_origin(&session->grid, cell, &x, &y);
    return ue_refuse(UE_BAD_FILE,
                     "%s: holds neither pixels nor token of the tile at level-0 (%lld, %lld); "
                     "remove it and scan the slide again",
                     session->options.spool, (long long)x, (long long)y);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool complete(const ue_session *session, size_t field) {
    const size_t size = ue_field_size(ue_grid_tiles(&session->grid, field));
    return session->fields[field].taken == size;
}

static ue_status reopen(ue_session *session, size_t field, const uint32_t *slots, float *token) {
    const struct ue_field tiles = ue_grid_tiles(&session->grid, field);
    ue_status status = UE_OK;
    session->fields[field].state = UE_FIELD_OPEN;
    session->open_tiles += session->fields[field].taken;
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right && status == UE_OK; col++) {
            const size_t cell = row * session->grid.cols + col;
            status = restore(session, (uint32_t)cell, slots[cell], token);
        }
    return status;
}

/* The complete fields, the best first. */
static size_t rank(const ue_session *session, struct ue_ranked *ranked) {
    size_t count = 0;
    for (size_t field = 0; field < session->grid.field_rows * session->grid.field_cols; field++)
        if (complete(session, field)) {
            const struct ue_ranked one = {ue_field_score(session, field), (uint32_t)field};
            ranked[count++] = one;
        }
    qsort(ranked, count, sizeof *ranked, ue_by_rank);
    return count;
}

/* Those beyond what is wanted had been dropped, as whatever came later can only drop more. */
static ue_status restore_complete(ue_session *session, const struct ue_ranked *ranked, size_t count,
                                  const uint32_t *slots, float *token) {
    ue_status status = UE_OK;
    for (size_t k = 0; k < count && status == UE_OK; k++) {
        if (ue_full(session)) {
            session->fields[ranked[k].field].state = UE_FIELD_DROPPED;
            continue;
        }
        status = reopen(session, ranked[k].field, slots, token);
        if (status == UE_OK)
            status = ue_settle(session, ranked[k].field, ranked[k].score);
    }
    return status;
}

static ue_status restore_open(ue_session *session, const uint32_t *slots, float *token) {
    ue_status status = UE_OK;
    const size_t fields = session->grid.field_rows * session->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK; field++)
        if (session->fields[field].taken && !complete(session, field))
            status = reopen(session, field, slots, token);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static ue_status replay(ue_session *session, uint32_t *slots, struct ue_ranked *ranked,
                        float *token) {
    if (!read_entries(session, slots))
        return ue_refuse(UE_BAD_FILE, "%s: cannot be read", session->options.spool);
    ue_status status = restore_complete(session, ranked, rank(session, ranked), slots, token);
    if (status == UE_OK)
        status = restore_open(session, slots, token);
    if (status == UE_OK && !ue_spool_sweep(&session->spool))
        status = UE_NO_MEMORY;
    return status == UE_NO_MEMORY ? ue_refuse(status, "not enough memory for what the spool holds")
                                  : status;
}

ue_status ue_session_replay(ue_session *session) {
    const size_t fields = session->grid.field_rows * session->grid.field_cols;
    uint32_t *slots = calloc(session->cells, sizeof *slots);
    struct ue_ranked *ranked = malloc(fields * sizeof *ranked);
    float *token = malloc(session->options.token_width * sizeof *token);
    const ue_status status =
        slots && ranked && token
            ? replay(session, slots, ranked, token)
            : ue_refuse(UE_NO_MEMORY, "not enough memory for what the spool holds");
    free(slots);
    free(ranked);
    free(token);
    return status;
}

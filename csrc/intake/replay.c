/*
 * A session goes on from its spool. What came is entered again: of the best complete fields and of
 * the open ones with its tokens or pixels, of the others by their entries alone, as they had been
 * dropped. The result is that of a session that was never interrupted.
 */
#include "state.h"

#include <stdlib.h>

enum { AT_ONCE = 4096 };

/* ---- entries --------------------------------------------------------------------------------- */

static void record(ue_intake *intake, size_t cell, const struct ue_entry *entry) {
    if (entry->status == UE_TILE_UNSEEN)
        return;
    intake->status[cell] = entry->status;
    intake->score[cell] = entry->score;
    intake->cellular[cell] = entry->cellular;
    intake->focus[cell] = entry->focus;
    intake->fields[ue_grid_field(&intake->grid, cell)].taken++;
    intake->seen++;
    if (entry->pushed) {
        intake->scoring_known = true;
        intake->scores_given = entry->given;
    }
}

static bool read_entries(ue_intake *intake, uint32_t *slots) {
    struct ue_entry *entries = malloc(AT_ONCE * sizeof *entries);
    bool done = entries != NULL;
    for (size_t first = 0; done && first < intake->cells; first += AT_ONCE) {
        const size_t left = intake->cells - first, count = left < AT_ONCE ? left : AT_ONCE;
        done = ue_spool_entries(&intake->spool, first, entries, count);
        for (size_t k = 0; done && k < count; k++) {
            record(intake, first + k, &entries[k]);
            slots[first + k] = entries[k].slot;
        }
    }
    free(entries);
    return done;
}

/* ---- tokens and pixels ----------------------------------------------------------------------- */

static bool restore_pixels(ue_intake *intake, uint32_t cell, uint32_t slot) {
    struct ue_crop *crop = ue_crop_new(&intake->crops);
    if (!crop || !ue_spool_pixels(&intake->spool, cell, slot, crop->pixels)) {
        if (crop)
            ue_crop_rest(&intake->crops, crop);
        return false;
    }
    crop->cell = cell;
    ue_hold(intake, crop);
    return true;
}

static ue_status restore(ue_intake *intake, uint32_t cell, uint32_t slot, float *token) {
    if (intake->status[cell] != UE_TILE_ENCODED)
        return UE_OK;
    if (ue_spool_token(&intake->spool, cell, token)) {
        intake->encoded++;
        const ue_status status = ue_tokens_put(&intake->tokens, cell, token);
        if (status != UE_OK && status != UE_NO_MEMORY)
            ue_refuse(status, "%s", ue_aggregator_bag_error(intake->options.bag));
        return status;
    }
    if (restore_pixels(intake, cell, slot))
        return UE_OK;
    int64_t x, y;
    ue_grid_origin(&intake->grid, cell, &x, &y);
    return ue_refuse(UE_BAD_FILE,
                     "%s: holds neither pixels nor token of the tile at level-0 (%lld, %lld); "
                     "remove it and scan the slide again",
                     intake->options.spool, (long long)x, (long long)y);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool complete(const ue_intake *intake, size_t field) {
    const size_t size = ue_field_size(ue_grid_tiles(&intake->grid, field));
    return intake->fields[field].taken == size;
}

static ue_status reopen(ue_intake *intake, size_t field, const uint32_t *slots, float *token) {
    const struct ue_field tiles = ue_grid_tiles(&intake->grid, field);
    ue_status status = UE_OK;
    intake->fields[field].state = UE_FIELD_OPEN;
    intake->open_tiles += intake->fields[field].taken;
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right && status == UE_OK; col++) {
            const size_t cell = row * intake->grid.cols + col;
            status = restore(intake, (uint32_t)cell, slots[cell], token);
        }
    return status;
}

/* The complete fields, the best first. */
static size_t rank(const ue_intake *intake, struct ue_ranked *ranked) {
    size_t count = 0;
    for (size_t field = 0; field < intake->grid.field_rows * intake->grid.field_cols; field++)
        if (complete(intake, field)) {
            const struct ue_ranked one = {ue_field_score(intake, field), (uint32_t)field};
            ranked[count++] = one;
        }
    qsort(ranked, count, sizeof *ranked, ue_by_rank);
    return count;
}

/* Those beyond what is wanted had been dropped, as whatever came later can only drop more. */
static ue_status restore_complete(ue_intake *intake, const struct ue_ranked *ranked, size_t count,
                                  const uint32_t *slots, float *token) {
    ue_status status = UE_OK;
    for (size_t k = 0; k < count && status == UE_OK; k++) {
        if (ue_full(intake)) {
            intake->fields[ranked[k].field].state = UE_FIELD_DROPPED;
            continue;
        }
        status = reopen(intake, ranked[k].field, slots, token);
        if (status == UE_OK)
            status = ue_settle(intake, ranked[k].field, ranked[k].score);
    }
    return status;
}

static ue_status restore_open(ue_intake *intake, const uint32_t *slots, float *token) {
    ue_status status = UE_OK;
    const size_t fields = intake->grid.field_rows * intake->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK; field++)
        if (intake->fields[field].taken && !complete(intake, field))
            status = reopen(intake, field, slots, token);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static ue_status replay(ue_intake *intake, uint32_t *slots, struct ue_ranked *ranked,
                        float *token) {
    if (!read_entries(intake, slots))
        return ue_refuse(UE_BAD_FILE, "%s: cannot be read", intake->options.spool);
    ue_status status = restore_complete(intake, ranked, rank(intake, ranked), slots, token);
    if (status == UE_OK)
        status = restore_open(intake, slots, token);
    if (status == UE_OK && !ue_spool_sweep(&intake->spool))
        status = UE_NO_MEMORY;
    return status == UE_NO_MEMORY ? ue_refuse(status, "not enough memory for what the spool holds")
                                  : status;
}

ue_status ue_intake_replay(ue_intake *intake) {
    const size_t fields = intake->grid.field_rows * intake->grid.field_cols;
    uint32_t *slots = calloc(intake->cells, sizeof *slots);
    struct ue_ranked *ranked = malloc(fields * sizeof *ranked);
    float *token = malloc(intake->options.token_width * sizeof *token);
    const ue_status status =
        slots && ranked && token
            ? replay(intake, slots, ranked, token)
            : ue_refuse(UE_NO_MEMORY, "not enough memory for what the spool holds");
    free(slots);
    free(ranked);
    free(token);
    return status;
}

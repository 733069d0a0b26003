/* Tiles come in: they are measured, recorded once, and their field is settled with its last one. */
#include "state.h"

#include <math.h>
#include <string.h>

/* What is known of a tile when it comes. */
struct arrival {
    size_t cell;
    int64_t x, y;
    ue_tile_status status;
    double score;
    float cellular, focus;
    bool pushed, given; /* with pixels; with a score */
    struct ue_crop *crop;
};

/* ---- pixels ---------------------------------------------------------------------------------- */

/* The middle of a tile, packed. */
static void pack(const ue_session *session, const ue_pixels *from, uint8_t *to) {
    const size_t side = session->options.crop;
    const ptrdiff_t skip = (ptrdiff_t)((session->options.tile - side) / 2);
    const uint8_t *first = from->red + skip * (from->row_stride + from->pixel_stride);
    const bool packed = from->pixel_stride == 3 && from->channel_stride == 1;
    for (size_t y = 0; y < side; y++, to += 3 * side) {
        const uint8_t *row = first + (ptrdiff_t)y * from->row_stride;
        if (packed)
            memcpy(to, row, 3 * side);
        for (size_t x = 0; !packed && x < side; x++, row += from->pixel_stride)
            for (ptrdiff_t c = 0; c < 3; c++)
                to[3 * x + (size_t)c] = row[c * from->channel_stride];
    }
}

/* The variance of the Laplacian: unicas_edge/tiles/quality.py says where it is from. */
static double variance(const ue_measures *sums) {
    const double count = (double)sums->laplacian_count, total = (double)sums->laplacian_sum;
    if (count == 0)
        return 0;
    return ((double)sums->laplacian_squares * count - total * total) / (count * count);
}

static void measure(const ue_session *session, struct arrival *tile) {
    const ue_session_options *options = &session->options;
    const size_t side = options->crop;
    const ue_image image = {tile->crop->pixels, side, side, (ptrdiff_t)(3 * side)};
    ue_measures sums;
    ue_measure(&image, options->cellular_below, options->dark, &sums, NULL);
    const double share =
        ((double)sums.cellular - (double)sums.dark) / ((double)side * (double)side);
    tile->status = share < options->background_share ? UE_TILE_BACKGROUND : UE_TILE_ENCODED;
    tile->cellular = (float)share;
    tile->focus = (float)variance(&sums);
}

/* ---- what is refused, before anything changes ------------------------------------------------ */

static ue_status place(const ue_session *session, struct arrival *tile) {
    const struct ue_grid *grid = &session->grid;
    if (!ue_grid_cell(grid, tile->x, tile->y, &tile->cell))
        return ue_refuse(UE_BAD_TILE,
                         "no tile begins at level-0 (%lld, %lld): tiles lie every %g pixels from "
                         "(0, 0), %zu x %zu of them",
                         (long long)tile->x, (long long)tile->y, grid->step, grid->cols,
                         grid->rows);
    if (!isfinite(tile->score) || tile->score < 0)
        return ue_refuse(UE_BAD_TILE, "a content score must be finite and not negative, not %g",
                         tile->score);
    return UE_OK;
}

static ue_status too_many_open(const ue_session *session, const struct arrival *tile) {
    const size_t field = ue_grid_field(&session->grid, tile->cell);
    const size_t size = ue_field_size(ue_grid_tiles(&session->grid, field));
    if (session->fields[field].taken + 1 == size ||
        session->open_tiles < session->options.most_open)
        return UE_OK;
    return ue_refuse(UE_BAD_TILE,
                     "more than %zu tiles lie in fields that are still incomplete; push tiles in "
                     "scan order, to complete fields of %zu x %zu",
                     session->options.most_open, session->grid.field, session->grid.field);
}

static ue_status admit(const ue_session *session, const struct arrival *tile) {
    if (session->ended)
        return ue_refuse(UE_ENDED, "the session is finished; open a new one for the next slide");
    if (session->status[tile->cell] != UE_TILE_UNSEEN)
        return ue_refuse(UE_BAD_TILE, "the tile at level-0 (%lld, %lld) was pushed twice",
                         (long long)tile->x, (long long)tile->y);
    if (tile->pushed && session->scoring_known && session->scores_given != tile->given)
        return ue_refuse(UE_BAD_TILE, "give a content score with every tile or with none of them");
    return too_many_open(session, tile);
}

/* ---- taking in ------------------------------------------------------------------------------- */

static void record(ue_session *session, const struct arrival *tile) {
    session->status[tile->cell] = (uint8_t)tile->status;
    session->score[tile->cell] = tile->score;
    session->cellular[tile->cell] = tile->cellular;
    session->focus[tile->cell] = tile->focus;
    session->seen++;
    if (tile->pushed) {
        session->scoring_known = true;
        session->scores_given = tile->given;
    }
}

/* Without a limit a wanted tile has nothing to wait for; else it waits for its field. */
void ue_hold(ue_session *session, struct ue_crop *crop) {
    struct ue_field_record *field = &session->fields[ue_grid_field(&session->grid, crop->cell)];
    session->held_count++;
    if (!session->options.max_tiles) {
        ue_queue_add(&session->crops.urgent, crop);
        session->ready_count++;
        return;
    }
    ue_queue_add(&session->crops.open, crop);
    crop->sibling = field->crops;
    field->crops = crop;
}

double ue_field_score(const ue_session *session, size_t field) {
    const struct ue_field tiles = ue_grid_tiles(&session->grid, field);
    double total = 0;
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right; col++)
            total += session->score[row * session->grid.cols + col];
    return total;
}

static ue_status enter(ue_session *session, const struct arrival *tile) {
    const size_t field = ue_grid_field(&session->grid, tile->cell);
    struct ue_field_record *of = &session->fields[field];
    record(session, tile);
    of->state = UE_FIELD_OPEN;
    of->taken++;
    session->open_tiles++;
    if (tile->crop) {
        tile->crop->cell = (uint32_t)tile->cell;
        ue_hold(session, tile->crop);
    }
    const size_t size = ue_field_size(ue_grid_tiles(&session->grid, field));
    const ue_status status =
        of->taken == size ? ue_settle(session, field, ue_field_score(session, field)) : UE_OK;
    ue_wake_all(&session->changed);
    return status;
}

static ue_status keep(ue_session *session, const struct arrival *tile) {
    const struct ue_entry entry = {
        .status = (uint8_t)tile->status,
        .pushed = tile->pushed,
        .given = tile->given,
        .cellular = tile->cellular,
        .focus = tile->focus,
        .score = tile->score,
    };
    const uint8_t *pixels = tile->crop ? tile->crop->pixels : NULL;
    return ue_spool_keep(&session->spool, (uint32_t)tile->cell, entry, pixels);
}

/* All that a tile needs under the lock. Pixels that are not wanted, or of a tile that is refused,
 * are the session's memory again. */
static ue_status take_in(ue_session *session, struct arrival *tile) {
    ue_lock(&session->lock);
    ue_status status = admit(session, tile);
    if (tile->crop && (status != UE_OK || tile->status != UE_TILE_ENCODED)) {
        ue_crop_rest(&session->crops, tile->crop);
        tile->crop = NULL;
    }
    /* Before anything changes: what settles its field must not fail. */
    if (status == UE_OK && (!ue_heap_reserve(&session->kept) || !ue_heap_reserve(&session->ready)))
        status = ue_refuse(UE_NO_MEMORY, "not enough memory");
    if (status == UE_OK)
        status = keep(session, tile);
    if (status == UE_OK)
        status = enter(session, tile);
    else if (tile->crop)
        ue_crop_rest(&session->crops, tile->crop);
    ue_unlock(&session->lock);
    return status;
}

static ue_status begin(const ue_session *session, struct arrival *tile) {
    const ue_status status = ue_session_check(session);
    return status == UE_OK ? place(session, tile) : status;
}

ue_status ue_session_push(ue_session *session, const ue_pixels *pixels, int64_t x, int64_t y,
                          double score, bool given) {
    struct arrival tile = {.x = x, .y = y, .score = score, .pushed = true, .given = given};
    ue_status status = begin(session, &tile);
    if (status != UE_OK)
        return status;
    if (!pixels || !pixels->red)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    ue_lock(&session->lock);
    tile.crop = ue_crop_new(&session->crops);
    ue_unlock(&session->lock);
    if (!tile.crop)
        return ue_refuse(UE_NO_MEMORY, "not enough memory");
    pack(session, pixels, tile.crop->pixels);
    measure(session, &tile);
    return take_in(session, &tile);
}

ue_status ue_session_skip(ue_session *session, int64_t x, int64_t y) {
    struct arrival tile = {.x = x, .y = y, .status = UE_TILE_SPARSE};
    const ue_status status = begin(session, &tile);
    return status == UE_OK ? take_in(session, &tile) : status;
}

ue_status ue_session_fail(ue_session *session, int64_t x, int64_t y, double score) {
    struct arrival tile = {.x = x, .y = y, .status = UE_TILE_FAILED, .score = score};
    const ue_status status = begin(session, &tile);
    return status == UE_OK ? take_in(session, &tile) : status;
}

ue_status ue_session_came(ue_session *session, int64_t x, int64_t y) {
    struct arrival tile = {.x = x, .y = y};
    ue_status status = begin(session, &tile);
    if (status != UE_OK)
        return status;
    ue_lock(&session->lock);
    if (session->status[tile.cell] == UE_TILE_UNSEEN)
        status = ue_refuse(UE_BUSY, "the tile did not come yet");
    ue_unlock(&session->lock);
    return status;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Fields that are as complete as they will be, in whatever order. */
static ue_status settle_open(ue_session *session) {
    ue_status status = UE_OK;
    const size_t fields = session->grid.field_rows * session->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK; field++)
        if (session->fields[field].state == UE_FIELD_OPEN)
            status = ue_settle(session, field, ue_field_score(session, field));
    return status;
}

/*
 * Where too few tiles came, fields nobody told of are planned too: they count as unread. They rank
 * behind every field of which a tile came, even one that scored 0.
 */
static ue_status settle_untouched(ue_session *session) {
    ue_status status = UE_OK;
    const size_t fields = session->grid.field_rows * session->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK && !ue_full(session); field++)
        if (session->fields[field].state == UE_FIELD_UNTOUCHED)
            status = ue_settle(session, field, -1);
    return status;
}

ue_status ue_session_end(ue_session *session) {
    ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    ue_lock(&session->lock);
    if (session->ended)
        status = ue_refuse(UE_ENDED, "the session is finished; open a new one for the next slide");
    else {
        session->ended = true;
        status = settle_open(session);
        if (status == UE_OK)
            status = settle_untouched(session);
    }
    ue_wake_all(&session->changed);
    ue_unlock(&session->lock);
    return status;
}

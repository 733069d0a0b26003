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
static void pack(const ue_intake *intake, const ue_pixels *from, uint8_t *to) {
    const size_t side = intake->options.crop;
    const ptrdiff_t skip = (ptrdiff_t)((intake->options.tile - side) / 2);
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

static void measure(const ue_intake *intake, struct arrival *tile) {
    const ue_intake_options *options = &intake->options;
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

static ue_status place(const ue_intake *intake, struct arrival *tile) {
    const struct ue_grid *grid = &intake->grid;
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

static ue_status too_many_open(const ue_intake *intake, const struct arrival *tile) {
    const size_t field = ue_grid_field(&intake->grid, tile->cell);
    const size_t size = ue_field_size(ue_grid_tiles(&intake->grid, field));
    if (intake->fields[field].taken + 1 == size || intake->open_tiles < intake->options.most_open)
        return UE_OK;
    return ue_refuse(UE_BAD_TILE,
                     "more than %zu tiles lie in fields that are still incomplete; push tiles in "
                     "scan order, to complete fields of %zu x %zu",
                     intake->options.most_open, intake->grid.field, intake->grid.field);
}

static ue_status admit(const ue_intake *intake, const struct arrival *tile) {
    if (intake->ended)
        return ue_refuse(UE_ENDED, "the session is finished; open a new one for the next slide");
    if (intake->status[tile->cell] != UE_TILE_UNSEEN)
        return ue_refuse(UE_BAD_TILE, "the tile at level-0 (%lld, %lld) was pushed twice",
                         (long long)tile->x, (long long)tile->y);
    if (tile->pushed && intake->scoring_known && intake->scores_given != tile->given)
        return ue_refuse(UE_BAD_TILE, "give a content score with every tile or with none of them");
    return too_many_open(intake, tile);
}

/* ---- taking in ------------------------------------------------------------------------------- */

static void record(ue_intake *intake, const struct arrival *tile) {
    intake->status[tile->cell] = (uint8_t)tile->status;
    intake->score[tile->cell] = tile->score;
    intake->cellular[tile->cell] = tile->cellular;
    intake->focus[tile->cell] = tile->focus;
    intake->seen++;
    if (tile->pushed) {
        intake->scoring_known = true;
        intake->scores_given = tile->given;
    }
}

/* Without a limit a wanted tile has nothing to wait for; else it waits for its field. */
void ue_hold(ue_intake *intake, struct ue_crop *crop) {
    struct ue_field_record *field = &intake->fields[ue_grid_field(&intake->grid, crop->cell)];
    intake->held_count++;
    if (!intake->options.max_tiles) {
        ue_queue_add(&intake->crops.urgent, crop);
        intake->ready_count++;
        return;
    }
    ue_queue_add(&intake->crops.open, crop);
    crop->sibling = field->crops;
    field->crops = crop;
}

double ue_field_score(const ue_intake *intake, size_t field) {
    const struct ue_field tiles = ue_grid_tiles(&intake->grid, field);
    double total = 0;
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right; col++)
            total += intake->score[row * intake->grid.cols + col];
    return total;
}

static ue_status enter(ue_intake *intake, const struct arrival *tile) {
    const size_t field = ue_grid_field(&intake->grid, tile->cell);
    struct ue_field_record *of = &intake->fields[field];
    record(intake, tile);
    of->state = UE_FIELD_OPEN;
    of->taken++;
    intake->open_tiles++;
    if (tile->crop) {
        tile->crop->cell = (uint32_t)tile->cell;
        ue_hold(intake, tile->crop);
    }
    const size_t size = ue_field_size(ue_grid_tiles(&intake->grid, field));
    const ue_status status =
        of->taken == size ? ue_settle(intake, field, ue_field_score(intake, field)) : UE_OK;
    ue_wake_all(&intake->changed);
    return status;
}

static ue_status keep(ue_intake *intake, const struct arrival *tile) {
    const struct ue_entry entry = {
        .status = (uint8_t)tile->status,
        .pushed = tile->pushed,
        .given = tile->given,
        .cellular = tile->cellular,
        .focus = tile->focus,
        .score = tile->score,
    };
    const uint8_t *pixels = tile->crop ? tile->crop->pixels : NULL;
    return ue_spool_keep(&intake->spool, (uint32_t)tile->cell, entry, pixels);
}

/* All that a tile needs under the lock. Pixels that are not wanted, or of a tile that is refused,
 * are the session's memory again. */
static ue_status take_in(ue_intake *intake, struct arrival *tile) {
    ue_lock(&intake->lock);
    ue_status status = admit(intake, tile);
    if (tile->crop && (status != UE_OK || tile->status != UE_TILE_ENCODED)) {
        ue_crop_rest(&intake->crops, tile->crop);
        tile->crop = NULL;
    }
    /* Before anything changes: what settles its field must not fail. */
    if (status == UE_OK && (!ue_heap_reserve(&intake->kept) || !ue_heap_reserve(&intake->ready)))
        status = ue_refuse(UE_NO_MEMORY, "not enough memory");
    if (status == UE_OK)
        status = keep(intake, tile);
    if (status == UE_OK)
        status = enter(intake, tile);
    else if (tile->crop)
        ue_crop_rest(&intake->crops, tile->crop);
    ue_unlock(&intake->lock);
    return status;
}

static ue_status begin(const ue_intake *intake, struct arrival *tile) {
    const ue_status status = ue_intake_check(intake);
    return status == UE_OK ? place(intake, tile) : status;
}

ue_status ue_intake_push(ue_intake *intake, const ue_pixels *pixels, int64_t x, int64_t y,
                         double score, bool given) {
    struct arrival tile = {.x = x, .y = y, .score = score, .pushed = true, .given = given};
    ue_status status = begin(intake, &tile);
    if (status != UE_OK)
        return status;
    if (!pixels || !pixels->red)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    ue_lock(&intake->lock);
    tile.crop = ue_crop_new(&intake->crops);
    ue_unlock(&intake->lock);
    if (!tile.crop)
        return ue_refuse(UE_NO_MEMORY, "not enough memory");
    pack(intake, pixels, tile.crop->pixels);
    measure(intake, &tile);
    return take_in(intake, &tile);
}

ue_status ue_intake_skip(ue_intake *intake, int64_t x, int64_t y) {
    struct arrival tile = {.x = x, .y = y, .status = UE_TILE_SPARSE};
    const ue_status status = begin(intake, &tile);
    return status == UE_OK ? take_in(intake, &tile) : status;
}

ue_status ue_intake_fail(ue_intake *intake, int64_t x, int64_t y, double score) {
    struct arrival tile = {.x = x, .y = y, .status = UE_TILE_FAILED, .score = score};
    const ue_status status = begin(intake, &tile);
    return status == UE_OK ? take_in(intake, &tile) : status;
}

ue_status ue_intake_came(ue_intake *intake, int64_t x, int64_t y) {
    struct arrival tile = {.x = x, .y = y};
    ue_status status = begin(intake, &tile);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    if (intake->status[tile.cell] == UE_TILE_UNSEEN)
        status = ue_refuse(UE_BUSY, "the tile did not come yet");
    ue_unlock(&intake->lock);
    return status;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Fields that are as complete as they will be, in whatever order. */
static ue_status settle_open(ue_intake *intake) {
    ue_status status = UE_OK;
    const size_t fields = intake->grid.field_rows * intake->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK; field++)
        if (intake->fields[field].state == UE_FIELD_OPEN)
            status = ue_settle(intake, field, ue_field_score(intake, field));
    return status;
}

/*
 * Where too few tiles came, fields nobody told of are planned too: they count as unread. They rank
 * behind every field of which a tile came, even one that scored 0.
 */
static ue_status settle_untouched(ue_intake *intake) {
    ue_status status = UE_OK;
    const size_t fields = intake->grid.field_rows * intake->grid.field_cols;
    for (size_t field = 0; field < fields && status == UE_OK && !ue_full(intake); field++)
        if (intake->fields[field].state == UE_FIELD_UNTOUCHED)
            status = ue_settle(intake, field, -1);
    return status;
}

ue_status ue_intake_end(ue_intake *intake) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    if (intake->ended)
        status = ue_refuse(UE_ENDED, "the session is finished; open a new one for the next slide");
    else {
        status = settle_open(intake);
        if (status == UE_OK)
            status = settle_untouched(intake);
        intake->ended = status == UE_OK; /* else it may be tried again */
    }
    ue_wake_all(&intake->changed);
    ue_unlock(&intake->lock);
    return status;
}

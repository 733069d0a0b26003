/* What a session comes to: the plan, its tokens, and what is known of every tile. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

/* The kept fields in canonical order; NULL where memory runs out. */
static struct ue_ranked *ranked(const ue_intake *intake) {
    const size_t count = intake->kept.count;
    struct ue_ranked *fields = malloc((count + 1) * sizeof *fields);
    if (fields && count) {
        memcpy(fields, intake->kept.entries, count * sizeof *fields);
        qsort(fields, count, sizeof *fields, ue_by_rank);
    }
    return fields;
}

static size_t list_tiles(const ue_intake *intake, const struct ue_ranked *fields, uint32_t *cells,
                         size_t capacity) {
    size_t count = 0;
    for (size_t k = 0; k < intake->kept.count; k++) {
        const struct ue_field tiles = ue_grid_tiles(&intake->grid, fields[k].field);
        for (size_t row = tiles.top; row < tiles.bottom; row++)
            for (size_t col = tiles.left; col < tiles.right && count < capacity; col++)
                cells[count++] = (uint32_t)(row * intake->grid.cols + col);
    }
    return count;
}

/* At most max_tiles of them. */
static size_t most_of(const ue_intake *intake, size_t room) {
    const size_t most = intake->options.max_tiles;
    return most && most < room ? most : room;
}

ue_status ue_intake_order(ue_intake *intake, uint32_t *cells, size_t capacity, size_t *count) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    struct ue_ranked *fields = ranked(intake);
    if (!intake->ended)
        status = ue_refuse(UE_BUSY, "end the session first");
    else if (!fields)
        status = ue_refuse(UE_NO_MEMORY, "not enough memory");
    else
        *count = list_tiles(intake, fields, cells, most_of(intake, capacity));
    ue_unlock(&intake->lock);
    free(fields);
    return status;
}

/* Those with a token among the first max_tiles of the kept fields; only counted beyond `room`. */
static size_t list_tokens(const ue_intake *intake, const struct ue_ranked *fields, uint32_t *cells,
                          float *tokens, size_t room) {
    const size_t width = intake->options.token_width;
    size_t count = 0, left = most_of(intake, intake->cells);
    for (size_t k = 0; k < intake->kept.count; k++) {
        const struct ue_field tiles = ue_grid_tiles(&intake->grid, fields[k].field);
        for (size_t row = tiles.top; row < tiles.bottom; row++)
            for (size_t col = tiles.left; col < tiles.right && left; col++, left--) {
                const uint32_t cell = (uint32_t)(row * intake->grid.cols + col);
                if (!ue_tokens_has(&intake->tokens, cell) || count++ >= room)
                    continue;
                cells[count - 1] = cell;
                memcpy(tokens + (count - 1) * width, ue_tokens_of(&intake->tokens, cell),
                       width * sizeof *tokens);
            }
    }
    return count;
}

ue_status ue_intake_so_far(ue_intake *intake, uint32_t *cells, float *tokens, size_t room,
                           size_t *count) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    struct ue_ranked *fields = ranked(intake);
    if (fields)
        *count = list_tokens(intake, fields, cells, tokens, room);
    else
        status = ue_refuse(UE_NO_MEMORY, "not enough memory");
    ue_unlock(&intake->lock);
    free(fields);
    return status;
}

static bool listed(const ue_intake *intake, const uint32_t *cells, size_t count) {
    for (size_t k = 0; k < count; k++)
        if (cells[k] >= intake->cells)
            return false;
    return true;
}

/* Whether every one of the cells has a token. */
static bool have_tokens(const ue_intake *intake, const uint32_t *cells, size_t count) {
    if (!listed(intake, cells, count))
        return false;
    for (size_t k = 0; k < count; k++)
        if (!ue_tokens_has(&intake->tokens, cells[k]))
            return false;
    return true;
}

ue_status ue_intake_keep(ue_intake *intake, const uint32_t *cells, size_t count, uint8_t *has) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    if (!listed(intake, cells, count))
        return ue_refuse(UE_BAD_SIZE, "a cell is off the grid");
    uint8_t *wanted = calloc(intake->cells, 1);
    if (!wanted)
        return ue_refuse(UE_NO_MEMORY, "not enough memory");
    ue_lock(&intake->lock);
    for (size_t k = 0; k < count; k++) {
        wanted[cells[k]] = 1;
        has[k] = ue_tokens_has(&intake->tokens, cells[k]);
    }
    for (size_t cell = 0; cell < intake->cells; cell++)
        if (!wanted[cell])
            ue_tokens_drop(&intake->tokens, (uint32_t)cell);
    ue_unlock(&intake->lock);
    free(wanted);
    return UE_OK;
}

ue_status ue_intake_tokens(ue_intake *intake, const uint32_t *cells, size_t count, float *tokens) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    const size_t width = intake->options.token_width;
    ue_lock(&intake->lock);
    if (!have_tokens(intake, cells, count))
        status = ue_refuse(UE_BAD_TOKENS, "a tile has no token");
    for (size_t k = 0; k < count && status == UE_OK; k++)
        memcpy(tokens + k * width, ue_tokens_of(&intake->tokens, cells[k]), width * sizeof *tokens);
    ue_unlock(&intake->lock);
    return status;
}

ue_status ue_intake_places(ue_intake *intake, const uint32_t *cells, size_t count, size_t *places) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    if (!have_tokens(intake, cells, count))
        status = ue_refuse(UE_BAD_TOKENS, "a tile has no token");
    if (status == UE_OK && (status = ue_tokens_embed(&intake->tokens)) != UE_OK)
        ue_refuse(status, "%s", ue_aggregator_bag_error(intake->options.bag));
    for (size_t k = 0; k < count && status == UE_OK; k++) {
        const int32_t place = ue_tokens_place(&intake->tokens, cells[k]);
        if (place == UE_NO_PLACE)
            status = ue_refuse(UE_BAD_TOKENS, "more tokens than the bag holds");
        else
            places[k] = (size_t)place;
    }
    ue_unlock(&intake->lock);
    return status;
}

ue_status ue_intake_records(ue_intake *intake, uint8_t *status, double *score, float *cellular,
                            float *focus) {
    const ue_status checked = ue_intake_check(intake);
    if (checked != UE_OK)
        return checked;
    ue_lock(&intake->lock);
    memcpy(status, intake->status, intake->cells * sizeof *status);
    memcpy(score, intake->score, intake->cells * sizeof *score);
    memcpy(cellular, intake->cellular, intake->cells * sizeof *cellular);
    memcpy(focus, intake->focus, intake->cells * sizeof *focus);
    ue_unlock(&intake->lock);
    return UE_OK;
}

ue_status ue_intake_progress_of(ue_intake *intake, ue_session_progress *progress) {
    const ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    ue_lock(&intake->lock);
    progress->seen = intake->seen;
    progress->held = intake->held_count;
    progress->ready = intake->ready_count;
    progress->encoding = intake->encoding;
    progress->encoded = intake->encoded;
    ue_unlock(&intake->lock);
    return UE_OK;
}

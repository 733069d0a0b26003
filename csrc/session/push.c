/* Tiles come, or what is to be said instead of them. */
#include "state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "system/clock.h"

enum {
    MOST_CAUSES = 10000, /* that are kept word for word, */
    LONGEST_CAUSE = 500  /* each up to so many bytes */
};
static const size_t most_jpeg = (size_t)64 << 20;

/* ---- pushing --------------------------------------------------------------------------------- */

/* The bytes that the tile's luma takes as a JPEG. */
static ue_status measured_score(const ue_session *session, const ue_pixels *pixels, double *score) {
    const struct ue_tile_spec *tile = &session->screener->bundle->manifest.tile;
    const size_t crop = (size_t)tile->crop_px;
    const ptrdiff_t from = (ptrdiff_t)((tile->size_px - tile->crop_px) / 2);
    ue_pixels seen = *pixels;
    seen.red += from * (pixels->row_stride + pixels->pixel_stride);
    const ue_status status = ue_content_score(&seen, crop, crop, score, NULL);
    return status ? ue_refuse(status, "%s", ue_status_text(status)) : UE_OK;
}

ue_status ue_session_push(ue_session *session, const ue_pixels *pixels, int64_t x, int64_t y,
                          double score, uint32_t milliseconds) {
    ue_status status = ue_session_check(session);
    if (status)
        return status;
    if (!pixels || !pixels->red)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    const bool given = score != UE_NO_SCORE;
    status = ue_session_wait(session, milliseconds, ue_intake_room);
    if (!status && !given)
        status = measured_score(session, pixels, &score);
    if (!status)
        status = ue_intake_push(session->intake, pixels, x, y, score, given);
    return ue_session_why(session, status);
}

/* ---- what is not pushed ---------------------------------------------------------------------- */

ue_status ue_session_skip(ue_session *session, int64_t x, int64_t y) {
    const ue_status status = ue_session_check(session);
    return status ? status : ue_session_why(session, ue_intake_skip(session->intake, x, y));
}

ue_status ue_session_came(ue_session *session, int64_t x, int64_t y) {
    const ue_status status = ue_session_check(session);
    return status ? status : ue_intake_came(session->intake, x, y);
}

/* Under the lock. What does not fit is counted all the same, by the intake. */
static void keep_cause(ue_session *session, size_t cell, const char *cause) {
    if (session->causes_count == session->causes_room) {
        const size_t room = 2 * session->causes_room + 16;
        void *more = realloc(session->causes, room * sizeof *session->causes);
        if (!more)
            return;
        session->causes = more;
        session->causes_room = room;
    }
    const size_t whole = strlen(cause), length = whole < LONGEST_CAUSE ? whole : LONGEST_CAUSE;
    char *text = calloc(length + 1, 1);
    if (!text)
        return;
    memcpy(text, cause, length);
    session->causes[session->causes_count++] = (struct ue_cause){(uint32_t)cell, text};
}

static ue_status fail(ue_session *session, int64_t x, int64_t y, const char *cause, double score) {
    size_t cell;
    ue_status status = ue_session_check(session);
    if (!status)
        status = ue_intake_fail(session->intake, x, y, score);
    if (status || !ue_grid_cell(&session->grid, x, y, &cell))
        return ue_session_why(session, status);
    ue_lock(&session->lock);
    if (session->causes_count < MOST_CAUSES)
        keep_cause(session, cell, cause ? cause : "it could not be read");
    ue_unlock(&session->lock);
    return UE_OK;
}

ue_status ue_session_fail(ue_session *session, int64_t x, int64_t y, const char *cause) {
    return fail(session, x, y, cause, 0);
}

ue_status ue_session_push_jpeg(ue_session *session, const void *bytes, size_t size, int64_t x,
                               int64_t y, uint32_t milliseconds) {
    ue_status status = ue_session_check(session);
    if (status)
        return status;
    if (!bytes || !session->options.decode)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL, or the session has no decoder");
    if (!size || size > most_jpeg)
        return ue_refuse(UE_BAD_SIZE, "a tile of %zu bytes is not possible", size);
    status =
        ue_session_wait(session, milliseconds, ue_intake_room); /* before it is decoded in vain */
    if (!status && ue_intake_came(session->intake, x, y) == UE_OK)
        status = ue_refuse(UE_BAD_TILE, "the tile at (%lld, %lld) came before", (long long)x,
                           (long long)y);
    if (status)
        return status;
    const size_t side = (size_t)session->screener->bundle->manifest.tile.size_px;
    uint8_t *rgb = calloc(side * side, 3);
    if (!rgb)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for a tile");
    const ue_pixels pixels = {rgb, (ptrdiff_t)(3 * side), 3, 1};
    if (session->options.decode(session->options.decoder, bytes, size, rgb, side))
        status = fail(session, x, y, "its JPEG cannot be decoded", (double)size);
    else
        status = ue_session_push(session, &pixels, x, y, (double)size, milliseconds);
    free(rgb);
    return status;
}

/* ---- where and how far ----------------------------------------------------------------------- */

double ue_session_step(const ue_session *session) {
    return session ? session->grid.step : NAN;
}

ue_status ue_session_grid(const ue_session *session, size_t *rows, size_t *cols) {
    if (!session)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (rows)
        *rows = session->grid.rows;
    if (cols)
        *cols = session->grid.cols;
    return UE_OK;
}

ue_status ue_session_origin(const ue_session *session, size_t row, size_t col, int64_t *x,
                            int64_t *y) {
    if (!session || !x || !y)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    if (row >= session->grid.rows || col >= session->grid.cols)
        return ue_refuse(UE_BAD_SIZE, "the grid has %zu rows and %zu columns", session->grid.rows,
                         session->grid.cols);
    ue_grid_origin(&session->grid, row * session->grid.cols + col, x, y);
    return UE_OK;
}

ue_status ue_session_progress_of(ue_session *session, ue_session_progress *progress) {
    const ue_status status = ue_session_check(session);
    if (status)
        return status;
    if (!progress)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    return ue_intake_progress_of(session->intake, progress);
}

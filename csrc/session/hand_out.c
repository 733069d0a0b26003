/* Tiles go out to be encoded, the best first, and their tokens come back. */
#include "state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The crop that comes next, NULL for none; those of fields that were dropped go to rest. */
static struct ue_crop *next_urgent(ue_session *session) {
    struct ue_crop *crop;
    while ((crop = session->crops.urgent.first)) {
        ue_queue_remove(&session->crops.urgent, crop);
        session->ready_count--;
        session->held_count--;
        const size_t field = ue_grid_field(&session->grid, crop->cell);
        if (session->fields[field].state != UE_FIELD_DROPPED)
            return crop;
        ue_spool_release(&session->spool, crop->cell);
        ue_crop_rest(&session->crops, crop);
    }
    return NULL;
}

static struct ue_crop *next_ranked(ue_session *session) {
    while (session->ready.count) {
        struct ue_field_record *best = &session->fields[session->ready.entries[0].field];
        struct ue_crop *crop = best->state == UE_FIELD_KEPT ? best->crops : NULL;
        if (crop) {
            best->crops = crop->sibling;
            session->ready_count--;
            session->held_count--;
            return crop;
        }
        ue_heap_pop(&session->ready);
    }
    return NULL;
}

/* At most a batch of crops, linked by sibling in their order. */
static size_t take(ue_session *session, uint32_t *cells, struct ue_crop **first) {
    size_t count = 0;
    for (struct ue_crop **last = first, *crop; count < session->options.batch; count++) {
        crop = next_urgent(session);
        if (!crop)
            crop = next_ranked(session);
        *last = crop;
        if (!crop)
            break;
        crop->sibling = NULL;
        last = &crop->sibling;
        cells[count] = crop->cell;
    }
    session->encoding += count;
    return count;
}

/* A whole batch, or what there is where no more will come or memory is full. */
static bool worth_taking(const ue_session *session) {
    return session->ready_count >= session->options.batch ||
           (session->ready_count && (session->ended || ue_crowded(session)));
}

static void normalise(const ue_session *session, struct ue_crop *crop, char *planes) {
    const size_t side = session->options.crop, plane = side * side;
    static const size_t sizes[] = {[UE_FLOAT32] = 4, [UE_FLOAT16] = 2, [UE_UINT8] = 1};
    for (; crop; crop = crop->sibling, planes += 3 * plane * sizes[session->options.dtype]) {
        const ue_image image = {crop->pixels, side, side, (ptrdiff_t)(3 * side)};
        ue_normalise(&image, session->options.affine, session->options.dtype, planes, plane, NULL);
    }
}

static void rest_all(ue_session *session, struct ue_crop *crop) {
    ue_lock(&session->lock);
    while (crop) {
        struct ue_crop *next = crop->sibling;
        ue_crop_rest(&session->crops, crop);
        crop = next;
    }
    ue_unlock(&session->lock);
}

ue_status ue_session_take(ue_session *session, void *planes, uint32_t *cells, size_t *count,
                          unsigned milliseconds) {
    ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    struct ue_crop *first = NULL;
    ue_lock(&session->lock);
    if (!worth_taking(session) && !session->cancelled)
        ue_wait_for(&session->changed, &session->lock, milliseconds);
    const bool changes = worth_taking(session) && !session->cancelled;
    *count = changes ? take(session, cells, &first) : 0;
    if (!*count)
        status = session->cancelled || (session->ended && !session->encoding)
                     ? ue_refuse(UE_ENDED, "there is nothing left to encode")
                     : ue_refuse(UE_BUSY, "nothing to encode yet");
    if (changes) /* else takers that find nothing would wake each other for ever */
        ue_wake_all(&session->changed);
    ue_unlock(&session->lock);
    normalise(session, first, planes);
    rest_all(session, first);
    return status;
}

static bool all_finite(const float *token, size_t width) {
    for (size_t k = 0; k < width; k++)
        if (!isfinite(token[k]))
            return false;
    return true;
}

/* A token is kept while its field is open or among the best. */
static ue_status put(ue_session *session, uint32_t cell, const float *token) {
    const uint8_t state = session->fields[ue_grid_field(&session->grid, cell)].state;
    if (state == UE_FIELD_DROPPED) {
        ue_spool_release(&session->spool, cell);
        return UE_OK;
    }
    if (ue_tokens_has(&session->tokens, cell))
        return ue_refuse(UE_BAD_TOKENS, "a tile's token was delivered twice");
    ue_spool_encoded(&session->spool, cell, token);
    const ue_status status = ue_tokens_put(&session->tokens, cell, token);
    if (status == UE_NO_MEMORY)
        return ue_refuse(status, "not enough memory");
    if (status != UE_OK)
        return ue_refuse(status, "%s", ue_aggregator_bag_error(session->options.bag));
    return UE_OK;
}

ue_status ue_session_deliver(ue_session *session, const uint32_t *cells, size_t count,
                             const float *tokens, size_t stride, size_t *bad) {
    ue_status status = ue_session_check(session);
    if (status != UE_OK)
        return status;
    *bad = count;
    for (size_t k = 0; k < count && *bad == count; k++)
        if (cells[k] >= session->cells ||
            !all_finite(tokens + k * stride, session->options.token_width))
            *bad = k;
    if (*bad < count)
        return ue_refuse(UE_BAD_TOKENS, "a token is not finite");
    ue_lock(&session->lock);
    if (count > session->encoding)
        status = ue_refuse(UE_BAD_SIZE, "more tokens than tiles that were taken");
    for (size_t k = 0; k < count && status == UE_OK; k++)
        status = put(session, cells[k], tokens + k * stride);
    if (status == UE_OK) { /* else they stay on their way: nobody may take them for encoded */
        session->encoding -= count;
        session->encoded += count;
    }
    ue_wake_all(&session->changed);
    ue_unlock(&session->lock);
    return status;
}

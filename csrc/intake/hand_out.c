/* Tiles go out to be encoded, the best first, and their tokens come back. */
#include "state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The crop that comes next, NULL for none; those of fields that were dropped go to rest. */
static struct ue_crop *next_urgent(ue_intake *intake) {
    struct ue_crop *crop;
    while ((crop = intake->crops.urgent.first)) {
        ue_queue_remove(&intake->crops.urgent, crop);
        intake->ready_count--;
        intake->held_count--;
        const size_t field = ue_grid_field(&intake->grid, crop->cell);
        if (intake->fields[field].state != UE_FIELD_DROPPED)
            return crop;
        ue_spool_release(&intake->spool, crop->cell);
        ue_crop_rest(&intake->crops, crop);
    }
    return NULL;
}

static struct ue_crop *next_ranked(ue_intake *intake) {
    while (intake->ready.count) {
        struct ue_field_record *best = &intake->fields[intake->ready.entries[0].field];
        struct ue_crop *crop = best->state == UE_FIELD_KEPT ? best->crops : NULL;
        if (crop) {
            best->crops = crop->sibling;
            intake->ready_count--;
            intake->held_count--;
            return crop;
        }
        ue_heap_pop(&intake->ready);
    }
    return NULL;
}

/* At most a batch of crops, linked by sibling in their order. */
static size_t take(ue_intake *intake, uint32_t *cells, struct ue_crop **first) {
    size_t count = 0;
    for (struct ue_crop **last = first, *crop; count < intake->options.batch; count++) {
        crop = next_urgent(intake);
        if (!crop)
            crop = next_ranked(intake);
        *last = crop;
        if (!crop)
            break;
        crop->sibling = NULL;
        last = &crop->sibling;
        cells[count] = crop->cell;
    }
    intake->encoding += count;
    return count;
}

/* A whole batch, or what there is where no more will come or memory is full. */
static bool worth_taking(const ue_intake *intake) {
    return intake->ready_count >= intake->options.batch ||
           (intake->ready_count && (intake->ended || ue_crowded(intake)));
}

static void normalise(const ue_intake *intake, struct ue_crop *crop, char *planes) {
    const size_t side = intake->options.crop, plane = side * side;
    static const size_t sizes[] = {[UE_FLOAT32] = 4, [UE_FLOAT16] = 2, [UE_UINT8] = 1};
    for (; crop; crop = crop->sibling, planes += 3 * plane * sizes[intake->options.dtype]) {
        const ue_image image = {crop->pixels, side, side, (ptrdiff_t)(3 * side)};
        ue_normalise(&image, intake->options.affine, intake->options.dtype, planes, plane, NULL);
    }
}

static void rest_all(ue_intake *intake, struct ue_crop *crop) {
    ue_lock(&intake->lock);
    while (crop) {
        struct ue_crop *next = crop->sibling;
        ue_crop_rest(&intake->crops, crop);
        crop = next;
    }
    ue_unlock(&intake->lock);
}

ue_status ue_intake_take(ue_intake *intake, void *planes, uint32_t *cells, size_t *count,
                         unsigned milliseconds) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    struct ue_crop *first = NULL;
    ue_lock(&intake->lock);
    if (!worth_taking(intake) && !intake->cancelled)
        ue_wait_for(&intake->changed, &intake->lock, milliseconds);
    const bool changes = worth_taking(intake) && !intake->cancelled;
    *count = changes ? take(intake, cells, &first) : 0;
    if (!*count)
        status = intake->cancelled || (intake->ended && !intake->encoding)
                     ? ue_refuse(UE_ENDED, "there is nothing left to encode")
                     : ue_refuse(UE_BUSY, "nothing to encode yet");
    if (changes) /* else takers that find nothing would wake each other for ever */
        ue_wake_all(&intake->changed);
    ue_unlock(&intake->lock);
    normalise(intake, first, planes);
    rest_all(intake, first);
    return status;
}

static bool all_finite(const float *token, size_t width) {
    for (size_t k = 0; k < width; k++)
        if (!isfinite(token[k]))
            return false;
    return true;
}

/* A token is kept while its field is open or among the best. */
static ue_status put(ue_intake *intake, uint32_t cell, const float *token) {
    const uint8_t state = intake->fields[ue_grid_field(&intake->grid, cell)].state;
    if (state == UE_FIELD_DROPPED) {
        ue_spool_release(&intake->spool, cell);
        return UE_OK;
    }
    if (ue_tokens_has(&intake->tokens, cell))
        return ue_refuse(UE_BAD_TOKENS, "a tile's token was delivered twice");
    ue_spool_encoded(&intake->spool, cell, token);
    const ue_status status = ue_tokens_put(&intake->tokens, cell, token);
    if (status == UE_NO_MEMORY)
        return ue_refuse(status, "not enough memory");
    if (status != UE_OK)
        return ue_refuse(status, "%s", ue_aggregator_bag_error(intake->options.bag));
    return UE_OK;
}

ue_status ue_intake_deliver(ue_intake *intake, const uint32_t *cells, size_t count,
                            const float *tokens, size_t stride, size_t *bad) {
    ue_status status = ue_intake_check(intake);
    if (status != UE_OK)
        return status;
    *bad = count;
    for (size_t k = 0; k < count && *bad == count; k++)
        if (cells[k] >= intake->cells ||
            !all_finite(tokens + k * stride, intake->options.token_width))
            *bad = k;
    if (*bad < count)
        return ue_refuse(UE_BAD_TOKENS, "a token is not finite");
    ue_lock(&intake->lock);
    if (count > intake->encoding)
        status = ue_refuse(UE_BAD_SIZE, "more tokens than tiles that were taken");
    for (size_t k = 0; k < count && status == UE_OK; k++)
        status = put(intake, cells[k], tokens + k * stride);
    if (status == UE_OK) { /* else they stay on their way: nobody may take them for encoded */
        intake->encoding -= count;
        intake->encoded += count;
    }
    ue_wake_all(&intake->changed);
    ue_unlock(&intake->lock);
    return status;
}

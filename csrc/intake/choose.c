/* Which fields are the best so far, and what becomes of the pixels and tokens of the others. */
#include "state.h"

static size_t size_of(const ue_intake *intake, size_t field) {
    return ue_field_size(ue_grid_tiles(&intake->grid, field));
}

bool ue_full(const ue_intake *intake) {
    const size_t most = intake->options.max_tiles;
    return most && intake->kept_tiles >= most;
}

static size_t count_crops(const ue_intake *intake, size_t field) {
    size_t count = 0;
    for (const struct ue_crop *crop = intake->fields[field].crops; crop; crop = crop->sibling)
        count++;
    return count;
}

static void drop_crops(ue_intake *intake, size_t field) {
    struct ue_crop *crop;
    while ((crop = intake->fields[field].crops)) {
        intake->fields[field].crops = crop->sibling;
        ue_spool_release(&intake->spool, crop->cell);
        ue_crop_rest(&intake->crops, crop);
        intake->held_count--;
    }
}

static void drop_tokens(ue_intake *intake, size_t field) {
    const struct ue_field tiles = ue_grid_tiles(&intake->grid, field);
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right; col++)
            ue_tokens_drop(&intake->tokens, (uint32_t)(row * intake->grid.cols + col));
}

/* Drop the worst field; `settling` is not ready yet. Crops in `urgent` are dropped when taken. */
static void drop_worst(ue_intake *intake, size_t settling) {
    const size_t worst = intake->kept.entries[0].field;
    ue_heap_pop(&intake->kept);
    intake->kept_tiles -= size_of(intake, worst);
    intake->fields[worst].state = UE_FIELD_DROPPED;
    if (worst != settling)
        intake->ready_count -= count_crops(intake, worst);
    drop_crops(intake, worst);
    drop_tokens(intake, worst);
}

/* Whether the others would hold enough tiles without the worst field. */
static bool one_too_many(const ue_intake *intake) {
    const size_t most = intake->options.max_tiles;
    if (!most || !intake->kept.count)
        return false;
    return intake->kept_tiles - size_of(intake, intake->kept.entries[0].field) >= most;
}

/* Take a field, as complete as it will be, among the best, and drop those that it pushes out. */
ue_status ue_settle(ue_intake *intake, size_t field, double score) {
    struct ue_field_record *record = &intake->fields[field];
    if (!ue_heap_reserve(&intake->kept) || !ue_heap_reserve(&intake->ready))
        return ue_refuse(UE_NO_MEMORY, "not enough memory");
    if (record->state == UE_FIELD_OPEN)
        intake->open_tiles -= record->taken;
    for (struct ue_crop *crop = record->crops; crop; crop = crop->sibling)
        ue_queue_remove(&intake->crops.open, crop);
    const struct ue_ranked entry = {score, (uint32_t)field};
    record->state = UE_FIELD_KEPT;
    ue_heap_add(&intake->kept, entry);
    intake->kept_tiles += size_of(intake, field);
    while (one_too_many(intake))
        drop_worst(intake, field);
    if (record->state == UE_FIELD_KEPT && record->crops) {
        intake->ready_count += count_crops(intake, field);
        ue_heap_add(&intake->ready, entry);
    }
    return UE_OK;
}

/* Which fields are the best so far, and what becomes of the pixels and tokens of the others. */
#include "state.h"

static size_t size_of(const ue_session *session, size_t field) {
    return ue_field_size(ue_grid_tiles(&session->grid, field));
}

bool ue_full(const ue_session *session) {
    const size_t most = session->options.max_tiles;
    return most && session->kept_tiles >= most;
}

static size_t count_crops(const ue_session *session, size_t field) {
    size_t count = 0;
    for (const struct ue_crop *crop = session->fields[field].crops; crop; crop = crop->sibling)
        count++;
    return count;
}

static void drop_crops(ue_session *session, size_t field) {
    struct ue_crop *crop;
    while ((crop = session->fields[field].crops)) {
        session->fields[field].crops = crop->sibling;
        ue_spool_release(&session->spool, crop->cell);
        ue_crop_rest(&session->crops, crop);
        session->held_count--;
    }
}

static void drop_tokens(ue_session *session, size_t field) {
    const struct ue_field tiles = ue_grid_tiles(&session->grid, field);
    for (size_t row = tiles.top; row < tiles.bottom; row++)
        for (size_t col = tiles.left; col < tiles.right; col++)
            ue_tokens_drop(&session->tokens, (uint32_t)(row * session->grid.cols + col));
}

/* Drop the worst field; `settling` is not ready yet. Crops in `urgent` are dropped when taken. */
static void drop_worst(ue_session *session, size_t settling) {
    const size_t worst = session->kept.entries[0].field;
    ue_heap_pop(&session->kept);
    session->kept_tiles -= size_of(session, worst);
    session->fields[worst].state = UE_FIELD_DROPPED;
    if (worst != settling)
        session->ready_count -= count_crops(session, worst);
    drop_crops(session, worst);
    drop_tokens(session, worst);
}

/* Whether the others would hold enough tiles without the worst field. */
static bool one_too_many(const ue_session *session) {
    const size_t most = session->options.max_tiles;
    if (!most || !session->kept.count)
        return false;
    return session->kept_tiles - size_of(session, session->kept.entries[0].field) >= most;
}

/* Take a field, as complete as it will be, among the best, and drop those that it pushes out. */
ue_status ue_settle(ue_session *session, size_t field, double score) {
    struct ue_field_record *record = &session->fields[field];
    if (!ue_heap_reserve(&session->kept) || !ue_heap_reserve(&session->ready))
        return ue_refuse(UE_NO_MEMORY, "not enough memory");
    if (record->state == UE_FIELD_OPEN)
        session->open_tiles -= record->taken;
    for (struct ue_crop *crop = record->crops; crop; crop = crop->sibling)
        ue_queue_remove(&session->crops.open, crop);
    const struct ue_ranked entry = {score, (uint32_t)field};
    record->state = UE_FIELD_KEPT;
    ue_heap_add(&session->kept, entry);
    session->kept_tiles += size_of(session, field);
    while (one_too_many(session))
        drop_worst(session, field);
    if (record->state == UE_FIELD_KEPT && record->crops) {
        session->ready_count += count_crops(session, field);
        ue_heap_add(&session->ready, entry);
    }
    return UE_OK;
}

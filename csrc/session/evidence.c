/* After the last tile: what was seen, what its tokens show, and what they come to. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

static ue_status no_memory(void) {
    return ue_refuse(UE_NO_MEMORY, "not enough memory for the slide's result");
}

void ue_found_free(struct ue_found *found) {
    void *const parts[] = {found->planned, found->encoded,  found->shown, found->status,
                           found->score,   found->cellular, found->focus, found->tokens,
                           found->logits,  found->attention};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
        free(parts[k]);
    free((void *)found->causes);
    ue_reading_free(&found->reading);
    *found = (struct ue_found){0};
}

/* ---- what was seen --------------------------------------------------------------------------- */

static ue_status list_records(ue_session *session, struct ue_found *found) {
    const size_t cells = session->grid.rows * session->grid.cols;
    found->planned = calloc(cells, sizeof *found->planned);
    found->status = calloc(cells, sizeof *found->status);
    found->score = calloc(cells, sizeof *found->score);
    found->cellular = calloc(cells, sizeof *found->cellular);
    found->focus = calloc(cells, sizeof *found->focus);
    if (!found->planned || !found->status || !found->score || !found->cellular || !found->focus)
        return no_memory();
    const ue_status status =
        ue_intake_order(session->intake, found->planned, cells, &found->planned_count);
    return status ? status
                  : ue_intake_records(session->intake, found->status, found->score, found->cellular,
                                      found->focus);
}

static ue_status list_tokens(ue_session *session, struct ue_found *found) {
    const size_t planned = found->planned_count;
    size_t wanted = 0;
    uint8_t *has = calloc(planned + 1, 1);
    found->encoded = calloc(planned + 1, sizeof *found->encoded);
    ue_status status = has && found->encoded
                           ? ue_intake_keep(session->intake, found->planned, planned, has)
                           : no_memory();
    for (size_t k = 0; k < planned && !status; k++)
        if (has[k])
            found->encoded[found->encoded_count++] = found->planned[k];
    free(has);
    if (status)
        return status;
    for (size_t k = 0; k < planned; k++)
        wanted += found->status[found->planned[k]] == UE_TILE_ENCODED;
    if (found->encoded_count != wanted)
        return ue_refuse(UE_RUN_FAILED, "%zu tiles should have a token, and %zu have one", wanted,
                         found->encoded_count);
    if (found->encoded_count > session->capacity)
        return ue_refuse(UE_BAD_SIZE, "%zu tiles, and a bag holds %zu; lower max_tiles",
                         found->encoded_count, session->capacity);
    const size_t width = session->screener->encoder.width;
    found->tokens = calloc(found->encoded_count * width + 1, sizeof *found->tokens);
    return found->tokens ? ue_intake_tokens(session->intake, found->encoded, found->encoded_count,
                                            found->tokens)
                         : no_memory();
}

static const char *cause_of(const ue_session *session, uint32_t cell) {
    for (size_t k = 0; k < session->causes_count; k++)
        if (session->causes[k].cell == cell)
            return session->causes[k].text;
    return session->resumed ? "could not be read; why is not known, as the program was "
                              "started again since"
                            : NULL;
}

/* Under the session's lock. */
static ue_status list_causes(ue_session *session, struct ue_found *found) {
    found->causes = calloc(found->planned_count + 1, sizeof *found->causes);
    if (!found->causes)
        return no_memory();
    for (size_t k = 0, listed = 0; k < found->planned_count && listed < 1000; k++)
        if (found->status[found->planned[k]] == UE_TILE_FAILED) {
            found->causes[k] = cause_of(session, found->planned[k]);
            listed++; /* a result lists no more */
        }
    return UE_OK;
}

/* ---- what it comes to ------------------------------------------------------------------------ */

static ue_status read_all(ue_session *session, struct ue_found *found) {
    struct ue_error error = {0};
    if (!session->screener->knows)
        return UE_OK;
    const ue_status status = ue_read_tokens(&found->reading, &session->screener->knowledge,
                                            found->tokens, found->encoded_count, &error);
    return status ? ue_refuse(status, "%s", error.text) : UE_OK;
}

static ue_status list_shown(ue_session *session, struct ue_found *found) {
    found->shown = calloc(found->encoded_count + 1, sizeof *found->shown);
    if (!found->shown)
        return no_memory();
    for (size_t k = 0; k < found->encoded_count; k++)
        if (!session->screener->knows || found->reading.aggregated[k])
            found->shown[found->shown_count++] = found->encoded[k];
    return UE_OK;
}

static ue_status aggregate(ue_session *session, struct ue_found *found, size_t tasks) {
    const size_t count = found->shown_count;
    size_t *places = calloc(count, sizeof *places);
    found->attention = calloc(tasks * count, sizeof *found->attention);
    if (!places || !found->attention) {
        free(places);
        return no_memory();
    }
    ue_status status = ue_intake_places(session->intake, found->shown, count, places);
    if (!status)
        status = ue_bag_logits(session->screener, session->bag, places, count, &found->logits);
    free(places);
    if (status)
        return status;
    status = ue_aggregator_explain(session->bag, found->attention);
    return status ? ue_refuse(status, "%s", ue_aggregator_bag_error(session->bag)) : UE_OK;
}

ue_status ue_find(ue_session *session, struct ue_found *found) {
    const size_t tasks = session->screener->bundle->manifest.tasks.count;
    ue_status status = list_records(session, found);
    if (!status)
        status = list_tokens(session, found);
    ue_lock(&session->lock);
    if (!status)
        status = list_causes(session, found);
    ue_unlock(&session->lock);
    if (!status)
        status = read_all(session, found);
    if (!status)
        status = list_shown(session, found);
    if (!status && found->shown_count)
        status = aggregate(session, found, tasks);
    return status;
}

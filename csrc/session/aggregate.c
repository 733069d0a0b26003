/* Tokens come to logits: at the end, or of what has been seen so far. */
#include "state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ue_status ue_bag_logits(ue_screener *screener, ue_bag *bag, const size_t *order, size_t count,
                        float **logits) {
    ue_aggregator_info info = {.struct_size = sizeof info};
    ue_aggregator_describe(screener->aggregator, &info);
    *logits = calloc(info.num_tasks * info.most_classes, sizeof **logits);
    if (!*logits)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the logits");
    ue_status status = ue_aggregator_arrange(bag, order, count);
    if (!status)
        status = ue_aggregator_finish(bag, *logits, NULL);
    return status ? ue_refuse(status, "%s", ue_aggregator_bag_error(bag)) : UE_OK;
}

/* ---- so far ---------------------------------------------------------------------------------- */

/* The tokens of the best tiles so far; more of them may come while room is made. */
static ue_status collect(ue_session *session, float **tokens, size_t *count) {
    const size_t width = session->screener->encoder.width;
    uint32_t *cells = NULL;
    *tokens = NULL;
    for (size_t room = 0;; room = *count) {
        const ue_status status = ue_intake_so_far(session->intake, cells, *tokens, room, count);
        if (status || *count <= room) {
            free(cells);
            return status;
        }
        free(cells);
        free(*tokens);
        cells = calloc(*count, sizeof *cells);
        *tokens = calloc(*count * width, sizeof **tokens);
        if (!cells || !*tokens) {
            free(cells);
            return ue_refuse(UE_NO_MEMORY, "not enough memory for an estimate");
        }
    }
}

/* Leave those that may carry a decision. */
static ue_status sift(ue_session *session, float *tokens, size_t *count) {
    const size_t width = session->screener->encoder.width;
    struct ue_error error = {0};
    struct ue_reading reading;
    size_t kept = 0;
    if (!session->screener->knows)
        return UE_OK;
    const ue_status status =
        ue_read_tokens(&reading, &session->screener->knowledge, tokens, *count, &error);
    for (size_t k = 0; k < *count && !status; k++)
        if (reading.aggregated[k])
            memmove(tokens + width * kept++, tokens + width * k, width * sizeof *tokens);
    ue_reading_free(&reading);
    *count = kept;
    return status ? ue_refuse(status, "%s", error.text) : UE_OK;
}

static ue_status aggregate(ue_session *session, const float *tokens, size_t count,
                           double *probabilities) {
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    const struct ue_task *tasks = manifest->tasks.items;
    const size_t width = session->screener->encoder.width;
    ue_aggregator_info info = {.struct_size = sizeof info};
    float *logits = NULL;
    ue_bag *bag;
    ue_aggregator_describe(session->screener->aggregator, &info);
    ue_status status = ue_aggregator_bag(session->screener->aggregator, count, &bag);
    if (status)
        return ue_refuse(status, "an estimate of %zu tiles: %s", count, ue_status_text(status));
    status = ue_aggregator_push(bag, 0, tokens, count, width);
    if (status)
        ue_refuse(status, "%s", ue_aggregator_bag_error(bag));
    else
        status = ue_bag_logits(session->screener, bag, NULL, count, &logits);
    for (size_t k = 0; k < manifest->tasks.count && !status; k++)
        probabilities[k] = ue_probability(logits + k * info.most_classes, tasks[k].classes.count,
                                          (size_t)tasks[k].positive, tasks[k].temperature);
    free(logits);
    ue_aggregator_free_bag(bag);
    return status;
}

ue_status ue_session_estimate(ue_session *session, double *probabilities) {
    ue_status status = ue_session_check(session);
    float *tokens = NULL;
    size_t count = 0;
    if (status)
        return status;
    if (!probabilities)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    status = collect(session, &tokens, &count);
    if (!status && count)
        status = sift(session, tokens, &count);
    if (!status)
        status = count ? aggregate(session, tokens, count, probabilities)
                       : ue_refuse(UE_BUSY, "no tile that may carry a decision was encoded yet");
    free(tokens);
    return status;
}

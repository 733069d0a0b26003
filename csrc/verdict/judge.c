/* The whole verdict: a reason for every limit of the bundle that a slide misses, then decisions. */
#include <math.h>
#include <stdlib.h>

#include "verdict.h"

size_t ue_shown_count(const struct ue_evidence *evidence, const struct ue_counts *counts) {
    return evidence->reading ? evidence->reading->aggregated_count : counts->encoded;
}

/* A satisfactory slide whose pixels show another um/px than it states. */
static ue_status check_spacing(const struct ue_verdict *verdict, const struct ue_context *context,
                               struct ue_error *error) {
    const double found = verdict->um_px_estimate, stated = context->um_px;
    const double tolerance = context->manifest->knowledge.um_px_tolerance;
    struct ue_figure shown[2];
    if (verdict->reasons.count || isnan(found) || isnan(tolerance) ||
        !(fmax(found / stated, stated / found) - 1 > tolerance))
        return UE_OK;
    ue_apart(stated, found, shown);
    return ue_fail(error, UE_BAD_SLIDE,
                   "states %s um/px (%s), but its pixels show %s; correct the scanner's setting, "
                   "or give the right value with --mpp",
                   shown[0].text, context->um_px_source, shown[1].text);
}

static ue_status judge_adequacy(struct ue_verdict *verdict, const struct ue_context *context,
                                const struct ue_evidence *evidence, struct ue_error *error) {
    const struct ue_reading *reading = evidence->reading;
    verdict->um_px_estimate = NAN;
    ue_pixel_reasons(&verdict->reasons, context, evidence, &verdict->counts);
    if (!reading)
        return UE_OK;
    ue_count_squamous(&verdict->squamous, context, evidence);
    if (verdict->squamous.how.broken || verdict->squamous.asked.broken)
        return UE_OK; /* and whoever looks at what is broken says so */
    ue_token_reasons(&verdict->reasons, context, reading, &verdict->squamous);
    verdict->um_px_estimate = context->um_px * reading->um_px_factor;
    return check_spacing(verdict, context, error);
}

/* Each planned tile's share of a task's attention. */
static void spread_attention(struct ue_verdict *verdict, const struct ue_evidence *evidence,
                             size_t tasks) {
    const size_t shown = ue_shown_count(evidence, &verdict->counts);
    size_t row = 0;
    for (size_t k = 0; k < verdict->planned && evidence->logits; k++) {
        if (!ue_was_shown(evidence, verdict->tiles[k].token))
            continue;
        for (size_t task = 0; task < tasks; task++)
            verdict->attention[task * verdict->planned + k] =
                evidence->attention[task * shown + row];
        row++;
    }
}

static void decide(struct ue_verdict *verdict, const struct ue_context *context,
                   const struct ue_evidence *evidence) {
    const struct ue_task *tasks = context->manifest->tasks.items;
    for (size_t k = 0; k < context->manifest->tasks.count; k++) {
        struct ue_judged_task *judged = &verdict->tasks[k];
        judged->probability = NAN;
        judged->decision = UE_UNSATISFACTORY;
        if (!evidence->logits)
            continue;
        judged->probability =
            ue_probability(evidence->logits + k * evidence->most_classes, tasks[k].classes.count,
                           (size_t)tasks[k].positive, tasks[k].temperature);
        if (!verdict->reasons.count && !isnan(judged->probability))
            judged->decision =
                judged->probability >= tasks[k].threshold ? UE_POSITIVE : UE_NEGATIVE;
    }
}

static ue_status no_memory(struct ue_error *error) {
    return ue_fail(error, UE_NO_MEMORY, "not enough memory to judge the slide");
}

ue_status ue_judge(struct ue_verdict *verdict, const struct ue_context *context,
                   const struct ue_evidence *evidence, struct ue_error *error) {
    const size_t planned = evidence->planned_count, tasks = context->manifest->tasks.count;
    *verdict = (struct ue_verdict){.planned = planned};
    verdict->tiles = calloc(planned + 1, sizeof *verdict->tiles);
    verdict->attention = calloc(tasks * planned + 1, sizeof *verdict->attention);
    verdict->tasks = calloc(tasks, sizeof *verdict->tasks);
    if (!verdict->tiles || !verdict->attention || !verdict->tasks)
        return no_memory(error);
    ue_fill_tiles(verdict->tiles, context, evidence);
    if (!ue_judge_focus(verdict->tiles, planned, context->manifest->adequacy.focus_floor))
        return no_memory(error);
    ue_count_tiles(&verdict->counts, verdict->tiles, planned);
    spread_attention(verdict, evidence, tasks);
    const ue_status status = judge_adequacy(verdict, context, evidence, error);
    if (status)
        return status;
    if (verdict->reasons.text.broken || verdict->squamous.how.broken ||
        verdict->squamous.asked.broken)
        return no_memory(error);
    decide(verdict, context, evidence);
    return UE_OK;
}

void ue_verdict_free(struct ue_verdict *verdict) {
    free(verdict->tiles);
    free(verdict->attention);
    free(verdict->tasks);
    ue_text_free(&verdict->reasons.text);
    ue_text_free(&verdict->squamous.how);
    ue_text_free(&verdict->squamous.asked);
    *verdict = (struct ue_verdict){0};
}

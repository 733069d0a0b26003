/* A verdict as result.json has it; unicas_edge/result.py holds the schema. */
#include <math.h>
#include <string.h>

#include "verdict.h"

enum {
    TOP_TILES = 10,      /* what a contact sheet shows of a task */
    MOST_FAILURES = 1000 /* listed one by one in a result; all are counted */
};

static const char *const decisions[] = {"unsatisfactory", "negative", "positive"};

/* ---- coverage -------------------------------------------------------------------------------- */

static void write_failures(struct ue_json_out *out, const struct ue_verdict *verdict,
                           const struct ue_evidence *evidence) {
    size_t listed = 0;
    ue_out_key(out, "failures");
    ue_out_open(out, '[');
    for (size_t k = 0; k < verdict->planned && listed < MOST_FAILURES; k++) {
        if (verdict->tiles[k].status != UE_TILE_FAILED)
            continue;
        const char *cause = evidence->causes[k];
        ue_out_open(out, '{');
        ue_put_whole(out, "x", verdict->tiles[k].x);
        ue_put_whole(out, "y", verdict->tiles[k].y);
        const bool came = evidence->status[evidence->planned[k]] != UE_TILE_UNSEEN;
        ue_put_string(out, "cause", cause ? cause : came ? "could not be read" : "never pushed");
        ue_out_close(out, '}');
        listed++;
    }
    ue_out_close(out, ']');
}

static void write_coverage(struct ue_json_out *out, const struct ue_verdict *verdict,
                           const struct ue_context *context, const struct ue_evidence *evidence) {
    const struct ue_counts *counts = &verdict->counts;
    ue_out_key(out, "coverage");
    ue_out_open(out, '{');
    ue_put_whole(out, "grid_tiles", (int64_t)(context->grid.rows * context->grid.cols));
    ue_put_whole(out, "planned", (int64_t)verdict->planned);
    ue_put_whole(out, "read", (int64_t)(counts->encoded + counts->background));
    ue_put_whole(out, "encoded", (int64_t)counts->encoded);
    ue_put_whole(out, "background", (int64_t)counts->background);
    ue_put_whole(out, "sparse", (int64_t)counts->sparse);
    ue_put_whole(out, "failed", (int64_t)counts->failed);
    ue_put_real(out, "coverage", counts->coverage);
    write_failures(out, verdict, evidence);
    ue_out_close(out, '}');
}

/* ---- adequacy -------------------------------------------------------------------------------- */

static void write_kinds(struct ue_json_out *out, const struct ue_knowledge_spec *spec,
                        const struct ue_reading *reading) {
    const struct ue_json_text *kinds = spec->kinds.items, *aggregated = spec->aggregated.items;
    ue_out_key(out, "kinds");
    ue_out_open(out, '{');
    for (size_t k = 0; k < reading->kinds; k++)
        ue_put_whole(out, kinds[k].bytes, (int64_t)reading->counts[k]);
    ue_out_close(out, '}');
    ue_out_key(out, "aggregated");
    ue_out_open(out, '[');
    for (size_t k = 0; k < spec->aggregated.count; k++)
        ue_out_text(out, aggregated[k]);
    ue_out_close(out, ']');
}

static void write_squamous(struct ue_json_out *out, const struct ue_squamous *squamous) {
    struct ue_text method = {0};
    ue_text_print(&method, "%s; needed: %s", squamous->how.bytes, squamous->asked.bytes);
    ue_out_key(out, "squamous");
    ue_out_open(out, '{');
    ue_put_whole(out, "estimate", squamous->estimate);
    ue_put_whole(out, "needed", squamous->needed);
    ue_put_string(out, "method", method.bytes);
    ue_out_close(out, '}');
    out->text.broken |= method.broken;
    ue_text_free(&method);
}

static void write_knowledge(struct ue_json_out *out, const struct ue_verdict *verdict,
                            const struct ue_knowledge_spec *spec,
                            const struct ue_reading *reading) {
    const double distance = reading->slide_distance;
    write_kinds(out, spec, reading);
    write_squamous(out, &verdict->squamous);
    ue_put_real(out, "distance", distance);
    ue_put_real(out, "distance_limit", spec->distance_limit);
    ue_out_key(out, "known");
    if (isnan(distance))
        ue_out_null(out);
    else
        ue_out_boolean(out, distance <= spec->distance_limit);
    ue_put_real(out, "um_px_estimate", verdict->um_px_estimate);
}

static void write_no_knowledge(struct ue_json_out *out) {
    static const char *const unknown[] = {"squamous", "distance", "distance_limit", "known",
                                          "um_px_estimate"};
    ue_out_key(out, "kinds");
    ue_out_open(out, '{');
    ue_out_close(out, '}');
    ue_out_key(out, "aggregated");
    ue_out_open(out, '[');
    ue_out_close(out, ']');
    for (size_t k = 0; k < sizeof unknown / sizeof unknown[0]; k++)
        ue_put_string(out, unknown[k], NULL);
}

static void write_adequacy(struct ue_json_out *out, const struct ue_verdict *verdict,
                           const struct ue_context *context, const struct ue_reading *reading) {
    ue_out_key(out, "adequacy");
    ue_out_open(out, '{');
    ue_put_boolean(out, "satisfactory", !verdict->reasons.count);
    ue_out_key(out, "reasons");
    ue_out_open(out, '[');
    for (size_t k = 0; k < verdict->reasons.count; k++)
        ue_out_string(out, ue_reason(&verdict->reasons, k));
    ue_out_close(out, ']');
    ue_put_whole(out, "cellular_tiles", (int64_t)verdict->counts.encoded);
    ue_put_whole(out, "in_focus_tiles", (int64_t)verdict->counts.in_focus);
    ue_put_string(out, "basis", reading ? "tokens" : "pixels");
    if (reading)
        write_knowledge(out, verdict, &context->manifest->knowledge, reading);
    else
        write_no_knowledge(out);
    ue_out_close(out, '}');
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static void write_top_tile(struct ue_json_out *out, const ue_tile *tile, double attention) {
    ue_out_open(out, '{');
    ue_put_whole(out, "x", tile->x);
    ue_put_whole(out, "y", tile->y);
    ue_put_whole(out, "width", tile->side);
    ue_put_whole(out, "height", tile->side);
    ue_put_real(out, "attention", attention);
    ue_out_close(out, '}');
}

/* The tiles that carried the decision, those of equal attention in canonical order. */
static void write_top_tiles(struct ue_json_out *out, const struct ue_verdict *verdict,
                            const struct ue_evidence *evidence, const float *attention) {
    size_t best[TOP_TILES], count = 0;
    for (size_t k = 0; k < verdict->planned && evidence->logits; k++) {
        if (!ue_was_shown(evidence, verdict->tiles[k].token))
            continue;
        size_t place = count < TOP_TILES ? count++ : TOP_TILES;
        for (; place > 0 && attention[best[place - 1]] < attention[k]; place--)
            if (place < TOP_TILES)
                best[place] = best[place - 1];
        if (place < TOP_TILES)
            best[place] = k;
    }
    ue_out_key(out, "top_tiles");
    ue_out_open(out, '[');
    for (size_t k = 0; k < count; k++)
        write_top_tile(out, &verdict->tiles[best[k]], (double)attention[best[k]]);
    ue_out_close(out, ']');
}

/* Which classes a probability leaves, the others of more than two as the first one. */
static void write_confidence(struct ue_json_out *out, const struct ue_task *task,
                             double probability) {
    const struct ue_conformal_spec *spec = &task->conformal;
    const struct ue_json_text *classes = task->classes.items;
    ue_out_open(out, '{');
    ue_put_real(out, "coverage", spec->coverage);
    ue_put_whole(out, "slides", (int64_t)spec->slides);
    ue_out_key(out, "classes");
    ue_out_open(out, '[');
    if (probability <= spec->negative_to)
        ue_out_text(out, classes[task->positive == 0]);
    if (probability >= spec->positive_from)
        ue_out_text(out, classes[task->positive]);
    ue_out_close(out, ']');
    ue_out_close(out, '}');
}

static void write_logits(struct ue_json_out *out, const float *logits, size_t classes) {
    ue_out_key(out, "logits");
    if (!logits) {
        ue_out_null(out);
        return;
    }
    ue_out_open(out, '[');
    for (size_t k = 0; k < classes; k++)
        ue_out_real(out, (double)logits[k]);
    ue_out_close(out, ']');
}

static void write_task(struct ue_json_out *out, const struct ue_verdict *verdict,
                       const struct ue_evidence *evidence, const struct ue_task *task,
                       size_t number) {
    const struct ue_judged_task *judged = &verdict->tasks[number];
    const float *logits = evidence->logits;
    ue_out_open(out, '{');
    ue_put_text(out, "name", task->name);
    ue_put_real(out, "probability", judged->probability);
    ue_put_real(out, "threshold", task->threshold);
    ue_put_string(out, "decision", decisions[judged->decision]);
    write_logits(out, logits ? logits + number * evidence->most_classes : NULL,
                 task->classes.count);
    write_top_tiles(out, verdict, evidence, verdict->attention + number * verdict->planned);
    ue_out_key(out, "confidence");
    if (judged->decision != UE_UNSATISFACTORY && task->conformal.given)
        write_confidence(out, task, judged->probability);
    else
        ue_out_null(out);
    ue_out_close(out, '}');
}

/* ---- what is said beside --------------------------------------------------------------------- */

static const char *const modes[] = {"none", "white-balance", "reinhard"};

static void write_warnings(struct ue_json_out *out, const struct ue_context *context) {
    const struct ue_manifest *manifest = context->manifest;
    const char *usual = modes[manifest->colour.standard];
    struct ue_text said = {0};
    ue_out_key(out, "warnings");
    ue_out_open(out, '[');
    if (!manifest->knowledge.given)
        ue_out_string(out,
                      "adequacy was judged by pixels alone: this bundle does not know what its "
                      "tiles show");
    for (size_t k = 0; k < context->colour_warnings_count; k++)
        ue_out_string(out, context->colour_warnings[k]);
    if (strcmp(context->colour_mode, usual) != 0) {
        ue_text_print(&said, "colour mode %s: this bundle was judged with %s", context->colour_mode,
                      usual);
        ue_out_string(out, said.bytes);
    }
    if (context->downsample < 1) {
        said.length = 0;
        ue_text_print(&said,
                      "scanned at %s um/px, coarser than the bundle's %s: tiles are enlarged",
                      ue_general(context->um_px, 6).text, ue_general(manifest->tile.um_px, 6).text);
        ue_out_string(out, said.bytes);
    }
    ue_out_close(out, ']');
    out->text.broken |= said.broken;
    ue_text_free(&said);
}

static void write_notices(struct ue_json_out *out, const struct ue_context *context) {
    struct ue_text said = {0};
    ue_out_key(out, "notices");
    ue_out_open(out, '[');
    if (!context->manifest->trained)
        ue_out_string(out, UE_UNTRAINED);
    else if (context->manifest->demonstration)
        ue_out_string(out, UE_DEMONSTRATION);
    if (context->unverified) {
        ue_text_print(&said, "unverified engine: %s", context->unverified);
        ue_out_string(out, said.bytes);
    }
    ue_out_string(out, UE_NOTICE);
    ue_out_close(out, ']');
    out->text.broken |= said.broken;
    ue_text_free(&said);
}

void ue_write_verdict(struct ue_json_out *out, const struct ue_verdict *verdict,
                      const struct ue_context *context, const struct ue_evidence *evidence) {
    const struct ue_task *tasks = context->manifest->tasks.items;
    write_coverage(out, verdict, context, evidence);
    write_adequacy(out, verdict, context, evidence->reading);
    ue_out_key(out, "tasks");
    ue_out_open(out, '[');
    for (size_t k = 0; k < context->manifest->tasks.count; k++)
        write_task(out, verdict, evidence, &tasks[k], k);
    ue_out_close(out, ']');
    ue_out_key(out, "detections");
    ue_out_open(out, '[');
    ue_out_close(out, ']');
    write_warnings(out, context);
    write_notices(out, context);
}

/*
 * How many squamous cells a slide has, and how many it needs: density times area, as Bethesda asks.
 *
 * The Bethesda System (3rd ed. 2015, chapter 1) wants an estimated 5,000 well-visualised squamous
 * cells on a liquid-based preparation, estimated from fields of view and the area of the
 * preparation. Here every encoded tile is a field; what was not encoded is judged by its content
 * score, as a tile's compressed bytes above those of an empty one grow with its cells.
 */
#include <math.h>

#include "verdict.h"

/* The content scores of the whole grid, NULL while some are not known. */
static const double *scores_of(const struct ue_evidence *evidence, size_t cells) {
    if (evidence->grid_scores)
        return evidence->grid_scores;
    for (size_t cell = 0; cell < cells; cell++)
        if (evidence->status[cell] == UE_TILE_UNSEEN)
            return NULL;
    return evidence->score;
}

static size_t whole_tiles(int64_t side, double step) {
    const double tiles = floor((double)side / step + 1e-9);
    return tiles < 1 ? 1 : (size_t)tiles;
}

/*
 * The score of an empty tile: the least of the grid, of tiles that lie on the slide wholly and are
 * stored at all. A sliver at the edge has fewer bytes than empty glass, and 0 is a tile that is not
 * there or could not be read.
 */
static double empty_score(const struct ue_context *context, const double *scores) {
    const struct ue_grid *grid = &context->grid;
    const size_t rows = whole_tiles(context->height, grid->step);
    const size_t cols = whole_tiles(context->width, grid->step);
    double least = INFINITY;
    for (size_t row = 0; row < rows && row < grid->rows; row++)
        for (size_t col = 0; col < cols && col < grid->cols; col++) {
            const double score = scores[row * grid->cols + col];
            if (score > 0 && score < least)
                least = score;
        }
    return isfinite(least) ? least : 0;
}

/* The cells of the tiles that were not planned: as many per score as of those that were. */
static double elsewhere(double seen, const struct ue_context *context,
                        const struct ue_evidence *evidence, const double *scores) {
    const size_t cells = context->grid.rows * context->grid.cols;
    const double empty = empty_score(context, scores);
    double all = 0, looked_at = 0;
    for (size_t cell = 0; cell < cells; cell++)
        all += fmax(scores[cell] - empty, 0);
    for (size_t k = 0; k < evidence->planned_count; k++)
        looked_at += fmax(scores[evidence->planned[k]] - empty, 0);
    return looked_at > 0 ? seen / looked_at * fmax(all - looked_at, 0) : 0;
}

static void say_how(struct ue_text *how, const struct ue_evidence *evidence, size_t others,
                    bool known, double error) {
    ue_text_print(how, "counted from the tokens of %s tiles",
                  ue_grouped(evidence->reading->count).text);
    if (others && known)
        ue_text_print(how, ", and in the %s others by their content scores",
                      ue_grouped(others).text);
    else if (others)
        ue_text_print(how, ", none in the %s others, whose content scores are not known",
                      ue_grouped(others).text);
    if (!isnan(error))
        ue_text_print(how, " (error as measured: %s)", ue_percent(error).text);
}

/* A scan of a part of the preparation needs its share. */
static void need(struct ue_squamous *squamous, const struct ue_context *context) {
    const struct ue_knowledge_spec *spec = &context->manifest->knowledge;
    const double area = context->um_px * context->um_px; /* of a pixel, in square micrometres */
    const double scanned = (double)context->width * (double)context->height * area / 1e6;
    const double share = fmin(1, scanned / spec->preparation_mm2);
    squamous->needed = (int64_t)ceil((double)spec->min_squamous_cells * share - 1e-9);
    ue_text_print(&squamous->asked, "%s on a preparation of %s mm2",
                  ue_grouped(spec->min_squamous_cells).text,
                  ue_general(spec->preparation_mm2, 6).text);
    if (share < 1)
        ue_text_print(&squamous->asked, ", %s of which was scanned", ue_percent(share).text);
}

void ue_count_squamous(struct ue_squamous *squamous, const struct ue_context *context,
                       const struct ue_evidence *evidence) {
    const size_t cells = context->grid.rows * context->grid.cols;
    const size_t others = cells - evidence->planned_count;
    const double *scores = scores_of(evidence, cells);
    double seen = 0;
    for (size_t k = 0; k < evidence->reading->count; k++)
        seen += evidence->reading->cells[k];
    if (others && scores)
        seen += elsewhere(seen, context, evidence, scores);
    squamous->estimate = !(seen >= 0) ? 0 : seen < 9e18 ? (int64_t)rint(seen) : INT64_MAX;
    say_how(&squamous->how, evidence, others, scores, context->manifest->knowledge.cell_error);
    need(squamous, context);
}

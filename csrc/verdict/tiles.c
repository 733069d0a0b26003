/* The table of a slide's planned tiles. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "verdict.h"

/*
 * A tile whose sharpness, Laplacian variance per share of cellular pixels, is below this share of
 * the slide's median is out of focus. On three real ThinPrep slides the 1st percentile lies at 0.45
 * to 0.65 of the median (125 to 190 against 220 to 310); blur of 0.5 um sigma brings the 75th
 * percentile to 42 to 60, of 1 um to 10 to 15.
 */
static const double focus_share = 0.25;

void ue_fill_tiles(ue_tile *tiles, const struct ue_context *context,
                   const struct ue_evidence *evidence) {
    const int64_t side = (int64_t)rint(context->grid.step);
    int64_t token = 0;
    for (size_t k = 0; k < evidence->planned_count; k++) {
        const uint32_t cell = evidence->planned[k];
        const uint8_t status = evidence->status[cell];
        const bool encoded = status == UE_TILE_ENCODED;
        tiles[k] = (ue_tile){
            .side = side,
            .field = (int64_t)ue_grid_field(&context->grid, cell),
            .token = encoded ? token : -1,
            .score = evidence->score[cell],
            .cellular = evidence->cellular[cell],
            .focus = evidence->focus[cell],
            .status = status == UE_TILE_UNSEEN ? UE_TILE_FAILED : status,
            .kind = encoded && evidence->reading ? evidence->reading->kind[token] : -1,
        };
        ue_grid_origin(&context->grid, cell, &tiles[k].x, &tiles[k].y);
        token += encoded;
    }
}

/* Per cellular pixel, so that a tile with one sharp cell on empty glass is not called blurred. */
static float sharpness(const ue_tile *tile) {
    return tile->focus / (tile->cellular > 1e-6f ? tile->cellular : 1e-6f);
}

/* Judge sharpness against the slide's own median, and against the bundle's floor. */
bool ue_judge_focus(ue_tile *tiles, size_t count, double floor) {
    double *all = calloc(count + 1, sizeof *all);
    size_t encoded = 0;
    if (!all)
        return false;
    for (size_t k = 0; k < count; k++)
        if (tiles[k].token >= 0)
            all[encoded++] = sharpness(&tiles[k]);
    const double usual = ue_median(all, encoded);
    const double wanted = focus_share * usual > floor ? focus_share * usual : floor;
    const float least = wanted < (double)FLT_MAX ? (float)wanted : INFINITY;
    for (size_t k = 0; k < count; k++)
        tiles[k].in_focus = tiles[k].token >= 0 && sharpness(&tiles[k]) >= least;
    free(all);
    return true;
}

void ue_count_tiles(struct ue_counts *counts, const ue_tile *tiles, size_t planned) {
    *counts = (struct ue_counts){0};
    for (size_t k = 0; k < planned; k++) {
        counts->encoded += tiles[k].status == UE_TILE_ENCODED;
        counts->background += tiles[k].status == UE_TILE_BACKGROUND;
        counts->sparse += tiles[k].status == UE_TILE_SPARSE;
        counts->failed += tiles[k].status == UE_TILE_FAILED;
        counts->in_focus += (size_t)tiles[k].in_focus;
    }
    counts->coverage = planned ? 1 - (double)counts->failed / (double)planned : 0;
}

/* What the pixels alone say against a slide: too little of it, out of focus, too coarse. */
#include <stdlib.h>
#include <string.h>

#include "verdict.h"

/* Resampling beyond this invents pixels; the bundle's um/px is what its encoder was trained on. */
static const double coarsest = 2;

double ue_unread_share(const struct ue_evidence *evidence, size_t cells) {
    size_t failed = 0, unseen = 0, missing = 0;
    for (size_t cell = 0; cell < cells; cell++) {
        failed += evidence->status[cell] == UE_TILE_FAILED;
        unseen += evidence->status[cell] == UE_TILE_UNSEEN;
    }
    if (!evidence->expected)
        return (double)(failed + unseen) / (double)cells;
    for (size_t k = 0; k < evidence->expected_count; k++)
        missing += evidence->status[evidence->expected[k]] == UE_TILE_UNSEEN;
    size_t all = cells - unseen + missing;
    all = all > evidence->scored_tiles ? all : evidence->scored_tiles;
    return (double)(failed + missing) / (double)(all ? all : 1);
}

static void say_unread(struct ue_reasons *reasons, const struct ue_evidence *evidence,
                       const struct ue_counts *counts, double least) {
    ue_text_print(ue_reason_begin(reasons),
                  "only %s%% of the planned tiles could be read (%zu of %zu failed); needed %s%%",
                  ue_fixed(100 * counts->coverage, 1).text, counts->failed, evidence->planned_count,
                  ue_fixed(100 * least, 1).text);
    ue_reason_end(reasons);
}

static void say_undelivered(struct ue_reasons *reasons, double unread, double least) {
    ue_text_print(ue_reason_begin(reasons),
                  "%s%% of all tiles of the slide were not delivered or could not be read; "
                  "allowed %s%%",
                  ue_fixed(100 * unread, 1).text, ue_fixed(100 * (1 - least), 1).text);
    ue_reason_end(reasons);
}

static void say_too_few(struct ue_reasons *reasons, const struct ue_counts *counts,
                        const struct ue_adequacy_spec *limits) {
    if (counts->encoded < limits->min_cellular_tiles) {
        ue_text_print(ue_reason_begin(reasons), "%zu tiles with cells; needed %llu",
                      counts->encoded, (unsigned long long)limits->min_cellular_tiles);
        ue_reason_end(reasons);
    }
    if ((double)counts->in_focus < limits->min_in_focus_share * (double)counts->encoded) {
        ue_text_print(ue_reason_begin(reasons),
                      "%zu of %zu tiles with cells are in focus; needed %s%%", counts->in_focus,
                      counts->encoded, ue_fixed(100 * limits->min_in_focus_share, 0).text);
        ue_reason_end(reasons);
    }
}

static bool all_alike(const float *tokens, size_t count, size_t width) {
    for (size_t k = width; k < count * width; k++)
        if (tokens[k] != tokens[k - width])
            return false;
    return count > 1;
}

void ue_pixel_reasons(struct ue_reasons *reasons, const struct ue_context *context,
                      const struct ue_evidence *evidence, const struct ue_counts *counts) {
    const struct ue_adequacy_spec *limits = &context->manifest->adequacy;
    const double unread = ue_unread_share(evidence, context->grid.rows * context->grid.cols);
    if (counts->coverage < limits->min_coverage)
        say_unread(reasons, evidence, counts, limits->min_coverage);
    if (1 - unread < limits->min_coverage)
        say_undelivered(reasons, unread, limits->min_coverage);
    say_too_few(reasons, counts, limits);
    if (context->downsample < 1 / coarsest) {
        ue_text_print(
            ue_reason_begin(reasons), "scanned at %s um/px, too coarse for a bundle made for %s",
            ue_general(context->um_px, 6).text, ue_general(context->manifest->tile.um_px, 6).text);
        ue_reason_end(reasons);
    }
    if (all_alike(evidence->tokens, counts->encoded, (size_t)context->manifest->encoder.width)) {
        ue_text_print(ue_reason_begin(reasons), "every tile gave the same token: the slide shows "
                                                "nothing, or the encoder does not work");
        ue_reason_end(reasons);
    }
}

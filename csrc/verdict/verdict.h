/*
 * What a slide comes to: how it was looked at, and what was seen -> adequacy, a probability and a
 * decision for each task, and why. Whatever the probabilities say, a slide that was not seen well
 * enough is unsatisfactory for every task, so that it can never pass for negative.
 */
#ifndef UE_VERDICT_H
#define UE_VERDICT_H

#include "formats/json_out.h"
#include "intake/grid.h"
#include "reading.h"
#include "unicas_edge_session.h"

/* Said of a bundle's weights, and of every result; unicas_edge/result.py has the same words. */
#define UE_UNTRAINED "untrained weights: probabilities mean nothing"
#define UE_DEMONSTRATION "demonstration weights: not for diagnosis"
#define UE_NOTICE "research use only; not a medical device"

/* How the slide was looked at. */
struct ue_context {
    const struct ue_manifest *manifest;
    struct ue_grid grid;
    int64_t width, height; /* of the grid, in level-0 pixels */
    double downsample;     /* level-0 pixels a tile pixel */
    double um_px;          /* as stated, */
    const char *um_px_source;
    const char *colour_mode;
    const char *const *colour_warnings;
    size_t colour_warnings_count;
    const char *unverified; /* why the engine should not have screened; NULL: it may */
};

/* What was seen. Tiles are cells of the grid; arrays of the whole grid are row-major. */
struct ue_evidence {
    const uint32_t *planned; /* in canonical order */
    size_t planned_count;
    const uint8_t *status; /* of ue_tile_status; [cells], as the next three */
    const double *score;
    const float *cellular, *focus;
    const float *tokens; /* [encoded][width], those of the planned tiles that are encoded */
    const struct ue_reading *reading; /* of the tokens; NULL: a bundle without knowledge */
    const float *logits;              /* [tasks][most_classes]; NULL: nothing was aggregated */
    size_t most_classes;
    const float *attention; /* [tasks][aggregated] */
    /* The tiles that should have come; NULL: all. Of these, so many were read beforehand. */
    const uint32_t *expected;
    size_t expected_count, scored_tiles;
    const double *grid_scores; /* [cells]: content scores; NULL: those of tiles that came */
    const char *const *causes; /* [planned]: why a tile failed, NULL where that is not known */
};

enum { UE_MOST_REASONS = 16 };

struct ue_reasons {
    struct ue_text text; /* sentences with a NUL behind each */
    size_t begin[UE_MOST_REASONS];
    size_t count;
};

/* Begin another reason, then add to `text`; ue_reason_end closes it. */
struct ue_text *ue_reason_begin(struct ue_reasons *reasons);
void ue_reason_end(struct ue_reasons *reasons);
const char *ue_reason(const struct ue_reasons *reasons, size_t index);

struct ue_counts {
    size_t encoded, background, sparse, failed, in_focus;
    double coverage; /* share of the planned tiles that were read */
};

struct ue_squamous {
    int64_t estimate, needed;
    struct ue_text how, asked; /* how the estimate was found, and what asks for how many */
};

struct ue_judged_task {
    ue_decision decision;
    double probability; /* NaN where nothing was aggregated */
};

struct ue_verdict {
    ue_tile *tiles;   /* [planned] */
    float *attention; /* [tasks][planned]: 0 for tiles that were not shown */
    size_t planned;
    struct ue_counts counts;
    struct ue_reasons reasons; /* none: satisfactory */
    struct ue_squamous squamous;
    double um_px_estimate; /* NaN: not known */
    struct ue_judged_task *tasks;
};

/*
 * Judge. UE_BAD_SLIDE where nothing is wrong with the slide but the um/px that it states. Free it
 * in any case.
 */
ue_status ue_judge(struct ue_verdict *verdict, const struct ue_context *context,
                   const struct ue_evidence *evidence, struct ue_error *error);
void ue_verdict_free(struct ue_verdict *verdict);

/* result.c: write the members coverage, adequacy, tasks, detections, warnings and notices. */
void ue_write_verdict(struct ue_json_out *out, const struct ue_verdict *verdict,
                      const struct ue_context *context, const struct ue_evidence *evidence);

/* Whether the tile of a row of tokens was shown to the aggregator. */
static inline bool ue_was_shown(const struct ue_evidence *evidence, int64_t token) {
    return token >= 0 && (!evidence->reading || evidence->reading->aggregated[token]);
}
/* How many were. */
size_t ue_shown_count(const struct ue_evidence *evidence, const struct ue_counts *counts);

/* ---- its parts ------------------------------------------------------------------------------- */

/* tiles.c: a row for every planned tile, and their counts. */
void ue_fill_tiles(ue_tile *tiles, const struct ue_context *context,
                   const struct ue_evidence *evidence);
/* False where memory runs out. */
bool ue_judge_focus(ue_tile *tiles, size_t count, double floor);
void ue_count_tiles(struct ue_counts *counts, const ue_tile *tiles, size_t planned);

/* pixel_reasons.c: what the pixels alone say against the slide. */
void ue_pixel_reasons(struct ue_reasons *reasons, const struct ue_context *context,
                      const struct ue_evidence *evidence, const struct ue_counts *counts);
/* The share of all tiles, planned or not, that failed or never came. */
double ue_unread_share(const struct ue_evidence *evidence, size_t cells);

/* squamous.c: how many squamous cells the slide has, and how many it needs. */
void ue_count_squamous(struct ue_squamous *squamous, const struct ue_context *context,
                       const struct ue_evidence *evidence);

/* token_reasons.c: what the tokens say against it. */
void ue_token_reasons(struct ue_reasons *reasons, const struct ue_context *context,
                      const struct ue_reading *reading, const struct ue_squamous *squamous);

/* probability.c: that of the positive class, from a task's row of logits. */
double ue_probability(const float *logits, size_t classes, size_t positive, double temperature);

/* words.c: a share in percent, in up to three digits; two figures with as few digits as differ. */
struct ue_figure ue_percent(double share);
void ue_apart(double one, double other, struct ue_figure shown[2]);

#endif

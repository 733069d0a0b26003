/* What the tokens say against a slide: too few cells, or unlike all that the bundle knows. */
#include <math.h>
#include <string.h>

#include "verdict.h"

/* What tiles of a kind do, where its name alone would read badly. */
static const char *const does[][2] = {
    {"bubble", "show bubbles"},
    {"fold", "show folds"},
    {"out_of_focus", "are out of focus"},
    {"not_cytology", "are not cytology"},
};

static void say_kind(struct ue_text *text, struct ue_json_text kind) {
    for (size_t k = 0; k < sizeof does / sizeof does[0]; k++)
        if (ue_json_equals(kind, does[k][0])) {
            ue_text_add(text, does[k][1], strlen(does[k][1]));
            return;
        }
    ue_text_print(text, "show ");
    for (size_t k = 0; k < kind.length; k++)
        ue_text_add(text, kind.bytes[k] == '_' ? " " : kind.bytes + k, 1);
}

/* That too few tiles show cells, and what most of the others show instead. */
static void say_too_few(struct ue_text *text, const struct ue_knowledge_spec *spec,
                        const struct ue_reading *reading) {
    const struct ue_json_text *kinds = spec->kinds.items;
    const double tiles = (double)reading->count, needed = spec->min_cell_share;
    size_t most = 1;
    if (!reading->count) {
        ue_text_print(text, "no tile holds anything that could be a cell");
        return;
    }
    for (size_t kind = 2; kind < reading->kinds; kind++)
        most = reading->counts[kind] > reading->counts[most] ? kind : most;
    ue_text_print(text, "%s of %s tiles show cells (%s), %s ", ue_grouped(reading->counts[0]).text,
                  ue_grouped(reading->count).text,
                  ue_percent((double)reading->counts[0] / tiles).text,
                  ue_percent((double)reading->counts[most] / tiles).text);
    say_kind(text, kinds[most]);
    ue_text_print(text, "; needed %s", needed > 0 ? ue_percent(needed).text : "one tile");
}

static void say_far(struct ue_text *text, double distance, double limit) {
    struct ue_figure shown[2];
    ue_apart(distance, limit, shown);
    ue_text_print(text,
                  "outside what this bundle knows: its tiles lie %s from what it was trained on, "
                  "at most %s is allowed",
                  shown[0].text, shown[1].text);
}

void ue_token_reasons(struct ue_reasons *reasons, const struct ue_context *context,
                      const struct ue_reading *reading, const struct ue_squamous *squamous) {
    const struct ue_knowledge_spec *spec = &context->manifest->knowledge;
    const double cells = (double)reading->counts[0];
    if (!reading->aggregated_count || cells < spec->min_cell_share * (double)reading->count) {
        say_too_few(ue_reason_begin(reasons), spec, reading);
        ue_reason_end(reasons);
    }
    if (squamous->estimate < squamous->needed) {
        ue_text_print(ue_reason_begin(reasons), "about %s squamous cells, %s; needed %s (%s)",
                      ue_grouped((uint64_t)squamous->estimate).text, squamous->how.bytes,
                      ue_grouped((uint64_t)squamous->needed).text, squamous->asked.bytes);
        ue_reason_end(reasons);
    }
    if (reading->count && !(reading->slide_distance <= spec->distance_limit)) {
        say_far(ue_reason_begin(reasons), reading->slide_distance, spec->distance_limit);
        ue_reason_end(reasons);
    }
}

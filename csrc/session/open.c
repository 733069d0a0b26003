/* A session is opened, and closed. */
#include "state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/sha256.h"
#include "system/clock.h"
#include "system/structs.h"

/* unicas_edge/tiles/quality.py says how these were found; it has the same. */
enum { CELLULAR_BELOW = 217, DARK_BELOW = 32 };
static const double background_share = 0.003;
/* 2 % of magnification is below what separates one scanner's "20x" from another's. */
static const double snap = 0.02;

enum { MOST_OPEN_TILES = 65536 };
static const size_t usual_memory = (size_t)256 << 20;
static const double identity[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};

/* ---- options --------------------------------------------------------------------------------- */

static char *copied(const char *text) {
    const size_t size = text ? strlen(text) + 1 : 0;
    char *copy = malloc(size ? size : 1);
    return copy && size ? memcpy(copy, text, size) : copy;
}

static bool copy_texts(ue_session *session, const ue_session_options *options) {
    const ue_colour *colour = options->colour;
    const char *given[UE_TEXTS] = {
        options->name ? options->name : "session",
        options->path ? options->path : "",
        options->um_px_source ? options->um_px_source : "session",
        options->sha256,
        colour && colour->mode ? colour->mode : "none",
        colour ? colour->warning : NULL,
    };
    for (size_t k = 0; k < UE_TEXTS; k++)
        if (given[k] && !(session->texts[k] = copied(given[k])))
            return false;
    return true;
}

static double snapped(double downsample) {
    const double power = exp2(rint(log2(downsample)));
    return fabs(downsample / power - 1) <= snap ? power : downsample;
}

static bool all_possible(const double *numbers, size_t count) {
    for (size_t k = 0; k < count; k++)
        if (!(fabs(numbers[k]) <= 1e6))
            return false;
    return true;
}

/* Colour matrix, scaling to [0, 1], mean and standard deviation in one map; see Normaliser. */
static void fold(ue_session *session, const struct ue_manifest *manifest) {
    const struct ue_affine_spec *scale = &manifest->input.scale;
    for (size_t row = 0; row < 3; row++)
        for (size_t col = 0; col < 4; col++) {
            double folded = session->colour[4 * row + col];
            if (manifest->input.dtype != UE_UINT8) {
                folded /= 255;
                if (col == 3)
                    folded -= scale->mean[row];
                folded /= scale->std[row];
            }
            session->affine[4 * row + col] = (float)folded;
        }
}

static ue_status frame(ue_session *session, const ue_session_options *options) {
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    const struct ue_tile_spec *tile = &manifest->tile;
    const double *colour = options->colour ? options->colour->matrix : identity;
    if (options->width < 1 || options->height < 1 ||
        !(options->um_px >= 0.01 && options->um_px <= 100))
        return ue_refuse(UE_BAD_OPTIONS,
                         "a slide of %lld x %lld pixels at %s um/px is not possible",
                         (long long)options->width, (long long)options->height,
                         ue_general(options->um_px, 6).text);
    session->downsample = snapped(tile->um_px / options->um_px);
    if (!ue_grid_of(options->width, options->height, (double)tile->size_px * session->downsample,
                    (size_t)tile->field_tiles, &session->grid))
        return ue_refuse(UE_BAD_OPTIONS, "the slide has more than %d tiles", UE_MAX_GRID_TILES);
    if (!all_possible(colour, 12))
        return ue_refuse(UE_BAD_OPTIONS, "the colour matrix is not possible");
    memcpy(session->colour, colour, sizeof session->colour);
    fold(session, manifest);
    size_t asked = options->max_tiles ? options->max_tiles : (size_t)tile->max_tiles;
    if (asked != UE_ALL_TILES && asked > UE_MAX_GRID_TILES)
        asked = UE_MAX_GRID_TILES;
    const size_t cells = session->grid.rows * session->grid.cols;
    session->max_tiles = asked == UE_ALL_TILES ? 0 : asked;
    session->capacity = asked < cells ? asked : cells;
    if (session->capacity > UE_MAX_TILES)
        session->capacity = UE_MAX_TILES;
    return UE_OK;
}

/* ---- the spool ------------------------------------------------------------------------------- */

static void add(struct ue_sha256 *hash, const char *text) {
    ue_sha256_add(hash, text ? text : "", text ? strlen(text) + 1 : 1);
}

/* Whose a spool is depends on all that tokens depend on. */
static void key_of(const ue_session *session, uint8_t key[32]) {
    const ue_encoder *encoder = &session->screener->encoder;
    const double um_px = session->options.um_px;
    const uint32_t version = ue_version();
    struct ue_sha256 hash;
    char hex[UE_SHA256_HEX];
    unsigned byte;
    ue_sha256_start(&hash);
    ue_sha256_add(&hash, &version, sizeof version);
    add(&hash, session->screener->bundle->sha256);
    add(&hash, encoder->name);
    add(&hash, encoder->version);
    add(&hash, encoder->precision);
    add(&hash, encoder->device);
    for (size_t k = 0; k < UE_TEXTS; k++)
        add(&hash, session->texts[k]);
    ue_sha256_add(&hash, session->colour, sizeof session->colour);
    ue_sha256_add(&hash, &um_px, sizeof um_px);
    ue_sha256_finish(&hash, hex);
    for (size_t k = 0; k < 32; k++) {
        sscanf(hex + 2 * k, "%2x", &byte);
        key[k] = (uint8_t)byte;
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static ue_intake_options intake_options(const ue_session *session) {
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    const size_t crop = (size_t)manifest->tile.crop_px, bytes = 3 * crop * crop;
    const size_t memory = session->options.memory ? session->options.memory : usual_memory;
    ue_intake_options options = {
        .struct_size = sizeof options,
        .width = session->options.width,
        .height = session->options.height,
        .downsample = session->downsample,
        .tile = (size_t)manifest->tile.size_px,
        .crop = crop,
        .field = (size_t)manifest->tile.field_tiles,
        .max_tiles = session->max_tiles,
        .token_width = session->screener->encoder.width,
        .batch = session->screener->encoder.batch,
        .most_held = memory / bytes ? memory / bytes : 1,
        .most_open = MOST_OPEN_TILES,
        .cellular_below = CELLULAR_BELOW,
        .dark = DARK_BELOW,
        .background_share = background_share,
        .dtype = session->screener->encoder.dtype,
        .bag = session->bag,
        .capacity = session->capacity,
        .spool = session->options.spool,
    };
    memcpy(options.affine, session->affine, sizeof options.affine);
    key_of(session, options.spool_key);
    return options;
}

static ue_status fill(ue_session *session, const ue_session_options *options) {
    ue_status status = frame(session, options);
    if (status)
        return status;
    if (!copy_texts(session, options))
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the session");
    status = ue_aggregator_bag(session->screener->aggregator, session->capacity, &session->bag);
    if (status)
        return ue_refuse(status, "%s: the aggregator's room for %zu tiles", ue_status_text(status),
                         session->capacity);
    const ue_intake_options taken = intake_options(session);
    status = ue_intake_open(&taken, &session->intake);
    session->options.spool = NULL; /* the path is the caller's */
    if (status)
        return status;
    ue_session_progress progress = {0};
    ue_intake_progress_of(session->intake, &progress);
    session->resumed = progress.seen > 0;
    return ue_crew_start(session);
}

static ue_session *session_for(ue_screener *screener, const ue_session_options *options) {
    ue_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->screener = screener;
    session->options = *options;
    session->process = ue_process();
    session->opened = ue_seconds();
    if (!ue_mutex_init(&session->lock)) {
        if (!ue_condition_init(&session->changed))
            return session;
        ue_mutex_destroy(&session->lock);
    }
    free(session);
    return NULL;
}

ue_status ue_session_open(ue_screener *screener, const ue_session_options *options,
                          ue_session **out) {
    if (out)
        *out = NULL;
    if (!screener || !options || !out)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    ue_status status = ue_check_process(screener, screener->process);
    if (status)
        return status;
    ue_session_options known;
    ue_colour colour;
    if (!ue_struct_read(&known, sizeof known, options) ||
        (known.colour && !ue_struct_read(&colour, sizeof colour, known.colour)))
        return ue_refuse(UE_BAD_OPTIONS,
                         "struct_size of the options is not one that this version knows");
    known.colour = known.colour ? &colour : NULL;
    ue_session *session = session_for(screener, &known);
    if (!session)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the session");
    status = fill(session, &known);
    if (status)
        ue_session_close(session);
    else
        *out = session;
    return status;
}

/* ---- closing --------------------------------------------------------------------------------- */

void ue_session_cancel(ue_session *session) {
    if (session)
        ue_intake_cancel(session->intake);
}

static void free_parts(ue_session *session) {
    ue_intake_destroy(session->intake);
    ue_aggregator_free_bag(session->bag);
    ue_found_free(&session->found);
    ue_verdict_free(&session->verdict);
    ue_text_free(&session->json.text);
    for (size_t k = 0; k < session->causes_count; k++)
        free(session->causes[k].text);
    for (size_t k = 0; k < UE_TEXTS; k++)
        free(session->texts[k]);
    free(session->causes);
    free(session->threads);
    free(session);
}

/* In a fork the threads are not there, and a lock may be held for ever; it goes with the process.
 */
void ue_session_close(ue_session *session) {
    if (!session)
        return;
    if (session->process == ue_process()) {
        if (session->intake)
            ue_intake_cancel(session->intake);
        ue_crew_join(session);
        ue_condition_destroy(&session->changed);
        ue_mutex_destroy(&session->lock);
    }
    free_parts(session);
}

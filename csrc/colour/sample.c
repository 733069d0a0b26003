/* Pixels of a slide, and the fit of a mode on them. */
#include "sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

ue_status ue_colour_open(size_t most, ue_colour_sample **sample) {
    if (!sample)
        return UE_NULL_POINTER;
    *sample = NULL;
    if (most > UE_MAX_SAMPLE)
        return UE_BAD_SIZE;
    *sample = calloc(1, sizeof **sample);
    if (!*sample)
        return UE_NO_MEMORY;
    (*sample)->most = most ? most : UE_MAX_SAMPLE;
    return UE_OK;
}

void ue_colour_close(ue_colour_sample *sample) {
    if (!sample)
        return;
    free(sample->pixels);
    free(sample);
}

const char *ue_colour_error(const ue_colour_sample *sample) {
    return sample ? sample->error.text : "";
}

static ue_status make_room(ue_colour_sample *sample, size_t more) {
    const size_t wanted = sample->count + more, twice = 2 * sample->room;
    if (wanted <= sample->room)
        return UE_OK;
    const size_t most = twice < sample->most ? twice : sample->most;
    const size_t room = wanted > most ? wanted : most;
    uint8_t (*pixels)[3] = realloc(sample->pixels, room * sizeof *pixels);
    if (!pixels)
        return ue_fail(&sample->error, UE_NO_MEMORY, "no memory for a sample of %zu pixels", room);
    sample->pixels = pixels;
    sample->room = room;
    return UE_OK;
}

static void take(ue_colour_sample *sample, const ue_pixels *from, size_t rows, size_t columns,
                 size_t step) {
    const ptrdiff_t down = (ptrdiff_t)step * from->row_stride;
    const ptrdiff_t along = (ptrdiff_t)step * from->pixel_stride;
    for (size_t y = 0; y < rows; y++) {
        const uint8_t *row = from->red + (ptrdiff_t)y * down;
        for (size_t x = 0; x < columns; x++, sample->count++)
            for (int c = 0; c < 3; c++)
                sample->pixels[sample->count][c] =
                    row[(ptrdiff_t)x * along + c * from->channel_stride];
    }
}

ue_status ue_colour_add(ue_colour_sample *sample, const ue_pixels *pixels, size_t height,
                        size_t width, size_t step) {
    if (!sample || !pixels || !pixels->red)
        return UE_NULL_POINTER;
    if (height == 0 || width == 0 || step == 0)
        return ue_fail(&sample->error, UE_BAD_SIZE, "%zu x %zu pixels in steps of %zu are none",
                       width, height, step);
    const size_t rows = (height - 1) / step + 1, columns = (width - 1) / step + 1;
    if (rows > (sample->most - sample->count) / columns)
        return ue_fail(&sample->error, UE_BAD_SIZE,
                       "a sample has at most %zu pixels; add fewer, or take larger steps",
                       sample->most);
    const ue_status status = make_room(sample, rows * columns);
    if (status == UE_OK)
        take(sample, pixels, rows, columns, step);
    return status;
}

/* ---- the fit --------------------------------------------------------------------------------- */

enum mode { NONE, WHITE_BALANCE, REINHARD, ICC, MODES };
static const char *const names[MODES] = {"none", "white-balance", "reinhard", "icc"};

static enum mode mode_of(const char *name) {
    int mode = 0;
    while (mode < MODES && strcmp(name, names[mode]) != 0)
        mode++;
    return (enum mode)mode;
}

static bool is_target(const double mean[3], const double std[3]) {
    for (int c = 0; c < 3; c++)
        if (!mean || !std || !(fabs(mean[c]) < 1e6) || !(std[c] > 0 && std[c] < 1e6))
            return false;
    return true;
}

static ue_status check(ue_colour_sample *sample, const char *name, const double mean[3],
                       const double std[3], const ue_colour *colour) {
    if (colour->struct_size < sizeof *colour)
        return ue_fail(&sample->error, UE_BAD_OPTIONS, "struct_size of the colour is not set");
    if (mode_of(name) == MODES)
        return ue_fail(&sample->error, UE_BAD_OPTIONS,
                       "no colour mode '%.40s'; known: %s, %s, %s, %s", name, names[0], names[1],
                       names[2], names[3]);
    if (mode_of(name) == REINHARD && !is_target(mean, std))
        return ue_fail(
            &sample->error, UE_BAD_OPTIONS,
            "colour mode reinhard needs a target, and this bundle has none; use another");
    return UE_OK;
}

ue_status ue_colour_fit(ue_colour_sample *sample, const char *mode, const double mean[3],
                        const double std[3], ue_colour *colour, size_t *used) {
    static const double identity[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    if (!sample || !mode || !colour)
        return UE_NULL_POINTER;
    const ue_status status = check(sample, mode, mean, std, colour);
    if (status != UE_OK)
        return status;
    size_t fitted = 0;
    memcpy(colour->matrix, identity, sizeof identity);
    sample->warning[0] = 0;
    if (mode_of(mode) == WHITE_BALANCE)
        fitted = ue_white_balance(sample, colour->matrix);
    else if (mode_of(mode) == REINHARD)
        fitted = ue_reinhard(sample, mean, std, colour->matrix);
    colour->mode = names[mode_of(mode)];
    colour->warning = sample->warning[0] ? sample->warning : NULL;
    if (used)
        *used = fitted;
    return UE_OK;
}

/* The whole of result.json: the slide and how it was looked at, and then the verdict. */
#include "state.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void string(struct ue_json_out *out, const char *key, const char *value) {
    ue_out_key(out, key);
    ue_out_string(out, value);
}

static void text(struct ue_json_out *out, const char *key, struct ue_json_text value) {
    ue_out_key(out, key);
    ue_out_text(out, value);
}

static void whole(struct ue_json_out *out, const char *key, int64_t value) {
    ue_out_key(out, key);
    ue_out_whole(out, value);
}

static void real(struct ue_json_out *out, const char *key, double value) {
    ue_out_key(out, key);
    ue_out_real(out, value);
}

static void put_boolean(struct ue_json_out *out, const char *key, bool value) {
    ue_out_key(out, key);
    ue_out_boolean(out, value);
}

static void reals(struct ue_json_out *out, const double *values, size_t count) {
    ue_out_open(out, '[');
    for (size_t k = 0; k < count; k++)
        ue_out_real(out, values[k]);
    ue_out_close(out, ']');
}

static void write_time(struct ue_json_out *out) {
    const time_t now = time(NULL);
    char said[64] = "";
    struct tm parts;
#ifdef _WIN32
    if (!gmtime_s(&parts, &now))
#else
    if (gmtime_r(&now, &parts))
#endif
        strftime(said, sizeof said, "%Y-%m-%dT%H:%M:%S+00:00", &parts);
    string(out, "created", said);
}

static void write_slide(struct ue_json_out *out, const ue_session *session) {
    ue_out_key(out, "slide");
    ue_out_open(out, '{');
    string(out, "path", session->texts[UE_TEXT_PATH]);
    string(out, "name", session->texts[UE_TEXT_NAME]);
    string(out, "reader", "session");
    whole(out, "width", session->options.width);
    whole(out, "height", session->options.height);
    real(out, "um_px", session->options.um_px);
    string(out, "um_px_source", session->texts[UE_TEXT_UM_PX_SOURCE]);
    whole(out, "offset_x", 0);
    whole(out, "offset_y", 0);
    string(out, "size_bytes", NULL);
    string(out, "sha256", session->texts[UE_TEXT_SHA256]);
    ue_out_close(out, '}');
}

static void write_bundle(struct ue_json_out *out, const ue_bundle *bundle) {
    const struct ue_manifest *manifest = &bundle->manifest;
    const struct ue_listed_file *files = manifest->files.items;
    ue_out_key(out, "bundle");
    ue_out_open(out, '{');
    text(out, "name", manifest->name);
    text(out, "version", manifest->version);
    put_boolean(out, "trained", manifest->trained);
    put_boolean(out, "demonstration", manifest->demonstration);
    ue_out_key(out, "files");
    ue_out_open(out, '{');
    string(out, "bundle.json", bundle->sha256);
    for (size_t k = 0; k < manifest->files.count; k++)
        text(out, files[k].name.bytes, files[k].sha256);
    ue_out_close(out, '}');
    ue_out_close(out, '}');
}

static void write_preprocessing(struct ue_json_out *out, const ue_session *session) {
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    ue_out_key(out, "preprocessing");
    ue_out_open(out, '{');
    whole(out, "tile_px", (int64_t)manifest->tile.size_px);
    whole(out, "crop_px", (int64_t)manifest->tile.crop_px);
    real(out, "um_px", session->options.um_px * session->downsample);
    real(out, "downsample", session->downsample);
    string(out, "colour_mode", session->texts[UE_TEXT_COLOUR_MODE]);
    ue_out_key(out, "colour_matrix");
    ue_out_open(out, '[');
    for (size_t row = 0; row < 3; row++)
        reals(out, session->colour + 4 * row, 4);
    ue_out_close(out, ']');
    ue_out_key(out, "mean");
    reals(out, manifest->input.scale.mean, 3);
    ue_out_key(out, "std");
    reals(out, manifest->input.scale.std, 3);
    ue_out_close(out, '}');
}

static void write_engine(struct ue_json_out *out, const ue_session *session) {
    const ue_encoder *encoder = &session->screener->encoder;
    const char *const told[][2] = {{"name", encoder->name},
                                   {"version", encoder->version},
                                   {"precision", encoder->precision},
                                   {"device", encoder->device}};
    ue_out_key(out, "engine");
    ue_out_open(out, '{');
    for (size_t k = 0; k < 4; k++)
        string(out, told[k][0], told[k][1] ? told[k][1] : "");
    whole(out, "threads", (int64_t)encoder->threads);
    whole(out, "batch_size", (int64_t)encoder->batch);
    string(out, "normalise_variant", ue_normalise_variant(session->affine, encoder->dtype));
    string(out, "unverified", encoder->unverified);
    ue_out_close(out, '}');
}

static void write_timings(struct ue_json_out *out, const ue_session *session) {
    ue_out_key(out, "timings_seconds");
    ue_out_open(out, '{');
    real(out, "tiles", session->timings[0]);
    real(out, "encode", session->timings[1]);
    real(out, "aggregate", session->timings[2]);
    ue_out_close(out, '}');
}

static void write_settings(struct ue_json_out *out, const ue_session *session) {
    ue_out_key(out, "settings");
    ue_out_open(out, '{');
    ue_out_key(out, "max_tiles");
    if (session->max_tiles)
        ue_out_whole(out, (int64_t)session->max_tiles);
    else
        ue_out_null(out);
    ue_out_close(out, '}');
}

void ue_write_result(struct ue_json_out *out, const ue_session *session,
                     const struct ue_context *context, const struct ue_evidence *evidence) {
    const uint32_t number = ue_version();
    char version[40];
    snprintf(version, sizeof version, "%u.%u.%u", (unsigned)(number >> 16),
             (unsigned)(number >> 8 & 255), (unsigned)(number & 255));
    ue_out_open(out, '{');
    whole(out, "schema_version", 1);
    string(out, "unicas_edge_version", version);
    write_time(out);
    write_slide(out, session);
    write_bundle(out, session->screener->bundle);
    write_preprocessing(out, session);
    write_engine(out, session);
    string(out, "determinism",
           "bit-identical on one machine with the same engine, precision and thread count");
    write_settings(out, session);
    ue_write_verdict(out, &session->verdict, context, evidence);
    write_timings(out, session);
    ue_out_close(out, '}');
}

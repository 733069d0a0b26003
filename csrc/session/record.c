/* The whole of result.json: the slide and how it was looked at, and then the verdict. */
#include "state.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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
    ue_put_string(out, "created", said);
}

static void write_slide(struct ue_json_out *out, const ue_session *session) {
    ue_out_key(out, "slide");
    ue_out_open(out, '{');
    ue_put_string(out, "path", session->texts[UE_TEXT_PATH]);
    ue_put_string(out, "name", session->texts[UE_TEXT_NAME]);
    ue_put_string(out, "reader", "session");
    ue_put_whole(out, "width", session->options.width);
    ue_put_whole(out, "height", session->options.height);
    ue_put_real(out, "um_px", session->options.um_px);
    ue_put_string(out, "um_px_source", session->texts[UE_TEXT_UM_PX_SOURCE]);
    ue_put_whole(out, "offset_x", 0);
    ue_put_whole(out, "offset_y", 0);
    ue_put_string(out, "size_bytes", NULL);
    ue_put_string(out, "sha256", session->texts[UE_TEXT_SHA256]);
    ue_out_close(out, '}');
}

static void write_bundle(struct ue_json_out *out, const ue_bundle *bundle) {
    const struct ue_manifest *manifest = &bundle->manifest;
    const struct ue_listed_file *files = manifest->files.items;
    ue_out_key(out, "bundle");
    ue_out_open(out, '{');
    ue_put_text(out, "name", manifest->name);
    ue_put_text(out, "version", manifest->version);
    ue_put_boolean(out, "trained", manifest->trained);
    ue_put_boolean(out, "demonstration", manifest->demonstration);
    ue_out_key(out, "files");
    ue_out_open(out, '{');
    ue_put_string(out, "bundle.json", bundle->sha256);
    for (size_t k = 0; k < manifest->files.count; k++)
        ue_put_text(out, files[k].name.bytes, files[k].sha256);
    ue_out_close(out, '}');
    ue_out_close(out, '}');
}

static void write_preprocessing(struct ue_json_out *out, const ue_session *session) {
    const struct ue_manifest *manifest = &session->screener->bundle->manifest;
    ue_out_key(out, "preprocessing");
    ue_out_open(out, '{');
    ue_put_whole(out, "tile_px", (int64_t)manifest->tile.size_px);
    ue_put_whole(out, "crop_px", (int64_t)manifest->tile.crop_px);
    ue_put_real(out, "um_px", session->options.um_px * session->downsample);
    ue_put_real(out, "downsample", session->downsample);
    ue_put_string(out, "colour_mode", session->texts[UE_TEXT_COLOUR_MODE]);
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
        ue_put_string(out, told[k][0], told[k][1] ? told[k][1] : "");
    ue_put_whole(out, "threads", (int64_t)encoder->threads);
    ue_put_whole(out, "batch_size", (int64_t)encoder->batch);
    ue_put_string(out, "normalise_variant", ue_normalise_variant(session->affine, encoder->dtype));
    ue_put_string(out, "unverified", encoder->unverified);
    ue_out_close(out, '}');
}

static void write_timings(struct ue_json_out *out, const ue_session *session) {
    ue_out_key(out, "timings_seconds");
    ue_out_open(out, '{');
    ue_put_real(out, "tiles", session->timings[0]);
    ue_put_real(out, "encode", session->timings[1]);
    ue_put_real(out, "aggregate", session->timings[2]);
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
    ue_put_whole(out, "schema_version", 1);
    ue_put_string(out, "unicas_edge_version", version);
    write_time(out);
    write_slide(out, session);
    write_bundle(out, session->screener->bundle);
    write_preprocessing(out, session);
    write_engine(out, session);
    ue_put_string(out, "determinism",
                  "bit-identical on one machine with the same engine, precision and thread count");
    write_settings(out, session);
    ue_write_verdict(out, &session->verdict, context, evidence);
    write_timings(out, session);
    ue_out_close(out, '}');
}

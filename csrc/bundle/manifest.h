/*
 * What bundle.json says: unicas_edge/bundle/manifest.py, with its keys, types, bounds, defaults and
 * rules. Texts are UTF-8 and may hold NUL; those left out have no bytes, numbers left out are
 * UE_NO_NUMBER or NaN. An object that may be left out begins with `given`.
 */
#ifndef UE_MANIFEST_H
#define UE_MANIFEST_H

#include "aggregator/weights.h"
#include "encoders/choice.h"
#include "formats/json.h"
#include "system/error.h"

#define UE_NO_NUMBER UINT64_MAX

/* Elements of the manifest's own memory. */
struct ue_list {
    void *items;
    size_t count;
};

struct ue_affine_spec { /* also the colours' target: CIELAB statistics */
    bool given;
    double mean[3], std[3];
};

struct ue_tile_spec {
    uint64_t size_px, crop_px, field_tiles, max_tiles;
    double um_px;
};

struct ue_input_spec {
    unsigned layout, dtype; /* dtype: as ue_dtype */
    struct ue_affine_spec scale;
};

struct ue_colour_spec {
    unsigned standard; /* 0 none, 1 white-balance, 2 reinhard */
    struct ue_affine_spec target;
};

/* The same weights in another file. */
struct ue_encoder_form {
    unsigned backend, precision; /* ue_backend, ue_precision; and so below */
    unsigned format;             /* 0 onnx, 1 openvino */
    uint64_t calibration_tiles;
    struct ue_json_text file;
    struct ue_list kept; /* of ue_json_text */
};

struct ue_encoder_spec {
    unsigned format, precision, storage;
    uint64_t width;
    struct ue_json_text file, architecture, source_sha256;
    struct ue_list forms; /* of ue_encoder_form */
};

/* What converting the experts changed. */
struct ue_expert_storage {
    bool given;
    unsigned experts;
    uint64_t bags, tiles, changed_decisions;
    double max_probability_change, mean_probability_change;
    struct ue_json_text source_sha256;
};

struct ue_aggregator_spec {
    struct ue_json_text file;
    struct ue_config config;
    struct ue_expert_storage storage;
};

struct ue_conformal_spec {
    bool given;
    uint64_t slides;
    double coverage, positive_from, negative_to;
};

/* A diagnosis, and a region head, which has a file and may have no positive class. */
struct ue_task {
    struct ue_json_text name, file;
    struct ue_list classes; /* of ue_json_text */
    uint64_t positive, hidden;
    unsigned view;
    double threshold, temperature;
    struct ue_conformal_spec conformal;
};

struct ue_adequacy_spec {
    uint64_t min_cellular_tiles;
    double min_coverage, min_in_focus_share, focus_floor;
};

struct ue_training_data {
    struct ue_json_text name, licence;
    uint64_t count;
};

struct ue_evaluation {
    struct ue_json_text task, metric, protocol;
    double value, ci_low, ci_high;
};

struct ue_listed_file {
    struct ue_json_text name, sha256;
};

/* One engine and precision beside the reference. */
struct ue_run_spec {
    unsigned backend, precision;
    struct ue_json_text weights_sha256, engine_version, processor, isa;
    double cosine_mean, cosine_min, cosine_p01, centred_cosine_mean, overlap;
    double max_probability_change, tiles_per_second, reference_tiles_per_second, peak_mb;
    uint64_t changed_decisions;
};

struct ue_verification_spec {
    bool given;
    struct ue_json_text encoder_sha256, aggregator_sha256;
    uint64_t slides, tiles;
    struct ue_gate gate;
    struct ue_list runs; /* of ue_run_spec */
};

struct ue_knowledge_spec {
    bool given;
    struct ue_json_text file, encoder_sha256;
    struct ue_list kinds, aggregated; /* of ue_json_text */
    double temperature, min_cell_share, preparation_mm2, distance_limit, um_px_tolerance;
    double cell_error;
    uint64_t min_squamous_cells;
};

struct ue_manifest {
    uint64_t schema_version;
    struct ue_json_text name, version, licence, intended_use;
    bool trained, demonstration;
    struct ue_tile_spec tile;
    struct ue_input_spec input;
    struct ue_colour_spec colour;
    struct ue_encoder_spec encoder;
    struct ue_aggregator_spec aggregator;
    struct ue_list tasks; /* of ue_task */
    struct ue_adequacy_spec adequacy;
    struct ue_list training_data, evaluation; /* of ue_training_data, ue_evaluation */
    struct ue_list files;                     /* of ue_listed_file */
    struct ue_verification_spec verification;
    struct ue_list heads; /* of ue_task */
    struct ue_knowledge_spec knowledge;
    struct ue_chunk *blocks; /* what lists lie in */
};

/*
 * Read `length` bytes that are overwritten and stay as long as the manifest, which points into them
 * (text[length] is NUL). `file` is what messages call the file. What pydantic accepts is accepted,
 * except numbers of more than 100 characters, whole ones from 2^64 - 1 on, and -0 for a whole one,
 * and a schema_version of 1.0 or true.
 */
ue_status ue_manifest_parse(struct ue_manifest *manifest, char *text, size_t length,
                            const char *file, struct ue_error *error);
void ue_manifest_free(struct ue_manifest *manifest);

bool ue_same_text(struct ue_json_text a, struct ue_json_text b);
/* The SHA-256 that a file is listed with, NULL where it is not listed. */
const struct ue_json_text *ue_manifest_digest(const struct ue_manifest *manifest,
                                              struct ue_json_text name);

/* rules.c: NULL, or which of the rules between keys is broken. */
const char *ue_manifest_broken_rule(const struct ue_manifest *manifest);

#endif

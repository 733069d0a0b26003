/* The tables of bundle.json's keys, inner objects first: what manifest.py says, line by line. */
#include <float.h>

#include "fields.h"

#define AT(type, member) offsetof(struct type, member)
#define NAME_TEXT UE_TEXT, .low = 1, .high = 200
#define LONG_TEXT UE_TEXT, .low = 1, .high = 5000
#define DIGEST UE_TEXT, .high = 64, .pattern = UE_DIGEST
#define FILE_PATH UE_TEXT, .high = 200, .pattern = UE_PATH
#define WORD UE_TEXT, .low = 1, .high = 64, .pattern = UE_WORD
#define SHARE UE_REAL, .high = 1
#define COSINE UE_REAL, .low = -1, .high = 1
#define POSITIVE UE_REAL, .high = DBL_MAX, .above = true
#define NOT_NEGATIVE UE_REAL, .high = DBL_MAX
#define ANY_REAL UE_REAL, .low = -DBL_MAX, .high = DBL_MAX
#define ANY_WHOLE UE_WHOLE, .high = DBL_MAX
#define WHOLE(from, to) UE_WHOLE, .low = (from), .high = (to)
#define OBJECT(rules) UE_OBJECT, .object = (rules)
#define MAYBE(rules) UE_OBJECT, .object = (rules), .marked = true, .nullable = true
#define LIST(rule, type, from, to) \
    UE_LIST, .element = (rule), .size = sizeof(struct type), .low = (from), .high = (to)

static const char *const backends[] = {[UE_ONNXRUNTIME] = "onnxruntime",
                                       [UE_OPENVINO] = "openvino",
                                       [UE_ONNXRUNTIME_CUDA] = "onnxruntime-cuda",
                                       [UE_ONNXRUNTIME_TENSORRT] = "onnxruntime-tensorrt",
                                       [UE_BACKENDS] = NULL};
static const char *const precisions[] = {[UE_INT8] = "int8", [UE_INT8W] = "int8w",
                                         [UE_BF16] = "bf16", [UE_FP16] = "fp16",
                                         [UE_FP32] = "fp32", [UE_PRECISIONS] = NULL};
static const char *const form_formats[] = {"onnx", "openvino", NULL};
static const char *const encoder_formats[] = {"onnx", NULL};
static const char *const storages[] = {"fp32", "fp16", "int8", NULL};
static const char *const expert_storages[] = {"fp32", "fp16", "bf16", "int8", NULL};
static const char *const layouts[] = {"NCHW", NULL};
static const char *const dtypes[] = {"float32", "float16", "uint8", NULL};
static const char *const colours[] = {"none", "white-balance", "reinhard", NULL};
static const char *const views[] = {"cell", "tile", NULL};

static const struct ue_field_rule name_item = {"", NAME_TEXT};
static const struct ue_field_rule kind_item = {"", UE_TEXT, .low = 1, .high = 32,
                                               .pattern = UE_WORD};

static const struct ue_field_rule target_rules[] = {
    {"mean", UE_TRIPLE, AT(ue_affine_spec, mean), .low = -DBL_MAX, .high = DBL_MAX},
    {"std", UE_TRIPLE, AT(ue_affine_spec, std), .high = DBL_MAX, .above = true},
    {0}};

static const struct ue_field_rule tile_rules[] = {
    {"size_px", WHOLE(16, 4096), .offset = AT(ue_tile_spec, size_px)},
    {"crop_px", WHOLE(16, 4096), .offset = AT(ue_tile_spec, crop_px)},
    {"um_px", UE_REAL, AT(ue_tile_spec, um_px), .low = 0.01, .high = 100},
    {"field_tiles", WHOLE(1, 64), .offset = AT(ue_tile_spec, field_tiles)},
    {"max_tiles", WHOLE(1, 1000000), .offset = AT(ue_tile_spec, max_tiles)},
    {0}};

static const struct ue_field_rule input_rules[] = {
    {"layout", UE_CHOICE, AT(ue_input_spec, layout), .words = layouts},
    {"dtype", UE_CHOICE, AT(ue_input_spec, dtype), .words = dtypes},
    {"mean", UE_TRIPLE, AT(ue_input_spec, scale.mean), .low = -DBL_MAX, .high = DBL_MAX},
    {"std", UE_TRIPLE, AT(ue_input_spec, scale.std), .high = DBL_MAX, .above = true},
    {0}};

static const struct ue_field_rule colour_rules[] = {
    {"default", UE_CHOICE, AT(ue_colour_spec, standard), .words = colours},
    {"target", MAYBE(target_rules), .offset = AT(ue_colour_spec, target)},
    {0}};

static const struct ue_field_rule form_rules[] = {
    {"backend", UE_CHOICE, AT(ue_encoder_form, backend), .words = backends},
    {"precision", UE_CHOICE, AT(ue_encoder_form, precision), .words = precisions},
    {"file", FILE_PATH, .offset = AT(ue_encoder_form, file)},
    {"format", UE_CHOICE, AT(ue_encoder_form, format), .words = form_formats},
    {"calibration_tiles", WHOLE(0, 10000000), .offset = AT(ue_encoder_form, calibration_tiles)},
    {"kept", LIST(&name_item, ue_json_text, 0, 10000), .offset = AT(ue_encoder_form, kept)},
    {0}};
static const struct ue_field_rule form_item = {"", OBJECT(form_rules)};

static const struct ue_field_rule encoder_rules[] = {
    {"file", FILE_PATH, .offset = AT(ue_encoder_spec, file)},
    {"format", UE_CHOICE, AT(ue_encoder_spec, format), .words = encoder_formats},
    {"width", WHOLE(1, 65536), .offset = AT(ue_encoder_spec, width)},
    {"precision", UE_CHOICE, AT(ue_encoder_spec, precision), .words = precisions},
    {"architecture", NAME_TEXT, .offset = AT(ue_encoder_spec, architecture), .optional = true,
     .nullable = true},
    {"source_sha256", DIGEST, .offset = AT(ue_encoder_spec, source_sha256), .optional = true,
     .nullable = true},
    {"storage", UE_CHOICE, AT(ue_encoder_spec, storage), .words = storages, .optional = true,
     .nullable = true},
    {"forms", LIST(&form_item, ue_encoder_form, 0, 32), .offset = AT(ue_encoder_spec, forms),
     .optional = true},
    {0}};

static const struct ue_field_rule storage_rules[] = {
    {"experts", UE_CHOICE, AT(ue_expert_storage, experts), .words = expert_storages},
    {"source_sha256", DIGEST, .offset = AT(ue_expert_storage, source_sha256)},
    {"bags", WHOLE(0, 1000000), .offset = AT(ue_expert_storage, bags)},
    {"tiles", ANY_WHOLE, .offset = AT(ue_expert_storage, tiles)},
    {"max_probability_change", SHARE, .offset = AT(ue_expert_storage, max_probability_change),
     .nullable = true},
    {"mean_probability_change", SHARE, .offset = AT(ue_expert_storage, mean_probability_change),
     .nullable = true},
    {"changed_decisions", ANY_WHOLE, .offset = AT(ue_expert_storage, changed_decisions),
     .nullable = true},
    {0}};

static const struct ue_field_rule aggregator_rules[] = {
    {"file", FILE_PATH, .offset = AT(ue_aggregator_spec, file)},
    {"config", UE_CONFIG, .offset = AT(ue_aggregator_spec, config)},
    {"storage", MAYBE(storage_rules), .offset = AT(ue_aggregator_spec, storage), .optional = true},
    {0}};

static const struct ue_field_rule conformal_rules[] = {
    {"coverage", SHARE, .offset = AT(ue_conformal_spec, coverage)},
    {"slides", WHOLE(1, 1000000), .offset = AT(ue_conformal_spec, slides)},
    {"positive_from", SHARE, .offset = AT(ue_conformal_spec, positive_from)},
    {"negative_to", SHARE, .offset = AT(ue_conformal_spec, negative_to)},
    {0}};

/* `temperature` is the first and only member of what is read. */
static const struct ue_field_rule calibration_rules[] = {
    {"temperature", UE_REAL, 0, .high = 1000, .above = true}, {0}};

static const struct ue_field_rule task_rules[] = {
    {"name", WORD, .offset = AT(ue_task, name)},
    {"classes", LIST(&name_item, ue_json_text, 2, 1024), .offset = AT(ue_task, classes)},
    {"positive", ANY_WHOLE, .offset = AT(ue_task, positive)},
    {"threshold", SHARE, .offset = AT(ue_task, threshold)},
    {"calibration", OBJECT(calibration_rules), .offset = AT(ue_task, temperature)},
    {"conformal", MAYBE(conformal_rules), .offset = AT(ue_task, conformal), .optional = true},
    {0}};
static const struct ue_field_rule task_item = {"", OBJECT(task_rules)};

static const struct ue_field_rule head_rules[] = {
    {"name", WORD, .offset = AT(ue_task, name)},
    {"file", FILE_PATH, .offset = AT(ue_task, file)},
    {"classes", LIST(&name_item, ue_json_text, 2, 1024), .offset = AT(ue_task, classes)},
    {"hidden", WHOLE(1, 65536), .offset = AT(ue_task, hidden)},
    {"view", UE_CHOICE, AT(ue_task, view), .words = views},
    {"positive", ANY_WHOLE, .offset = AT(ue_task, positive), .nullable = true},
    {"threshold", SHARE, .offset = AT(ue_task, threshold), .nullable = true},
    {"calibration", OBJECT(calibration_rules), .offset = AT(ue_task, temperature)},
    {0}};
static const struct ue_field_rule head_item = {"", OBJECT(head_rules)};

static const struct ue_field_rule adequacy_rules[] = {
    {"min_coverage", SHARE, .offset = AT(ue_adequacy_spec, min_coverage)},
    {"min_cellular_tiles", WHOLE(0, 1000000), .offset = AT(ue_adequacy_spec, min_cellular_tiles)},
    {"min_in_focus_share", SHARE, .offset = AT(ue_adequacy_spec, min_in_focus_share)},
    {"focus_floor", NOT_NEGATIVE, .offset = AT(ue_adequacy_spec, focus_floor)},
    {0}};

static const struct ue_field_rule data_rules[] = {
    {"name", NAME_TEXT, .offset = AT(ue_training_data, name)},
    {"licence", NAME_TEXT, .offset = AT(ue_training_data, licence)},
    {"count", ANY_WHOLE, .offset = AT(ue_training_data, count)},
    {0}};
static const struct ue_field_rule data_item = {"", OBJECT(data_rules)};

static const struct ue_field_rule evaluation_rules[] = {
    {"task", NAME_TEXT, .offset = AT(ue_evaluation, task)},
    {"metric", NAME_TEXT, .offset = AT(ue_evaluation, metric)},
    {"value", ANY_REAL, .offset = AT(ue_evaluation, value)},
    {"ci_low", ANY_REAL, .offset = AT(ue_evaluation, ci_low)},
    {"ci_high", ANY_REAL, .offset = AT(ue_evaluation, ci_high)},
    {"protocol", LONG_TEXT, .offset = AT(ue_evaluation, protocol)},
    {0}};
static const struct ue_field_rule evaluation_item = {"", OBJECT(evaluation_rules)};

#define GATE(key, what) {#key, what, .offset = AT(ue_gate, key), .optional = true}
static const struct ue_field_rule gate_rules[] = {GATE(min_cosine_mean, COSINE),
                                                  GATE(min_cosine, COSINE),
                                                  GATE(min_centred_cosine_mean, COSINE),
                                                  GATE(min_overlap, SHARE),
                                                  GATE(max_probability_change, SHARE),
                                                  GATE(max_changed_decisions, ANY_WHOLE),
                                                  {0}};

#define RUN(key, what) {#key, what, .offset = AT(ue_run_spec, key)}
static const struct ue_field_rule run_rules[] = {
    {"backend", UE_CHOICE, AT(ue_run_spec, backend), .words = backends},
    {"precision", UE_CHOICE, AT(ue_run_spec, precision), .words = precisions},
    RUN(weights_sha256, DIGEST),
    RUN(engine_version, NAME_TEXT),
    RUN(processor, NAME_TEXT),
    RUN(isa, NAME_TEXT),
    RUN(cosine_mean, COSINE),
    RUN(cosine_min, COSINE),
    RUN(cosine_p01, COSINE),
    RUN(centred_cosine_mean, COSINE),
    RUN(overlap, SHARE),
    RUN(max_probability_change, SHARE),
    RUN(changed_decisions, ANY_WHOLE),
    RUN(tiles_per_second, NOT_NEGATIVE),
    RUN(reference_tiles_per_second, NOT_NEGATIVE),
    RUN(peak_mb, NOT_NEGATIVE),
    {0}};
static const struct ue_field_rule run_item = {"", OBJECT(run_rules)};

static const struct ue_field_rule verification_rules[] = {
    {"encoder_sha256", DIGEST, .offset = AT(ue_verification_spec, encoder_sha256)},
    {"aggregator_sha256", DIGEST, .offset = AT(ue_verification_spec, aggregator_sha256)},
    {"slides", WHOLE(1, 1000000), .offset = AT(ue_verification_spec, slides)},
    {"tiles", WHOLE(0, 10000000), .offset = AT(ue_verification_spec, tiles)},
    {"gate", OBJECT(gate_rules), .offset = AT(ue_verification_spec, gate)},
    {"runs", LIST(&run_item, ue_run_spec, 0, 256), .offset = AT(ue_verification_spec, runs)},
    {0}};

#define KNOWS(key, ...) {#key, __VA_ARGS__, .offset = AT(ue_knowledge_spec, key)}
static const struct ue_field_rule knowledge_rules[] = {
    KNOWS(file, FILE_PATH),
    KNOWS(encoder_sha256, DIGEST),
    KNOWS(kinds, LIST(&kind_item, ue_json_text, 2, 64)),
    KNOWS(aggregated, LIST(&kind_item, ue_json_text, 1, 64)),
    {"calibration", OBJECT(calibration_rules), .offset = AT(ue_knowledge_spec, temperature)},
    KNOWS(min_cell_share, SHARE),
    KNOWS(min_squamous_cells, WHOLE(0, 1000000000)),
    KNOWS(preparation_mm2, UE_REAL, .high = 1000000, .above = true),
    KNOWS(distance_limit, POSITIVE),
    KNOWS(um_px_tolerance, POSITIVE, .optional = true, .nullable = true),
    KNOWS(cell_error, UE_REAL, .high = 1000, .optional = true, .nullable = true),
    {0}};

#define KEY(key, ...) {#key, __VA_ARGS__, .offset = AT(ue_manifest, key)}
const struct ue_field_rule ue_manifest_rules[] = {
    KEY(schema_version, WHOLE(1, 1)),
    KEY(name, NAME_TEXT),
    KEY(version, NAME_TEXT),
    KEY(licence, NAME_TEXT),
    KEY(intended_use, LONG_TEXT),
    KEY(trained, UE_BOOLEAN),
    KEY(demonstration, UE_BOOLEAN, .optional = true),
    KEY(tile, OBJECT(tile_rules)),
    KEY(input, OBJECT(input_rules)),
    KEY(colour, OBJECT(colour_rules)),
    KEY(encoder, OBJECT(encoder_rules)),
    KEY(aggregator, OBJECT(aggregator_rules)),
    KEY(tasks, LIST(&task_item, ue_task, 1, 64)),
    {"detector", UE_NULL_ONLY, .offset = 0},
    KEY(adequacy, OBJECT(adequacy_rules)),
    KEY(training_data, LIST(&data_item, ue_training_data, 0, 1000)),
    KEY(evaluation, LIST(&evaluation_item, ue_evaluation, 0, 1000)),
    KEY(files, UE_DIGESTS, .low = 1, .high = 64),
    KEY(verification, MAYBE(verification_rules), .optional = true),
    KEY(heads, LIST(&head_item, ue_task, 0, 64), .optional = true),
    KEY(knowledge, MAYBE(knowledge_rules), .optional = true),
    {0}};

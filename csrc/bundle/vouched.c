#include "vouched.h"

#include <string.h>

#include "formats/sha256.h"

/* ---- the digest of all that a form runs ------------------------------------------------------ */

static bool ends_in(struct ue_json_text text, const char *end, size_t *stem) {
    const size_t tail = strlen(end);
    *stem = text.length < tail ? 0 : text.length - tail;
    return text.length >= tail && !memcmp(text.bytes + *stem, end, tail);
}

/*
 * Whether a file belongs to a model: it is the model, its name begins with the model's whole name
 * (encoder.onnx.data), or it is an IR's .bin.
 */
static bool belongs(struct ue_json_text file, struct ue_json_text model) {
    size_t stem;
    if (file.length > model.length && file.bytes[model.length] == '.' &&
        !memcmp(file.bytes, model.bytes, model.length))
        return true;
    if (!ends_in(model, ".xml", &stem))
        stem = model.length;
    return ue_same_text(file, model) ||
           (file.length == stem + 4 && !memcmp(file.bytes, model.bytes, stem) &&
            !memcmp(file.bytes + stem, ".bin", 4));
}

/* In the order of names, which are plain letters; NULL: none comes behind `last`. */
static const struct ue_listed_file *next_of(const struct ue_manifest *manifest,
                                            struct ue_json_text model,
                                            const struct ue_listed_file *last) {
    const struct ue_listed_file *files = manifest->files.items, *next = NULL;
    for (size_t i = 0; i < manifest->files.count; i++)
        if (belongs(files[i].name, model) &&
            (!last || strcmp(files[i].name.bytes, last->name.bytes) > 0) &&
            (!next || strcmp(files[i].name.bytes, next->name.bytes) < 0))
            next = &files[i];
    return next;
}

/* Of one file its own digest, of several that of all digests. */
static void digest(const struct ue_manifest *manifest, struct ue_json_text model,
                   char sha256[UE_SHA256_HEX]) {
    struct ue_sha256 hash;
    size_t count = 0;
    const struct ue_listed_file *file = NULL, *only = NULL;
    ue_sha256_start(&hash);
    while ((file = next_of(manifest, model, file))) {
        ue_sha256_add(&hash, file->sha256.bytes, file->sha256.length);
        only = file;
        count++;
    }
    ue_sha256_finish(&hash, sha256);
    if (count == 1)
        memcpy(sha256, only->sha256.bytes, UE_SHA256_HEX);
}

/* ---- the evidence ---------------------------------------------------------------------------- */

/* NULL for a text with a NUL in it, which no machine says of itself. */
static const char *plain(struct ue_json_text text) {
    return strlen(text.bytes) == text.length ? text.bytes : NULL;
}

static struct ue_engine_run read_run(const struct ue_run_spec *spec) {
    return (struct ue_engine_run){
        .of = {(enum ue_backend)spec->backend, (enum ue_precision)spec->precision,
               spec->weights_sha256.bytes},
        .isa = plain(spec->isa),
        .cosine_mean = spec->cosine_mean,
        .cosine_min = spec->cosine_min,
        .centred_cosine_mean = spec->centred_cosine_mean,
        .overlap = spec->overlap,
        .max_probability_change = spec->max_probability_change,
        .changed_decisions = spec->changed_decisions,
    };
}

static void read_verification(struct ue_vouched *evidence,
                              const struct ue_verification_spec *spec) {
    const struct ue_run_spec *runs = spec->runs.items;
    for (size_t i = 0; i < spec->runs.count; i++)
        evidence->runs[i] = read_run(&runs[i]);
    evidence->verification = (struct ue_verification){
        .encoder_sha256 = spec->encoder_sha256.bytes,
        .aggregator_sha256 = spec->aggregator_sha256.bytes,
        .gate = spec->gate,
        .runs = evidence->runs,
        .run_count = spec->runs.count,
    };
    evidence->forms.verification = &evidence->verification;
}

void ue_vouched_read(struct ue_vouched *evidence, const struct ue_manifest *manifest) {
    const struct ue_encoder_spec *encoder = &manifest->encoder;
    const struct ue_encoder_form *forms = encoder->forms.items;
    digest(manifest, encoder->file, evidence->sha256[0]);
    for (size_t i = 0; i < encoder->forms.count; i++) {
        digest(manifest, forms[i].file, evidence->sha256[1 + i]);
        evidence->candidates[i] =
            (struct ue_candidate){(enum ue_backend)forms[i].backend,
                                  (enum ue_precision)forms[i].precision, evidence->sha256[1 + i]};
    }
    evidence->forms = (struct ue_encoder_forms){
        .reference = {UE_ONNXRUNTIME, (enum ue_precision)encoder->precision, evidence->sha256[0]},
        .forms = evidence->candidates,
        .form_count = encoder->forms.count,
        .aggregator_sha256 = ue_manifest_digest(manifest, manifest->aggregator.file)->bytes,
    };
    if (manifest->verification.given)
        read_verification(evidence, &manifest->verification);
}

struct ue_json_text ue_vouched_file(const struct ue_vouched *evidence,
                                    const struct ue_manifest *manifest,
                                    struct ue_candidate chosen) {
    const struct ue_encoder_form *forms = manifest->encoder.forms.items;
    for (size_t i = 0; i < manifest->encoder.forms.count; i++)
        if (chosen.sha256 == evidence->sha256[1 + i])
            return forms[i].file;
    return manifest->encoder.file;
}

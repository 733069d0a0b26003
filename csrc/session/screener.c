/* A bundle and an encoder, loaded once, for any number of slides. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "bundle/files.h"

/* Of a knowledge: the covariance of tokens of 4096 has 64 MiB. */
static const uint64_t most_knowledge_bytes = (uint64_t)68 << 20;

/* ---- the encoder's workers ------------------------------------------------------------------- */

bool ue_screener_enter(ue_screener *screener, ue_intake *intake) {
    bool wanted;
    ue_lock(&screener->lock);
    while ((wanted = !ue_intake_cancelled(intake)) &&
           screener->running >= screener->encoder.workers)
        ue_wait_for(&screener->freed, &screener->lock, UE_POLL_MS);
    screener->running += wanted;
    ue_unlock(&screener->lock);
    return wanted;
}

void ue_screener_leave(ue_screener *screener) {
    ue_lock(&screener->lock);
    screener->running--;
    ue_wake_all(&screener->freed);
    ue_unlock(&screener->lock);
}

/* ---- opening --------------------------------------------------------------------------------- */

static ue_status check(const ue_bundle *bundle, const ue_encoder *encoder) {
    if (!bundle->usable)
        return ue_refuse(UE_BAD_BUNDLE, "the bundle was not opened");
    const struct ue_manifest *manifest = &bundle->manifest;
    if (encoder->struct_size < sizeof *encoder || !encoder->encode || !encoder->batch ||
        encoder->batch > UE_MAX_BATCH || !encoder->workers || encoder->workers > UE_MAX_WORKERS ||
        encoder->batch > SIZE_MAX / 12 / manifest->tile.crop_px / manifest->tile.crop_px)
        return ue_refuse(UE_BAD_OPTIONS, "the encoder's table is not possible; open it first");
    if (encoder->crop != manifest->tile.crop_px || encoder->width != manifest->encoder.width ||
        (unsigned)encoder->dtype != manifest->input.dtype)
        return ue_refuse(UE_BAD_OPTIONS,
                         "the encoder takes %zu pixels and gives tokens of %zu numbers; this "
                         "bundle needs %llu and %llu, and the planes of its input.dtype",
                         encoder->crop, encoder->width, (unsigned long long)manifest->tile.crop_px,
                         (unsigned long long)manifest->encoder.width);
    return UE_OK;
}

static const struct ue_listed_file *listed(const struct ue_manifest *manifest,
                                           struct ue_json_text name) {
    const struct ue_listed_file *files = manifest->files.items;
    for (size_t k = 0; k < manifest->files.count; k++)
        if (ue_same_text(files[k].name, name))
            return &files[k];
    return NULL;
}

static ue_status load_knowledge(ue_screener *screener) {
    const struct ue_manifest *manifest = &screener->bundle->manifest;
    const struct ue_knowledge_spec *spec = &manifest->knowledge;
    struct ue_error error = {0};
    struct ue_checked found;
    if (!spec->given)
        return UE_OK;
    ue_status status = ue_bundle_read(screener->bundle, listed(manifest, spec->file),
                                      most_knowledge_bytes, true, &found, &error);
    if (!status) {
        status = ue_knowledge_load(&screener->knowledge, spec, (size_t)manifest->encoder.width,
                                   found.kept.bytes, found.kept.size, &error);
        free(found.kept.bytes);
    }
    screener->knows = !status;
    return status ? ue_refuse(status, "%s", error.text) : UE_OK;
}

static ue_status load(ue_screener *screener, const ue_aggregator_options *options) {
    const ue_status status = ue_bundle_aggregator(screener->bundle, options, &screener->aggregator);
    if (status) {
        const char *why = screener->aggregator ? ue_aggregator_error(screener->aggregator) : "";
        return ue_refuse(status, "%s", *why ? why : ue_status_text(status));
    }
    return load_knowledge(screener);
}

static ue_screener *made(const ue_bundle *bundle, const ue_encoder *encoder) {
    ue_screener *screener = calloc(1, sizeof *screener);
    if (!screener)
        return NULL;
    screener->bundle = bundle;
    screener->encoder = *encoder;
    screener->process = ue_process();
    if (!ue_mutex_init(&screener->lock)) {
        if (!ue_condition_init(&screener->freed))
            return screener;
        ue_mutex_destroy(&screener->lock);
    }
    free(screener);
    return NULL;
}

ue_status ue_screener_open(const ue_bundle *bundle, const ue_encoder *encoder,
                           const ue_aggregator_options *options, ue_screener **out) {
    if (out)
        *out = NULL;
    if (!bundle || !encoder || !out)
        return ue_refuse(UE_NULL_POINTER, "a pointer is NULL");
    ue_status status = check(bundle, encoder);
    if (status)
        return status;
    ue_screener *screener = made(bundle, encoder);
    if (!screener)
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the screener");
    status = load(screener, options);
    if (status)
        ue_screener_close(screener);
    else
        *out = screener;
    return status;
}

void ue_screener_close(ue_screener *screener) {
    if (!screener)
        return;
    ue_aggregator_destroy(screener->aggregator);
    ue_knowledge_free(&screener->knowledge);
    if (screener->process == ue_process()) { /* in a fork a thread that is not there may wait */
        ue_condition_destroy(&screener->freed);
        ue_mutex_destroy(&screener->lock);
    }
    free(screener);
}

/* Any encoder's table, a host's own included: is it possible, what does it give. */
#include <math.h>
#include <string.h>

#include "said.h"

/* Why a table cannot be used; NULL: it can. A table of an older library may be shorter one day. */
static const char *objection(const ue_encoder *encoder) {
    if (encoder->struct_size < sizeof *encoder || encoder->struct_size % sizeof(void *))
        return "struct_size is not one that this version knows";
    if (!encoder->encode)
        return "it has no encode: it was closed, or never opened";
    if (!encoder->batch || encoder->batch > UE_MAX_BATCH)
        return "the batch must be 1 to 4096 tiles";
    if (!encoder->crop || encoder->crop > UE_MAX_SIDE)
        return "the crop must be 1 to 65535 pixels";
    if (!encoder->width || encoder->width > UE_MAX_TOKEN_WIDTH)
        return "the width must be 1 to 65536";
    if (!encoder->workers || encoder->workers > UE_MAX_WORKERS)
        return "there must be 1 to 1024 workers";
    return encoder->dtype > UE_UINT8 ? "dtype is not one of ue_dtype" : NULL;
}

static const char *name_of(const ue_encoder *encoder) {
    return encoder->name ? encoder->name : "the encoder";
}

/* What a table's encode said of its failure, kept where ue_encoder_error finds it. */
static ue_status explain(const ue_encoder *encoder, ue_status status) {
    const char *text = encoder->error ? encoder->error(encoder->self) : NULL;
    if (text == ue_encoder_error()) /* a built-in one: it stands there already */
        return status;
    return ue_encoder_fail(status, "%s: %s", name_of(encoder),
                           text && *text ? text : ue_status_text(status));
}

static ue_status check_tokens(const ue_encoder *encoder, const float *tokens) {
    for (size_t row = 0; row < encoder->batch; row++)
        for (size_t k = 0; k < encoder->width; k++)
            if (!isfinite(tokens[row * encoder->width + k]))
                return ue_encoder_fail(UE_BAD_TOKENS,
                                       "%s: the token of tile %zu of the batch is not finite; "
                                       "check the encoder's precision and the model's hash",
                                       name_of(encoder), row);
    return UE_OK;
}

ue_status ue_encoder_encode(const ue_encoder *encoder, const void *planes, float *tokens) {
    if (!encoder || !planes || !tokens)
        return ue_encoder_fail(UE_NULL_POINTER, "a pointer is NULL");
    const char *why = objection(encoder);
    if (why)
        return ue_encoder_fail(UE_BAD_OPTIONS, "not a possible encoder: %s", why);
    const ue_status status = encoder->encode(encoder->self, planes, tokens);
    return status ? explain(encoder, status) : check_tokens(encoder, tokens);
}

void ue_encoder_close(ue_encoder *encoder) {
    if (!encoder || encoder->struct_size < sizeof *encoder)
        return;
    if (encoder->destroy)
        encoder->destroy(encoder->self);
    memset(encoder, 0, sizeof *encoder);
    encoder->struct_size = sizeof *encoder;
}

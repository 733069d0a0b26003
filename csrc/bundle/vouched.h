/* What a manifest says of its encoder's forms and the evidence for them, as the choice takes it. */
#ifndef UE_VOUCHED_H
#define UE_VOUCHED_H

#include "encoders/choice.h"
#include "manifest.h"

/* It points into itself and into the manifest, so it is not copied. */
struct ue_vouched {
    struct ue_encoder_forms forms; /* what the choice takes */
    struct ue_candidate candidates[UE_MAX_FORMS];
    struct ue_verification verification;
    struct ue_engine_run runs[UE_MAX_RUNS];
    char sha256[1 + UE_MAX_FORMS][65]; /* of the reference, then of the forms */
};

void ue_vouched_read(struct ue_vouched *evidence, const struct ue_manifest *manifest);

/* The file of one that was chosen: among `forms` by the digest that it points to. */
struct ue_json_text ue_vouched_file(const struct ue_vouched *evidence,
                                    const struct ue_manifest *manifest, struct ue_candidate chosen);

#endif

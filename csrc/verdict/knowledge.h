/*
 * What a bundle knows of the encoder's tokens: linear readings of them, in float64, and how far
 * they lie from those it was made of. unicas_edge/adequacy/knowledge.py says what the file holds.
 */
#ifndef UE_KNOWLEDGE_H
#define UE_KNOWLEDGE_H

#include "bundle/manifest.h"

/* float64, K kinds and tokens of D numbers: [K][D], [K], [D], [D][D], [D], [1], [D], [1]. */
struct ue_knowledge_parts {
    const double *kinds_weight, *kinds_bias, *mean, *covariance;
    const double *cells_weight, *cells_bias, *scale_weight, *scale_bias;
};

struct ue_knowledge {
    size_t width, kinds;
    double *numbers;     /* all of the following */
    double *rows;        /* [K + 2][D]: what tells each kind, cells, and the scale */
    double *bias;        /* [K + 2] */
    double *mean;        /* [D] */
    double *factor;      /* [D][D]: the transposed Cholesky factor of the covariance */
    uint8_t *aggregated; /* [K]: whether tiles of the kind may carry a decision */
};

/*
 * Make it of its parts. UE_BAD_WEIGHTS for a covariance that is not symmetric and positive
 * definite. ue_knowledge_free may be called in any case.
 */
ue_status ue_knowledge_make(struct ue_knowledge *knowledge, size_t kinds, size_t width,
                            const uint8_t *aggregated, const struct ue_knowledge_parts *parts,
                            struct ue_error *error);
void ue_knowledge_free(struct ue_knowledge *knowledge);

/* knowledge_file.c: make it of the bytes of its file. */
ue_status ue_knowledge_load(struct ue_knowledge *knowledge, const struct ue_knowledge_spec *spec,
                            size_t width, const void *bytes, size_t size, struct ue_error *error);

#endif

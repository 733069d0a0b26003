/* Which keys and shapes a configuration asks for, and where in ue_weights each tensor goes:
 * unicas_edge/weights.py: parameter_shapes. */
#ifndef UE_PARAMETERS_H
#define UE_PARAMETERS_H

#include "misfits.h"
#include "weights.h"

/* Tensors that cannot be used where they lie get a copy whose start is aligned so. */
enum { UE_COPY_ALIGNMENT = 64 };

struct ue_binder {
    struct ue_safetensors *file;
    struct ue_misfits *misfits;
    struct ue_weights *weights; /* config is filled, its arrays are allocated */
    unsigned char *copies;      /* aligned; NULL: only check, and count what copies need */
    size_t copied;              /* bytes of copies so far */
    bool too_large;             /* copies would not fit into memory at all */
};

/*
 * Look every parameter up, note what does not fit, point `weights` to it. The first call, without
 * `copies`, leaves those pointers NULL whose tensors need one.
 */
void ue_bind_parameters(struct ue_binder *binder);

#endif

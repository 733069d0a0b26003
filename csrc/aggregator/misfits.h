/* What does not fit between a file and its configuration, gathered for one message. */
#ifndef UE_MISFITS_H
#define UE_MISFITS_H

#include "formats/safetensors.h"

enum ue_misfit { UE_MISSING, UE_UNEXPECTED, UE_UNLIKE, UE_MISFITS };

/* The first few of each kind in words, and how many there are. */
struct ue_misfits {
    size_t count[UE_MISFITS];
    char words[UE_MISFITS][3][240];
};

void ue_missing(struct ue_misfits *misfits, const char *key, const struct ue_shape *wanted);
void ue_unexpected(struct ue_misfits *misfits, const struct ue_tensor *tensor);

/* `types` says which dtypes would do. */
void ue_unlike(struct ue_misfits *misfits, const struct ue_tensor *tensor, const char *types,
               const struct ue_shape *wanted);
void ue_bad_scale(struct ue_misfits *misfits, const struct ue_tensor *tensor);

/* UE_OK if nothing was noted, else UE_BAD_WEIGHTS and a message that begins with `file`. */
ue_status ue_misfits_tell(const struct ue_misfits *misfits, const char *file,
                          struct ue_error *error);

#endif

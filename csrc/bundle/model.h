/*
 * A model of a bundle with the files that it refers to, read for a runtime: engines/model_files.py
 * does the same. A graph is always read into memory and hashed there. The weights beside it are,
 * too, up to 256 MiB, where the runtime takes them; larger ones it reads where they lie, and then
 * they must not be touched meanwhile or afterwards.
 */
#ifndef UE_MODEL_H
#define UE_MODEL_H

#include "encoders/choice.h"
#include "state.h"
#include "unicas_edge_encoder.h"

/* No model refers to more files: a bundle has no more. */
enum { UE_MOST_BESIDE = 64 };

struct ue_model {
    char *path; /* below the bundle's folder */
    struct ue_kept graph;
    bool in_place; /* nothing is in memory: the runtime reads `path` */
    size_t count;
    struct ue_encoder_file beside[UE_MOST_BESIDE]; /* by the names that the model has for them */
    const struct ue_listed_file *files[UE_MOST_BESIDE];
};

/*
 * Read the model in that file for a backend. UE_BAD_BUNDLE where a file is no longer what the
 * manifest names; UE_BAD_MODEL where the model refers to what is no file of the bundle, or is none
 * for the backend. ue_encoder_error has the sentence; ue_model_free takes it all the same.
 */
ue_status ue_model_read(const ue_bundle *bundle, struct ue_json_text file, enum ue_backend backend,
                        struct ue_model *model);
void ue_model_free(struct ue_model *model);

/*
 * Before and after a runtime reads a model in place: UE_BAD_BUNDLE if a file of the bundle changed,
 * and from then on no touch of the model's is forgiven. UE_OK for one that is in memory.
 */
ue_status ue_model_check(const ue_bundle *bundle, const struct ue_model *model);

#endif

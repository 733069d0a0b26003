/*
 * Which engine, in which precision: what the bundle has, what passed its gate, what is fastest.
 * engines/choice.py says the same, and why. Plain structs, which whoever reads a bundle fills; not
 * public yet.
 */
#ifndef UE_CHOICE_H
#define UE_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unicas_edge.h"

/* Rows of engines/registry.py, in its order. */
enum ue_backend {
    UE_ONNXRUNTIME,
    UE_OPENVINO,
    UE_ONNXRUNTIME_CUDA,
    UE_ONNXRUNTIME_TENSORRT,
    UE_BACKENDS
};

/* Where nothing was measured, each is usually faster than the next. */
enum ue_precision { UE_INT8, UE_INT8W, UE_BF16, UE_FP16, UE_FP32, UE_PRECISIONS };

enum { UE_ANY = -1, UE_MAX_FORMS = 32, UE_MAX_RUNS = 256 };

/* One form of a bundle's encoder: who runs it, in what; `sha256` is of all the files it runs. */
struct ue_candidate {
    enum ue_backend backend;
    enum ue_precision precision;
    const char *sha256;
};

/* What an engine must reach before it may screen. */
struct ue_gate {
    double min_cosine_mean, min_cosine, min_centred_cosine_mean, min_overlap;
    double max_probability_change;
    uint64_t max_changed_decisions;
};

/* One engine beside the reference; the evidence holds for one class of processors. */
struct ue_engine_run {
    struct ue_candidate of;
    const char *isa;
    double cosine_mean, cosine_min, centred_cosine_mean, overlap, max_probability_change;
    uint64_t changed_decisions;
};

/* It speaks for the encoder and aggregator of these hashes alone. */
struct ue_verification {
    const char *encoder_sha256, *aggregator_sha256;
    struct ue_gate gate;
    const struct ue_engine_run *runs;
    size_t run_count;
};

/* What a bundle says of its encoder. The reference is its file, in onnxruntime. */
struct ue_encoder_forms {
    struct ue_candidate reference;
    const struct ue_candidate *forms;
    size_t form_count;
    const char *aggregator_sha256;
    const struct ue_verification *verification; /* NULL: none */
};

/* What this machine is, has, and was measured to do: tiles per second, 0 for what was not. */
struct ue_machine {
    const char *isa; /* of core/machine.py */
    bool has[UE_BACKENDS];
    double speed[UE_BACKENDS][UE_PRECISIONS];
};

struct ue_wish {
    int backend, precision; /* or UE_ANY */
    bool allow_unverified;
};

struct ue_choice {
    struct ue_candidate chosen; /* after a failure what it is about, if there is such a one */
    bool unverified;
    char text[1024]; /* why it should not screen; after a failure, what is wrong */
};

/*
 * Choose what encodes: the fastest that may screen. UE_NO_RUNTIME for an engine that is not
 * installed; UE_BAD_OPTIONS for what the bundle does not have, and for one asked for by name that
 * may not screen, naming the figure, unless that is allowed.
 */
ue_status ue_choose(const struct ue_encoder_forms *forms, const struct ue_machine *machine,
                    const struct ue_wish *wish, struct ue_choice *choice);

const char *ue_backend_name(enum ue_backend backend);
const char *ue_precision_name(enum ue_precision precision);
/* -1 for a name that there is not. */
int ue_backend_of(const char *name);
int ue_precision_of(const char *name);

#endif

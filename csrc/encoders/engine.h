/* What both built-in encoders do alike: read what they are asked for, plan, check a model. */
#ifndef UE_ENGINE_H
#define UE_ENGINE_H

#include "slots.h"

#include "said.h"

/* What encoders are asked for, whole: fields that a caller's structs lack are 0. */
struct ue_request {
    ue_encoder_source source;
    ue_encoder_options options;
};

/* A built-in encoder begins with it: both have one address, the table's `self`. */
struct ue_engine {
    char what[256]; /* the model, as errors call it */
    size_t crop, width, batch, workers, threads_each;
    ue_dtype dtype;
    const char *precision; /* one of a fixed list */
    char version[64];      /* of the runtime */
    long process;
    struct ue_slots slots;
    void (*end_run)(void *engine, void *handle); /* end what a busy slot's handle runs */
};

/* An input or output of a model. */
struct ue_port {
    int dtype;       /* of ue_dtype; -1: another */
    size_t rank;     /* how many dimensions; of `dims` no more than four are known */
    int64_t dims[4]; /* -1: any size */
};

enum { UE_PORT_DIMS = 4 };

/* Check both structs and the table's size, empty the table, and put both together. */
ue_status ue_engine_ask(const ue_encoder_source *source, const ue_encoder_options *options,
                        ue_encoder *encoder, struct ue_request *request);

/* Workers, threads and batch, and what the engine is of; the slots are still closed. */
ue_status ue_engine_plan(struct ue_engine *engine, const struct ue_request *request, bool gpu);

/* The model must have one input and one output, of the shapes and types expected. */
ue_status ue_engine_check(const struct ue_engine *engine, size_t inputs, size_t outputs,
                          const struct ue_port *in, const struct ue_port *out);

/* Fill what all tables have alike: the plain fields, self, interrupt and error. */
void ue_engine_describe(struct ue_engine *engine, ue_encoder *encoder);

/* UE_ENDED in a process made by fork, where the runtime's threads are missing. */
ue_status ue_engine_here(const struct ue_engine *engine);

/* The batch's tokens from what a runtime gave: float32, or float16. */
void ue_engine_tokens(const struct ue_engine *engine, const void *given, ue_dtype dtype,
                      float *tokens);

/* Whether the model in memory is text, an `.xml`; ONNX never begins so. */
bool ue_engine_is_xml(const ue_encoder_source *source);

#endif

/* What the parts of a screener and of a session share. */
#ifndef UE_SESSION_STATE_H
#define UE_SESSION_STATE_H

/* Threads of POSIX are not C11's; so this header comes first. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "bundle/state.h"
#include "intake/intake.h"
#include "intake/refuse.h"
#include "system/threads.h"
#include "unicas_edge_session.h"
#include "verdict/verdict.h"

struct ue_screener {
    const ue_bundle *bundle;
    ue_encoder encoder; /* the host's table, as it was */
    ue_aggregator *aggregator;
    struct ue_knowledge knowledge;
    bool knows; /* the bundle has knowledge */
    ue_mutex lock;
    ue_condition freed;
    size_t running; /* encodings: never more than the encoder has workers */
    long process;
};

/* Texts that a session was opened with, copied. */
enum ue_session_text {
    UE_TEXT_NAME,
    UE_TEXT_PATH,
    UE_TEXT_UM_PX_SOURCE,
    UE_TEXT_SHA256,
    UE_TEXT_COLOUR_MODE,
    UE_TEXT_COLOUR_WARNING,
    UE_TEXTS
};

/* Why a tile failed. */
struct ue_cause {
    uint32_t cell;
    char *text;
};

/* What is known at the end. */
struct ue_found {
    uint32_t *planned, *encoded, *shown; /* cells: all of them, with a token, aggregated */
    size_t planned_count, encoded_count, shown_count;
    uint8_t *status; /* [cells], as the next three */
    double *score;
    float *cellular, *focus;
    float *tokens; /* [encoded][width] */
    struct ue_reading reading;
    float *logits;       /* [tasks][most_classes]; NULL: nothing was aggregated */
    float *attention;    /* [tasks][shown] */
    const char **causes; /* [planned] */
};

struct ue_session {
    ue_screener *screener;
    ue_intake *intake;
    ue_bag *bag;
    long process;
    ue_session_options options; /* its texts are those below */
    char *texts[UE_TEXTS];
    struct ue_grid grid;
    double downsample, colour[12];
    float affine[12];
    size_t max_tiles, capacity; /* 0: all; of the bag */

    ue_thread *threads;
    size_t thread_count;

    ue_mutex lock; /* of what follows */
    struct ue_error failure;
    bool resumed; /* from a spool */
    double opened, busy_seconds;
    struct ue_cause *causes;
    size_t causes_count, causes_room;

    ue_condition changed; /* of the next two */
    bool finishing;       /* a thread finishes it */
    bool finished;
    double timings[3]; /* tiles, encode, aggregate: seconds */
    struct ue_found found;
    struct ue_verdict verdict;
    struct ue_json_out json;
};

/* UE_NULL_POINTER, UE_ENDED in a fork, or what stopped the encoder. */
ue_status ue_session_check(ue_session *session);
/* A status of the intake, or why it ended. */
ue_status ue_session_why(ue_session *session, ue_status status);

/* How long a thread waits before it looks whether what it waits for still makes sense. */
enum { UE_POLL_MS = 100 };
/* Ask the intake until it is no more UE_BUSY, or so long. */
ue_status ue_session_wait(ue_session *session, uint32_t milliseconds,
                          ue_status (*ask)(ue_intake *intake, unsigned milliseconds));

/* crew.c: the session's own threads. */
ue_status ue_crew_start(ue_session *session);
/* Wait until they ended, which they do when the intake is cancelled or has nothing left. */
void ue_crew_join(ue_session *session);

/*
 * screener.c: wait until the encoder has a worker for the calling thread; false where the intake
 * was cancelled meanwhile. Then give it back.
 */
bool ue_screener_enter(ue_screener *screener, ue_intake *intake);
void ue_screener_leave(ue_screener *screener);

/* aggregate.c: the logits of tokens that lie in a bag. */
ue_status ue_bag_logits(ue_screener *screener, ue_bag *bag, const size_t *order, size_t count,
                        float **logits);

/* evidence.c: what was seen, read and aggregated; free it in any case. */
ue_status ue_find(ue_session *session, struct ue_found *found);
void ue_found_free(struct ue_found *found);

/* record.c: the whole of result.json. */
void ue_write_result(struct ue_json_out *out, const ue_session *session,
                     const struct ue_context *context, const struct ue_evidence *evidence);

#endif

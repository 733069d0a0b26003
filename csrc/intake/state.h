/* What the parts of a session share; all of it under its lock, but for what never changes. */
#ifndef UE_INTAKE_STATE_H
#define UE_INTAKE_STATE_H

/* Threads of POSIX are not C11's; so this header comes first. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "crops.h"
#include "grid.h"
#include "heap.h"
#include "intake.h"
#include "refuse.h"
#include "spool.h"
#include "system/error.h"
#include "system/threads.h"
#include "tokens.h"

enum ue_field_state { UE_FIELD_UNTOUCHED, UE_FIELD_OPEN, UE_FIELD_KEPT, UE_FIELD_DROPPED };

struct ue_field_record {
    struct ue_crop *crops; /* its pixels, linked by sibling */
    uint32_t taken;        /* tiles that came */
    uint8_t state;
};

struct ue_intake {
    ue_intake_options options;
    struct ue_grid grid;
    long process;
    size_t cells;

    ue_mutex lock;
    ue_condition changed; /* what a take, a push or the end may wait for */
    bool ended, cancelled, scoring_known, scores_given;

    uint8_t *status; /* [cells], as the three below */
    double *score;
    float *cellular, *focus;
    struct ue_field_record *fields;
    size_t open_tiles, seen;

    struct ue_heap kept;  /* the worst on top */
    struct ue_heap ready; /* fields with pixels, the best on top; some may be kept no more */
    size_t kept_tiles;

    struct ue_crops crops;
    size_t held_count, ready_count; /* crops in memory, and those of them that may be encoded */
    size_t encoding, encoded;
    struct ue_tokens tokens;
    struct ue_spool spool;
};

/* UE_ENDED in a fork; UE_NULL_POINTER. */
ue_status ue_intake_check(const ue_intake *intake);

/* All below under the lock. */

/* intake.c: whether another tile should wait, as memory or the encoder's queue is full. */
bool ue_crowded(const ue_intake *intake);

/* take_in.c: a crop that is wanted waits for the encoder, or for its field. */
void ue_hold(ue_intake *intake, struct ue_crop *crop);
/* Added in the order of `tiles.field_scores`, to the same bits. */
double ue_field_score(const ue_intake *intake, size_t field);

/* replay.c: enter what an old spool holds. */
ue_status ue_intake_replay(ue_intake *intake);

/* choose.c */
ue_status ue_settle(ue_intake *intake, size_t field, double score);
bool ue_full(const ue_intake *intake); /* whether the best fields hold enough tiles */

#endif

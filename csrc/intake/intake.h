/*
 * intake.h: one slide whose tiles arrive one by one, in any order, from any number of threads.
 *
 *     scanner:  push / skip / fail ... end        encoder threads:  take, encode, deliver ...
 *     and then, when nothing is left to encode:   order, tokens, places
 *
 * What comes out depends on which tiles came with which scores, not on their order or on threads.
 * Both faces are built on it: csrc/session, and Python's Session.
 */
#ifndef UE_INTAKE_H
#define UE_INTAKE_H

#include <stdbool.h>

#include "unicas_edge_session.h"

typedef struct ue_intake ue_intake;

typedef struct ue_intake_options {
    size_t struct_size;           /* sizeof(ue_intake_options) of the caller */
    int64_t width, height;        /* of the slide, in level-0 pixels */
    double downsample;            /* level-0 pixels a tile pixel */
    size_t tile, crop, field;     /* side of a tile, of what the encoder sees of it; of a field */
    size_t max_tiles;             /* 0: all of them */
    size_t token_width, batch;    /* numbers in a token; tiles that are encoded together */
    size_t most_ready;            /* tiles that may wait for the encoder; 0: as memory allows */
    size_t most_held, most_open;  /* crops in memory; tiles of fields that are still incomplete */
    uint8_t cellular_below, dark; /* see ue_measure */
    double background_share;      /* a tile with a smaller share of cellular pixels is background */
    float affine[12];             /* of ue_normalise, with the dtype that the encoder takes */
    ue_dtype dtype;
    ue_bag *bag; /* for the tokens, with room for `capacity`; it outlives the session */
    size_t capacity;
    /*
     * A file that keeps what a killed process would lose, or NULL. One that is there is gone on
     * with, if it is of the same options and key: of the bundle, and what else the slide depends
     * on. It stays when the session is destroyed, or lets go of it.
     */
    const char *spool;
    uint8_t spool_key[32];
} ue_intake_options;

/*
 * A call that fails changes nothing, and ue_intake_error has the sentence of the calling thread's
 * last failure. In a process made by fork every call is UE_ENDED.
 */
ue_status ue_intake_open(const ue_intake_options *options, ue_intake **intake);
/* When no thread is in a call any more: cancel, and join them, before. */
void ue_intake_destroy(ue_intake *intake);
const char *ue_intake_error(void);

/* A tile, by its top left corner. `score` is that of its content. UE_BAD_TILE says why not. */
ue_status ue_intake_push(ue_intake *intake, const ue_pixels *pixels, int64_t x, int64_t y,
                         double score, bool given);
ue_status ue_intake_skip(ue_intake *intake, int64_t x, int64_t y);
ue_status ue_intake_fail(ue_intake *intake, int64_t x, int64_t y, double score);
/* UE_OK where the tile came, UE_BUSY where it did not yet: for one who goes on from a spool. */
ue_status ue_intake_came(ue_intake *intake, int64_t x, int64_t y);

/* Wait until another tile may be pushed; UE_BUSY after so long. */
ue_status ue_intake_room(ue_intake *intake, unsigned milliseconds);

/* No more tiles come. */
ue_status ue_intake_end(ue_intake *intake);
/* Wait until every wanted tile is encoded, after the end; UE_BUSY after so long. */
ue_status ue_intake_drained(ue_intake *intake, unsigned milliseconds);
/* End everything, for all threads; may be called from any of them, and again. */
void ue_intake_cancel(ue_intake *intake);
/* Whether it was; false in a fork. */
bool ue_intake_cancelled(ue_intake *intake);

/* Close the spool, so that another session may have it; no token is kept in it any more. */
ue_status ue_intake_let_go(ue_intake *intake);

/*
 * Take the best tiles that wait, at most a batch, into planes [batch][3][crop][crop], and their
 * cells; the buffer is the thread's own. UE_BUSY where none came in so long, UE_ENDED where none
 * will.
 */
ue_status ue_intake_take(ue_intake *intake, void *planes, uint32_t *cells, size_t *count,
                         unsigned milliseconds);
/*
 * Give the tokens of what was taken. UE_BAD_TOKENS: that of `*bad` is not finite. What was refused
 * is still to come, so `drained` waits for it: give it again, or cancel.
 */
ue_status ue_intake_deliver(ue_intake *intake, const uint32_t *cells, size_t count,
                            const float *tokens, size_t stride, size_t *bad);

/*
 * The best tiles so far that have a token, in canonical order: their cells and tokens, as far as
 * there is `room`, and how many they are. At any time, from any thread.
 */
ue_status ue_intake_so_far(ue_intake *intake, uint32_t *cells, float *tokens, size_t room,
                           size_t *count);

/* ---- after the end --------------------------------------------------------------------------- */

/* The planned tiles in canonical order; `cells` has room for `capacity` of them. */
ue_status ue_intake_order(ue_intake *intake, uint32_t *cells, size_t capacity, size_t *count);
/* Which of the cells have a token; all other tokens are forgotten. */
ue_status ue_intake_keep(ue_intake *intake, const uint32_t *cells, size_t count, uint8_t *has);
/* The tokens of cells that have one. */
ue_status ue_intake_tokens(ue_intake *intake, const uint32_t *cells, size_t count, float *tokens);
/* Where in the bag they are. */
ue_status ue_intake_places(ue_intake *intake, const uint32_t *cells, size_t count, size_t *places);
/* What is known of every tile of the grid, row-major. */
ue_status ue_intake_records(ue_intake *intake, uint8_t *status, double *score, float *cellular,
                            float *focus);
ue_status ue_intake_progress_of(ue_intake *intake, ue_session_progress *progress);

#endif

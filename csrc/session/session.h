/*
 * session.h: one slide whose tiles arrive one by one, in any order, from any number of threads.
 *
 *     scanner:  push / skip / fail ... end        encoder threads:  take, encode, deliver ...
 *     and then, when nothing is left to encode:   order, tokens, places
 *
 * What comes out depends on which tiles came with which scores, not on their order or on threads.
 * Not part of unicas_edge.h yet: adequacy, decision and result are still to move here.
 */
#ifndef UE_SESSION_H
#define UE_SESSION_H

#include <stdbool.h>

#include "unicas_edge.h"

/* A grid has at most as many tiles. */
#define UE_MAX_GRID_TILES 4000000

typedef enum ue_tile_status {
    UE_TILE_UNSEEN,
    UE_TILE_ENCODED, /* or will be, if its field stays among the best */
    UE_TILE_BACKGROUND,
    UE_TILE_SPARSE,
    UE_TILE_FAILED
} ue_tile_status;

typedef struct ue_session ue_session;

typedef struct ue_session_options {
    size_t struct_size;           /* sizeof(ue_session_options) of the caller */
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
} ue_session_options;

/* The pixels of a tile, of any layout: bytes from one row, pixel and channel to the next. */
typedef struct ue_pixels {
    const uint8_t *red; /* of the top left pixel */
    ptrdiff_t row_stride, pixel_stride, channel_stride;
} ue_pixels;

typedef struct ue_session_progress {
    size_t seen, held, ready, encoding, encoded; /* tiles */
} ue_session_progress;

/*
 * A call that fails changes nothing, and ue_session_error has the sentence of the calling thread's
 * last failure. In a process made by fork every call is UE_ENDED.
 */
ue_status ue_session_open(const ue_session_options *options, ue_session **session);
/* When no thread is in a call any more: cancel, and join them, before. */
void ue_session_destroy(ue_session *session);
const char *ue_session_error(void);

/* A tile, by its top left corner. `score` is that of its content. UE_BAD_TILE says why not. */
ue_status ue_session_push(ue_session *session, const ue_pixels *pixels, int64_t x, int64_t y,
                          double score, bool given);
ue_status ue_session_skip(ue_session *session, int64_t x, int64_t y);
ue_status ue_session_fail(ue_session *session, int64_t x, int64_t y, double score);
/* UE_OK where the tile came, UE_BUSY where it did not yet: for one who goes on from a spool. */
ue_status ue_session_came(ue_session *session, int64_t x, int64_t y);

/* Wait until another tile may be pushed; UE_BUSY after so long. */
ue_status ue_session_room(ue_session *session, unsigned milliseconds);

/* No more tiles come. */
ue_status ue_session_end(ue_session *session);
/* Wait until every wanted tile is encoded, after the end; UE_BUSY after so long. */
ue_status ue_session_drained(ue_session *session, unsigned milliseconds);
/* End everything, for all threads; may be called from any of them, and again. */
void ue_session_cancel(ue_session *session);

/* Close the spool, so that another session may have it; no token is kept in it any more. */
ue_status ue_session_let_go(ue_session *session);

/*
 * Take the best tiles that wait, at most a batch, into planes [batch][3][crop][crop], and their
 * cells; the buffer is the thread's own. UE_BUSY where none came in so long, UE_ENDED where none
 * will.
 */
ue_status ue_session_take(ue_session *session, void *planes, uint32_t *cells, size_t *count,
                          unsigned milliseconds);
/*
 * Give the tokens of what was taken. UE_BAD_TOKENS: that of `*bad` is not finite. What was refused
 * is still to come, so `drained` waits for it: give it again, or cancel.
 */
ue_status ue_session_deliver(ue_session *session, const uint32_t *cells, size_t count,
                             const float *tokens, size_t stride, size_t *bad);

/*
 * The best tiles so far that have a token, in canonical order: their cells and tokens, as far as
 * there is `room`, and how many they are. At any time, from any thread.
 */
ue_status ue_session_so_far(ue_session *session, uint32_t *cells, float *tokens, size_t room,
                            size_t *count);

/* ---- after the end --------------------------------------------------------------------------- */

/* The planned tiles in canonical order; `cells` has room for `capacity` of them. */
ue_status ue_session_order(ue_session *session, uint32_t *cells, size_t capacity, size_t *count);
/* Which of the cells have a token; all other tokens are forgotten. */
ue_status ue_session_keep(ue_session *session, const uint32_t *cells, size_t count, uint8_t *has);
/* The tokens of cells that have one. */
ue_status ue_session_tokens(ue_session *session, const uint32_t *cells, size_t count,
                            float *tokens);
/* Where in the bag they are. */
ue_status ue_session_places(ue_session *session, const uint32_t *cells, size_t count,
                            size_t *places);
/* What is known of every tile of the grid, row-major. */
ue_status ue_session_records(ue_session *session, uint8_t *status, double *score, float *cellular,
                             float *focus);
ue_status ue_session_progress_of(ue_session *session, ue_session_progress *progress);

#endif

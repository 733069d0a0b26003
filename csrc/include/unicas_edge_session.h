/*
 * unicas_edge_session.h: one slide, screened while it is being scanned.
 *
 *     ue_screener *screener; ue_session *session;
 *     ue_screener_open(bundle, &encoder, NULL, &screener);         (once, for any number of slides)
 *     ue_session_options options = {.struct_size = sizeof options,
 *                                   .width = 40000, .height = 40000, .um_px = 0.25};
 *     ue_session_open(screener, &options, &session);
 *     ue_session_push(session, &pixels, x, y, UE_NO_SCORE, UE_FOREVER);   (as often as tiles come)
 *     ue_session_finish(session, UE_FOREVER);
 *     puts(ue_session_result_json(session));
 *     ue_session_close(session); ue_screener_close(screener);
 *
 * Tiles come in any order, from any number of threads. The result depends on which tiles came with
 * which scores, not on their order or on threads. The session's own threads, as many as the encoder
 * has workers, encode the best tiles first while others still come.
 *
 * Errors: a call that fails changes nothing, unless it says so, and ue_session_error has the
 * sentence of the calling thread's last failure. UE_RUN_FAILED from any call: the encoder failed,
 * and this session comes to no result. In a process made by fork every call that returns a
 * ue_status is UE_ENDED; closings only free.
 *
 * Structs with a struct_size may grow at their end; ue_tile and ue_session_progress never will.
 */
#ifndef UNICAS_EDGE_SESSION_H
#define UNICAS_EDGE_SESSION_H

#include "unicas_edge_bundle.h"
#include "unicas_edge_colour.h"
#include "unicas_edge_encoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A grid has at most as many tiles. */
#define UE_MAX_GRID_TILES 4000000
/* Where `max_tiles` is this, every tile is encoded that is not empty. */
#define UE_ALL_TILES SIZE_MAX
/* A score that the session computes from the tile's pixels. */
#define UE_NO_SCORE (-1.0)
/* Milliseconds: wait until it happens. */
#define UE_FOREVER UINT32_MAX

typedef struct ue_screener ue_screener;
typedef struct ue_session ue_session;

typedef enum ue_tile_status {
    UE_TILE_UNSEEN,
    UE_TILE_ENCODED, /* or will be, if its field stays among the best */
    UE_TILE_BACKGROUND,
    UE_TILE_SPARSE,
    UE_TILE_FAILED
} ue_tile_status;

/* Fill `rgb` [side][side][3] from a compressed tile; anything but UE_OK fails the tile. */
typedef ue_status (*ue_decode)(void *self, const void *bytes, size_t size, uint8_t *rgb,
                               size_t side);

typedef struct ue_session_options {
    size_t struct_size;      /* sizeof(ue_session_options) of the caller */
    int64_t width, height;   /* of the slide, in level-0 pixels */
    double um_px;            /* of a level-0 pixel; within 2 % of a power of two times the bundle's
                                it is taken as that */
    size_t max_tiles;        /* how many tiles are encoded at most; 0: the bundle's number */
    const ue_colour *colour; /* NULL: colours stay as they are */
    size_t memory;           /* bytes for pixels that wait, beside a batch for each worker and the
                                tokens; 0: 256 MiB */
    ue_decode decode;        /* of ue_session_push_jpeg, with `decoder`; NULL: there is none */
    void *decoder;
    /*
     * A file that keeps what a killed process would lose, or NULL. A session that is opened with
     * one that is there goes on where that one was, if bundle, encoder and options are the same,
     * name and path among them; else UE_BAD_FILE. Remove it when the result is stored and the
     * session closed.
     */
    const char *spool;
    /* What the result says of the slide; NULL: nothing. Texts are copied. */
    const char *name, *path, *um_px_source, *sha256;
} ue_session_options;

typedef struct ue_session_progress {
    size_t seen;     /* tiles that were pushed, skipped or failed */
    size_t held;     /* in memory as pixels, */
    size_t ready;    /* and of these the ones that wait for the encoder alone */
    size_t encoding; /* on their way through it */
    size_t encoded;
} ue_session_progress;

typedef enum ue_decision { UE_UNSATISFACTORY, UE_NEGATIVE, UE_POSITIVE } ue_decision;

/* One diagnosis of a finished session. */
typedef struct ue_answer {
    size_t struct_size; /* in: sizeof(ue_answer) of the caller */
    const char *name;
    ue_decision decision;
    double probability; /* NaN where no tile may carry a decision */
    double threshold;
} ue_answer;

/* A tile of a finished session's plan, in canonical order. */
typedef struct ue_tile {
    int64_t x, y, side; /* in level-0 pixels */
    int64_t field;      /* the number of its field, row-major */
    int64_t token;      /* its row among the tokens; -1: it has none */
    double score;
    float cellular, focus; /* share of cellular pixels; Laplacian variance */
    int32_t status;        /* of ue_tile_status */
    int32_t in_focus;      /* 1 or 0 */
    int32_t kind;          /* what it shows, a number of ue_session_kind; -1: not known */
} ue_tile;

/*
 * Load a bundle's aggregator and knowledge, for sessions with that encoder, whose table is copied;
 * what it points to, and the bundle, outlive the screener, and the screener its sessions. Sessions
 * may run at once: they share the encoder's workers. UE_BAD_OPTIONS for an encoder that is not of
 * the bundle's shape. That it is the bundle's is for the host to see to, as by ue_bundle_encoder.
 */
UE_API ue_status ue_screener_open(const ue_bundle *bundle, const ue_encoder *encoder,
                                  const ue_aggregator_options *options, ue_screener **screener);
/* Close its sessions before. NULL is allowed, as for the other closings. */
UE_API void ue_screener_close(ue_screener *screener);

UE_API ue_status ue_session_open(ue_screener *screener, const ue_session_options *options,
                                 ue_session **session);
/* When no other thread is in a call any more: cancel before. What was not finished is dropped. */
UE_API void ue_session_close(ue_session *session);
UE_API const char *ue_session_error(void);

/* Level-0 pixels from one tile to the next; tiles lie at rounded multiples of it from (0, 0). */
UE_API double ue_session_step(const ue_session *session);
/* The grid's rows and columns of tiles; either may be NULL. */
UE_API ue_status ue_session_grid(const ue_session *session, size_t *rows, size_t *cols);
/* The top left corner of a tile of the grid, in level-0 pixels. */
UE_API ue_status ue_session_origin(const ue_session *session, size_t row, size_t col, int64_t *x,
                                   int64_t *y);

/*
 * Take in the tile whose top left corner is level-0 (x, y): RGB of the bundle's tile_px, at its
 * um/px, so that it covers ue_session_step level-0 pixels; what lies past the slide is white. The
 * pixels are the caller's again when the call returns. `score` is that of its content: the bytes
 * its JPEG takes, for all tiles of a session, or UE_NO_SCORE for all. Waits while memory is full;
 * UE_BUSY after so many milliseconds, and then the tile was not taken. UE_BAD_TILE: no tile begins
 * there, it came before, or more than 65,536 tiles came of fields that are still incomplete: push
 * fields, rows or columns one by one.
 */
UE_API ue_status ue_session_push(ue_session *session, const ue_pixels *pixels, int64_t x, int64_t y,
                                 double score, uint32_t milliseconds);
/*
 * As a JPEG, which `decode` decodes; its size is its score. One that cannot be decoded failed.
 * UE_NULL_POINTER where the session has no decoder.
 */
UE_API ue_status ue_session_push_jpeg(ue_session *session, const void *bytes, size_t size,
                                      int64_t x, int64_t y, uint32_t milliseconds);
/* The scanner left the tile out: nothing lies there. */
UE_API ue_status ue_session_skip(ue_session *session, int64_t x, int64_t y);
/* The tile exists and cannot be read; `cause` says why (UTF-8). */
UE_API ue_status ue_session_fail(ue_session *session, int64_t x, int64_t y, const char *cause);
/* UE_OK where the tile came, UE_BUSY where it did not yet: for one who goes on from a spool. */
UE_API ue_status ue_session_came(ue_session *session, int64_t x, int64_t y);

UE_API ue_status ue_session_progress_of(ue_session *session, ue_session_progress *progress);
/*
 * Each task's probability by what was encoded so far: no result, as adequacy is not judged.
 * `probabilities` has room for the bundle's tasks. UE_BUSY: nothing was encoded yet.
 */
UE_API ue_status ue_session_estimate(ue_session *session, double *probabilities);

/*
 * No more tiles come, from now on whatever this returns: encode what is left, and decide. A tile
 * that never came counts as unread. UE_BUSY where the encoder, or another thread that finishes,
 * takes longer: call again. UE_BAD_SLIDE: its pixels show another um/px than stated; UE_BAD_BUNDLE:
 * a file of the bundle changed; UE_OVERFLOW: the logits are not finite.
 */
UE_API ue_status ue_session_finish(ue_session *session, uint32_t milliseconds);
/* End everything, for all threads; may be called from any of them, and again. */
UE_API void ue_session_cancel(ue_session *session);

/* ---- after ue_session_finish; texts and pointers are valid until the session is closed ------- */

/* The result, as result.json has it (docs/schemas.md), NULL before. */
UE_API const char *ue_session_result_json(const ue_session *session);
/* UE_BAD_SIZE past the last task. */
UE_API ue_status ue_session_answer(const ue_session *session, size_t task, ue_answer *answer);
/* Why the slide is unsatisfactory: the index-th reason, NULL past the last. */
UE_API const char *ue_session_reason(const ue_session *session, size_t index);
/* Every planned tile in canonical order, `*count` of them. */
UE_API const ue_tile *ue_session_tiles(const ue_session *session, size_t *count);
/* The name of a kind of tile, NULL past the last. */
UE_API const char *ue_session_kind(const ue_session *session, size_t kind);
/* The tokens of the encoded tiles, float32 [*count][width of a token]. */
UE_API const float *ue_session_tokens(const ue_session *session, size_t *count);
/* Each planned tile's share of a task's attention, float32 [planned]; NULL past the last task. */
UE_API const float *ue_session_attention(const ue_session *session, size_t task);

#ifdef __cplusplus
}
#endif

#endif

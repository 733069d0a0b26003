/*
 * What a session would lose with its process, in a file: what came, the pixels that wait, and the
 * tokens. A killed process loses nothing that was taken in; a machine that stops may lose some, and
 * sums tell. The file takes no more room than the session's memory: places are used again.
 *
 *     header | an entry a tile | a token a tile (holes where there is none) | slots of pixels
 */
#ifndef UE_SPOOL_H
#define UE_SPOOL_H

#include "intake.h"
#include "system/file.h"

/* What is known of a tile; its pixels are in a slot, 0: none were kept. */
struct ue_entry {
    uint8_t status, pushed, given, none;
    uint32_t slot; /* 1 + its number */
    float cellular, focus;
    double score;
    uint64_t sum;
};

struct ue_spool {
    ue_file file; /* UE_NO_FILE: the session has none */
    bool fresh;   /* it was made by this session */
    long process; /* which opened it */
    uint64_t key; /* of the header: what was written for another session does not pass */
    size_t cells, crop_bytes, token_bytes;
    uint32_t *slot_of; /* [cells]: 1 + the slot with its pixels, 0 for none */
    uint32_t *free;    /* slots below `used` that are free */
    size_t free_count, free_room;
    uint32_t used;
    char *line; /* a token as it is written */
};

/* Open the session's spool, if its options name one. An old one must be of the same session. */
ue_status ue_spool_open(struct ue_spool *spool, const ue_intake_options *options, size_t cells);
void ue_spool_close(struct ue_spool *spool);

/* All of these do nothing without a file. */

/* Keep a tile; `pixels` NULL where they are not wanted. */
ue_status ue_spool_keep(struct ue_spool *spool, uint32_t cell, struct ue_entry entry,
                        const uint8_t *pixels);
/* Keep its token, and its pixels no more. */
void ue_spool_encoded(struct ue_spool *spool, uint32_t cell, const float *token);
/* Its pixels are not wanted any more. */
void ue_spool_release(struct ue_spool *spool, uint32_t cell);

/* For `count` cells from one on; those that did not come are UE_TILE_UNSEEN. */
bool ue_spool_entries(const struct ue_spool *spool, size_t first, struct ue_entry *entries,
                      size_t count);
bool ue_spool_token(const struct ue_spool *spool, uint32_t cell, float *token);
/* The pixels of a slot, which is then the cell's. */
bool ue_spool_pixels(struct ue_spool *spool, uint32_t cell, uint32_t slot, uint8_t *pixels);
/* After all pixels were taken: which slots are free. */
bool ue_spool_sweep(struct ue_spool *spool);

#endif

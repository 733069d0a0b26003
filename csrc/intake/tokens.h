/*
 * The CLS tokens of the tiles that matter so far: as the encoder gave them, and in the bag, where
 * they have passed the aggregator's first layer already. What is held beyond the bag's capacity,
 * for fields that may still be outranked, waits until there is room.
 */
#ifndef UE_TOKENS_H
#define UE_TOKENS_H

#include <stdbool.h>

#include "unicas_edge.h"

enum {
    UE_TOGETHER = 24,     /* embedded at once: one alone costs as much memory traffic as all */
    UE_TOKEN_CHUNK = 256, /* tokens that are allocated at once */
    UE_NO_PLACE = -1
};

struct ue_tokens {
    ue_bag *bag;
    size_t capacity, width; /* of the bag; of a token */
    uint32_t *slot_of;      /* [cells]: 1 + the slot of a cell's token, 0 for none */
    float **chunks;         /* [chunk_count][UE_TOKEN_CHUNK][width] */
    size_t chunk_count;
    int32_t *place;     /* [slots]: in the bag, or UE_NO_PLACE */
    uint32_t *free;     /* slots that are not in use */
    uint32_t *waiting;  /* cells whose tokens are not in the bag yet; some may be gone */
    uint32_t *returned; /* places in the bag that are free again, [capacity] */
    float *together;    /* [UE_TOGETHER][width] */
    size_t free_count, waiting_count, waiting_room, returned_count;
    size_t used; /* places from here on were never taken */
};

bool ue_tokens_open(struct ue_tokens *tokens, size_t cells);
void ue_tokens_close(struct ue_tokens *tokens);

ue_status ue_tokens_put(struct ue_tokens *tokens, uint32_t cell, const float *token);
void ue_tokens_drop(struct ue_tokens *tokens, uint32_t cell);
bool ue_tokens_has(const struct ue_tokens *tokens, uint32_t cell);
/* The token of a cell that has one. */
const float *ue_tokens_of(const struct ue_tokens *tokens, uint32_t cell);

/* Put what waits into the bag, as far as there is room. */
ue_status ue_tokens_embed(struct ue_tokens *tokens);
/* Where a token is in the bag, or UE_NO_PLACE. */
int32_t ue_tokens_place(const struct ue_tokens *tokens, uint32_t cell);

#endif

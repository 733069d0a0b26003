/* Tokens in slots of memory that is taken bit by bit, and their places in the bag. */
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

bool ue_tokens_open(struct ue_tokens *tokens, size_t cells) {
    tokens->slot_of = calloc(cells, sizeof *tokens->slot_of);
    tokens->returned = malloc(tokens->capacity * sizeof *tokens->returned);
    tokens->together = malloc(UE_TOGETHER * tokens->width * sizeof *tokens->together);
    return tokens->slot_of && tokens->returned && tokens->together;
}

void ue_tokens_close(struct ue_tokens *tokens) {
    for (size_t k = 0; k < tokens->chunk_count; k++)
        free(tokens->chunks[k]);
    free(tokens->chunks);
    free(tokens->slot_of);
    free(tokens->place);
    free(tokens->free);
    free(tokens->waiting);
    free(tokens->returned);
    free(tokens->together);
}

/* ---- slots ----------------------------------------------------------------------------------- */

static float *in_slot(const struct ue_tokens *tokens, size_t slot) {
    return tokens->chunks[slot / UE_TOKEN_CHUNK] + slot % UE_TOKEN_CHUNK * tokens->width;
}

static bool another_chunk(struct ue_tokens *tokens) {
    const size_t slots = tokens->chunk_count * UE_TOKEN_CHUNK, more = slots + UE_TOKEN_CHUNK;
    float **chunks = realloc(tokens->chunks, (tokens->chunk_count + 1) * sizeof *chunks);
    tokens->chunks = chunks ? chunks : tokens->chunks;
    int32_t *place = realloc(tokens->place, more * sizeof *place);
    tokens->place = place ? place : tokens->place;
    uint32_t *unused = realloc(tokens->free, more * sizeof *unused);
    tokens->free = unused ? unused : tokens->free;
    float *chunk = malloc(UE_TOKEN_CHUNK * tokens->width * sizeof *chunk);
    if (!chunks || !place || !unused || !chunk) {
        free(chunk);
        return false;
    }
    tokens->chunks[tokens->chunk_count++] = chunk;
    for (size_t slot = more; slot-- > slots;)
        tokens->free[tokens->free_count++] = (uint32_t)slot;
    return true;
}

static bool room_to_wait(struct ue_tokens *tokens) {
    if (tokens->waiting_count < tokens->waiting_room)
        return true;
    const size_t room = tokens->waiting_room ? 2 * tokens->waiting_room : 4 * UE_TOGETHER;
    uint32_t *waiting = realloc(tokens->waiting, room * sizeof *waiting);
    if (!waiting)
        return false;
    tokens->waiting = waiting;
    tokens->waiting_room = room;
    return true;
}

ue_status ue_tokens_put(struct ue_tokens *tokens, uint32_t cell, const float *token) {
    if (!room_to_wait(tokens) || (!tokens->free_count && !another_chunk(tokens)))
        return UE_NO_MEMORY;
    const uint32_t slot = tokens->free[--tokens->free_count];
    memcpy(in_slot(tokens, slot), token, tokens->width * sizeof *token);
    tokens->place[slot] = UE_NO_PLACE;
    tokens->slot_of[cell] = slot + 1;
    tokens->waiting[tokens->waiting_count++] = cell;
    return tokens->waiting_count >= UE_TOGETHER ? ue_tokens_embed(tokens) : UE_OK;
}

void ue_tokens_drop(struct ue_tokens *tokens, uint32_t cell) {
    const uint32_t slot = tokens->slot_of[cell] - 1;
    if (!tokens->slot_of[cell])
        return;
    tokens->slot_of[cell] = 0;
    tokens->free[tokens->free_count++] = slot;
    if (tokens->place[slot] != UE_NO_PLACE)
        tokens->returned[tokens->returned_count++] = (uint32_t)tokens->place[slot];
}

bool ue_tokens_has(const struct ue_tokens *tokens, uint32_t cell) {
    return tokens->slot_of[cell] != 0;
}

const float *ue_tokens_of(const struct ue_tokens *tokens, uint32_t cell) {
    return in_slot(tokens, tokens->slot_of[cell] - 1);
}

int32_t ue_tokens_place(const struct ue_tokens *tokens, uint32_t cell) {
    return tokens->place[tokens->slot_of[cell] - 1];
}

/* ---- the bag --------------------------------------------------------------------------------- */

/* A token on its way into the bag. */
struct placed {
    size_t place;
    uint32_t cell;
};

static size_t next_place(struct ue_tokens *tokens) {
    return tokens->returned_count ? tokens->returned[--tokens->returned_count] : tokens->used++;
}

/* Give places to some cells, in ascending order. */
static void give_places(struct ue_tokens *tokens, const uint32_t *cells, size_t count,
                        struct placed *placed) {
    for (size_t k = 0; k < count; k++) {
        const struct placed one = {next_place(tokens), cells[k]};
        size_t at = k;
        for (; at > 0 && placed[at - 1].place > one.place; at--)
            placed[at] = placed[at - 1];
        placed[at] = one;
        tokens->place[tokens->slot_of[cells[k]] - 1] = (int32_t)one.place;
    }
}

/* At most UE_TOGETHER cells, a push for every run of neighbouring places. */
static ue_status embed_some(struct ue_tokens *tokens, const uint32_t *cells, size_t count) {
    struct placed placed[UE_TOGETHER];
    give_places(tokens, cells, count, placed);
    ue_status status = UE_OK;
    for (size_t begin = 0, end = 0; begin < count && status == UE_OK; begin = end) {
        for (end = begin; end < count && placed[end].place == placed[begin].place + end - begin;
             end++)
            memcpy(tokens->together + (end - begin) * tokens->width,
                   ue_tokens_of(tokens, placed[end].cell), tokens->width * sizeof(float));
        status = ue_aggregator_push(tokens->bag, placed[begin].place, tokens->together, end - begin,
                                    tokens->width);
    }
    return status;
}

/* Forget those that were dropped meanwhile. */
static void look_through(struct ue_tokens *tokens) {
    size_t kept = 0;
    for (size_t k = 0; k < tokens->waiting_count; k++)
        if (ue_tokens_has(tokens, tokens->waiting[k]))
            tokens->waiting[kept++] = tokens->waiting[k];
    tokens->waiting_count = kept;
}

ue_status ue_tokens_embed(struct ue_tokens *tokens) {
    look_through(tokens);
    const size_t room = tokens->capacity - tokens->used + tokens->returned_count;
    const size_t taken = tokens->waiting_count < room ? tokens->waiting_count : room;
    ue_status status = UE_OK;
    for (size_t done = 0; done < taken && status == UE_OK; done += UE_TOGETHER) {
        const size_t left = taken - done;
        status = embed_some(tokens, tokens->waiting + done,
                            left < UE_TOGETHER ? left : (size_t)UE_TOGETHER);
    }
    tokens->waiting_count -= taken;
    if (taken)
        memmove(tokens->waiting, tokens->waiting + taken,
                tokens->waiting_count * sizeof *tokens->waiting);
    return status;
}

/* Pixels that wait: of fields still open, of kept fields, and those to be encoded before all. */
#ifndef UE_CROPS_H
#define UE_CROPS_H

#include <stddef.h>
#include <stdint.h>

struct ue_crop {
    struct ue_crop *before, *after; /* in the queue that it is in */
    struct ue_crop *sibling;        /* the next one of its field */
    uint32_t cell;
    uint8_t pixels[]; /* RGB [crop][crop][3] */
};

struct ue_queue {
    struct ue_crop *first, *last;
};

struct ue_crops {
    struct ue_queue open, urgent; /* oldest first */
    struct ue_crop *idle;         /* linked by sibling: memory to use again */
    size_t bytes;                 /* of the pixels of one */
};

void ue_queue_add(struct ue_queue *queue, struct ue_crop *crop);
void ue_queue_remove(struct ue_queue *queue, struct ue_crop *crop);

/* A crop of no queue, NULL where memory runs out. */
struct ue_crop *ue_crop_new(struct ue_crops *crops);
/* Keep the memory of a crop that is in no queue any more. */
void ue_crop_rest(struct ue_crops *crops, struct ue_crop *crop);
/* Free the memory of crops linked by `sibling`. */
void ue_crop_free_all(struct ue_crop *first);

#endif

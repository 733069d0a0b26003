/* Queues of crops, and their memory. */
#include "crops.h"

#include <stdlib.h>

void ue_queue_add(struct ue_queue *queue, struct ue_crop *crop) {
    crop->before = queue->last;
    crop->after = NULL;
    if (queue->last)
        queue->last->after = crop;
    else
        queue->first = crop;
    queue->last = crop;
}

void ue_queue_remove(struct ue_queue *queue, struct ue_crop *crop) {
    if (crop->before)
        crop->before->after = crop->after;
    else
        queue->first = crop->after;
    if (crop->after)
        crop->after->before = crop->before;
    else
        queue->last = crop->before;
    crop->before = crop->after = NULL;
}

struct ue_crop *ue_crop_new(struct ue_crops *crops) {
    struct ue_crop *crop = crops->idle;
    if (crop)
        crops->idle = crop->sibling;
    else
        crop = malloc(sizeof *crop + crops->bytes);
    if (crop) {
        crop->before = crop->after = crop->sibling = NULL;
        crop->cell = 0;
    }
    return crop;
}

void ue_crop_rest(struct ue_crops *crops, struct ue_crop *crop) {
    crop->sibling = crops->idle;
    crops->idle = crop;
}

void ue_crop_free_all(struct ue_crop *first) {
    while (first) {
        struct ue_crop *next = first->sibling;
        free(first);
        first = next;
    }
}

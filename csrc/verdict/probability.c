#include <math.h>

#include "verdict.h"

/*
 * The largest logit is taken off first, so that no temperature makes two infinities of two. No
 * fmax: GCC 12 for ARM fails to compile the loop with it.
 */
double ue_probability(const float *logits, size_t classes, size_t positive, double temperature) {
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < classes; k++)
        most = (double)logits[k] > most ? (double)logits[k] : most;
    for (size_t k = 0; k < classes; k++)
        sum += exp(((double)logits[k] - most) / temperature);
    return exp(((double)logits[positive] - most) / temperature) / sum;
}

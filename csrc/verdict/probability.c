#include <math.h>

#include "verdict.h"

double ue_probability(const float *logits, size_t classes, size_t positive, double temperature) {
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < classes; k++)
        most = fmax(most, (double)logits[k] / temperature);
    for (size_t k = 0; k < classes; k++)
        sum += exp((double)logits[k] / temperature - most);
    return exp((double)logits[positive] / temperature - most) / sum;
}

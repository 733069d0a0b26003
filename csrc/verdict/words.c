/* Figures and sentences, as the reasons of a result say them. */
#include <string.h>

#include "verdict.h"

struct ue_figure ue_percent(double share) {
    struct ue_figure figure = ue_general(100 * share, 3);
    strcat(figure.text, "%");
    return figure;
}

void ue_apart(double one, double other, struct ue_figure shown[2]) {
    for (int digits = 2; digits < 18; digits++) {
        shown[0] = ue_general(one, digits);
        shown[1] = ue_general(other, digits);
        if (strcmp(shown[0].text, shown[1].text) != 0)
            break;
    }
}

struct ue_text *ue_reason_begin(struct ue_reasons *reasons) {
    reasons->begin[reasons->count] = reasons->text.length;
    return &reasons->text;
}

void ue_reason_end(struct ue_reasons *reasons) {
    ue_text_add(&reasons->text, "", 1);
    reasons->count++;
}

const char *ue_reason(const struct ue_reasons *reasons, size_t index) {
    return index < reasons->count && !reasons->text.broken
               ? reasons->text.bytes + reasons->begin[index]
               : NULL;
}

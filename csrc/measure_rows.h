/*
 * Template: the measures of one row, included by template.h. Plain integer loops, which the
 * compiler vectorises for UE_TARGET; integer sums do not depend on their order, so every variant
 * agrees.
 */
UE_TARGET static UE_INLINE void UE_NAME(count)(const struct ue_strip_row *row, ue_measures *sums) {
    const uint8_t *restrict red = row->red + row->first, *restrict green = row->green + row->first,
                            *restrict blue = row->blue + row->first;
    const uint8_t cellular_below = row->cellular_below, dark_below = row->dark_below;
    const size_t count = row->count;
    uint32_t total[3] = {0, 0, 0};
    uint16_t cellular = 0, dark = 0; /* UE_STRIP at most */
    for (size_t i = 0; i < count; i++) {
        uint8_t low = red[i] < green[i] ? red[i] : green[i];
        uint8_t high = red[i] > green[i] ? red[i] : green[i];
        low = low < blue[i] ? low : blue[i];
        high = high > blue[i] ? high : blue[i];
        cellular = (uint16_t)(cellular + (low < cellular_below));
        dark = (uint16_t)(dark + (high < dark_below));
        total[0] += red[i];
        total[1] += green[i];
        total[2] += blue[i];
    }
    sums->cellular += cellular;
    sums->dark += dark;
    for (int c = 0; c < 3; c++)
        sums->channel_sum[c] += total[c];
}

UE_TARGET static UE_INLINE void UE_NAME(laplacian)(const struct ue_strip_row *row,
                                                   ue_measures *sums) {
    const uint8_t *above = row->above + 1, *here = row->middle + 1, *below = row->green + 1;
    const size_t count = row->inner_count;
    int32_t sum = 0, squares = 0; /* 512 * 1020^2 fits */
    for (size_t i = 0; i < count; i++) {
        int cross = above[i] + below[i] + here[i - 1] + here[i + 1];
        int16_t value = (int16_t)(cross - 4 * here[i]);
        sum += value;
        squares += value * value;
    }
    sums->laplacian_sum += sum;
    sums->laplacian_squares += (uint64_t)squares;
    sums->laplacian_count += count;
}

UE_TARGET static void UE_NAME(measure)(const struct ue_strip_row *row, ue_measures *sums) {
    UE_NAME(count)(row, sums);
    if (row->above)
        UE_NAME(laplacian)(row, sums);
}

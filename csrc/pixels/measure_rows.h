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
    uint16_t total_red = 0, total_green = 0, total_blue = 0; /* at most 255 UE_STRIP */
    uint8_t cellular = 0, dark = 0;                          /* at most UE_STRIP */
    for (size_t i = 0; i < count; i++) {
        uint8_t low = red[i] < green[i] ? red[i] : green[i];
        uint8_t high = red[i] > green[i] ? red[i] : green[i];
        low = low < blue[i] ? low : blue[i];
        high = high > blue[i] ? high : blue[i];
        cellular = (uint8_t)(cellular + (low < cellular_below));
        dark = (uint8_t)(dark + (high < dark_below));
        total_red = (uint16_t)(total_red + red[i]);
        total_green = (uint16_t)(total_green + green[i]);
        total_blue = (uint16_t)(total_blue + blue[i]);
    }
    sums->cellular += cellular;
    sums->dark += dark;
    sums->channel_sum[0] += total_red;
    sums->channel_sum[1] += total_green;
    sums->channel_sum[2] += total_blue;
}

UE_TARGET static UE_INLINE void UE_NAME(laplacian)(const struct ue_strip_row *row,
                                                   ue_measures *sums) {
    const uint8_t *above = row->above + 1, *here = row->middle + 1, *below = row->green + 1;
    const size_t count = row->inner_count;
    int32_t sum = 0, squares = 0; /* UE_STRIP * 1020^2 fits */
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

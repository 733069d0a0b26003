/*
 * Template: luma, and its quantised DCT, of one instruction set, included by template.h. Plain
 * integer loops over blocks side by side, which the compiler vectorises for UE_TARGET.
 *
 * The DCT is that of Arai, Agui and Nakajima (Trans. IEICE E71(11), 1988) with the constants and
 * the roundings of libjpeg's fast DCT in libjpeg-turbo's vectors: products in 8 bits of fraction,
 * cut off, of 16-bit values that wrap. A wrap takes contrasts that only test images have.
 */

UE_TARGET static void UE_NAME(luma_row)(const uint8_t *restrict pixels, size_t count,
                                        uint8_t *restrict luma) {
    size_t i = 0;
    for (; i + UE_BLOCK <= count; i += UE_BLOCK)
        UE_NAME(luma)(pixels + 3 * i, luma + i);
    for (; i < count; i++)
        ue_luma_portable(pixels + 3 * i, luma + i);
}

/* Pixels at even places to the front, at odd ones behind. */
UE_TARGET static UE_INLINE void UE_NAME(halves)(const uint8_t *restrict row,
                                                uint8_t *restrict sorted) {
    for (int i = 0; i < UE_BAND / 2; i++) {
        sorted[i] = row[2 * i];
        sorted[UE_BAND / 2 + i] = row[2 * i + 1];
    }
}

/* A row of pixels to [column of a block][row][block], which leaves out the row's own place. */
UE_TARGET static UE_INLINE void UE_NAME(spread)(const uint8_t *row, int16_t *restrict columns) {
    uint8_t first[UE_BAND], second[UE_BAND];
    UE_NAME(halves)(row, first);
    UE_NAME(halves)(first, second);
    UE_NAME(halves)(second, first);
    for (int x = 0; x < UE_BLOCK_SIDE; x++)
        for (int block = 0; block < UE_BLOCKS; block++)
            columns[x * UE_BAND + block] = (int16_t)(first[x * UE_BLOCKS + block] - 128);
}

/* value * factor / 256 */
UE_TARGET static UE_INLINE int16_t UE_NAME(times)(int value, int factor) {
    return (int16_t)(((int16_t)(4 * value) * (64 * factor)) >> 16);
}

/* Coefficients 0, 2, 4, 6 of `count` transforms side by side; 181 / 256 is cos(4 pi / 16). */
UE_TARGET static UE_INLINE void UE_NAME(even)(const int16_t *restrict in, int16_t *restrict out,
                                              int count) {
    for (int i = 0; i < count; i++) {
        const int16_t a = (int16_t)(in[i] + in[7 * count + i]);
        const int16_t b = (int16_t)(in[count + i] + in[6 * count + i]);
        const int16_t c = (int16_t)(in[2 * count + i] + in[5 * count + i]);
        const int16_t d = (int16_t)(in[3 * count + i] + in[4 * count + i]);
        const int16_t outer = (int16_t)(a + d), inner = (int16_t)(b + c);
        const int16_t rest = (int16_t)(a - d);
        const int16_t turned = UE_NAME(times)(rest + b - c, 181);
        out[i] = (int16_t)(outer + inner);
        out[2 * count + i] = (int16_t)(rest + turned);
        out[4 * count + i] = (int16_t)(outer - inner);
        out[6 * count + i] = (int16_t)(rest - turned);
    }
}

/* 1, 3, 5, 7; 98 / 256 is cos(6 pi / 16), 139 and 334 are cos(2 pi / 16) less and more than it. */
UE_TARGET static UE_INLINE void UE_NAME(odd)(const int16_t *restrict in, int16_t *restrict out,
                                             int count) {
    for (int i = 0; i < count; i++) {
        const int16_t a = (int16_t)(in[i] - in[7 * count + i]);
        const int16_t b = (int16_t)(in[count + i] - in[6 * count + i]);
        const int16_t c = (int16_t)(in[2 * count + i] - in[5 * count + i]);
        const int16_t d = (int16_t)(in[3 * count + i] - in[4 * count + i]);
        const int16_t shared = UE_NAME(times)(c + d - a - b, 98);
        const int16_t low = (int16_t)(UE_NAME(times)(c + d, 139) + shared);
        const int16_t high = (int16_t)(UE_NAME(times)(a + b, 334) + shared);
        const int16_t turned = UE_NAME(times)(b + c, 181);
        const int16_t sum = (int16_t)(a + turned), difference = (int16_t)(a - turned);
        out[count + i] = (int16_t)(sum + high);
        out[3 * count + i] = (int16_t)(difference - low);
        out[5 * count + i] = (int16_t)(difference + low);
        out[7 * count + i] = (int16_t)(sum - high);
    }
}

/* One coefficient of every block. Loop by loop, because so each one stays in 16 bits. */
UE_TARGET static UE_INLINE void UE_NAME(divide)(const int16_t *restrict in, int16_t *restrict level,
                                                uint16_t *restrict nonzero, int bit,
                                                const struct ue_divisors *divisors, int place) {
    const uint16_t half = divisors->half[place], reciprocal = divisors->reciprocal[place],
                   scale = divisors->scale[place];
    uint16_t size[UE_BLOCKS];
    for (int i = 0; i < UE_BLOCKS; i++) {
        const int16_t sign = in[i] >> 15;
        size[i] = (uint16_t)((in[i] ^ sign) - sign + half);
    }
    for (int i = 0; i < UE_BLOCKS; i++)
        size[i] = (uint16_t)((uint32_t)size[i] * reciprocal >> 16);
    for (int i = 0; i < UE_BLOCKS; i++)
        size[i] = (uint16_t)((uint32_t)size[i] * scale >> 16);
    for (int i = 0; i < UE_BLOCKS; i++) {
        const int16_t sign = in[i] >> 15;
        level[i] = (int16_t)((size[i] ^ sign) - sign);
    }
    for (int i = 0; i < UE_BLOCKS; i++)
        nonzero[i] = (uint16_t)(nonzero[i] | (size[i] ? bit : 0));
}

/* Levels of the blocks of a band of luma, [UE_BLOCK_SIDE][UE_BAND]. */
UE_TARGET static void UE_NAME(transform)(const uint8_t *luma, const struct ue_divisors *divisors,
                                         struct ue_blocks *blocks) {
    int16_t columns[UE_BAND_PIXELS], rows[UE_BAND_PIXELS];
    for (int y = 0; y < UE_BLOCK_SIDE; y++)
        UE_NAME(spread)(luma + y * UE_BAND, columns + y * UE_BLOCKS);
    UE_NAME(even)(columns, rows, UE_BAND);
    UE_NAME(odd)(columns, rows, UE_BAND);
    for (int u = 0; u < UE_BLOCK_SIDE; u++) {
        UE_NAME(even)(rows + u * UE_BAND, columns + u * UE_BAND, UE_BLOCKS);
        UE_NAME(odd)(rows + u * UE_BAND, columns + u * UE_BAND, UE_BLOCKS);
    }
    memset(blocks->nonzero, 0, sizeof blocks->nonzero);
    for (int place = 0; place < UE_COEFFICIENTS; place++) {
        const int v = ue_natural[place] / UE_BLOCK_SIDE, u = ue_natural[place] % UE_BLOCK_SIDE;
        UE_NAME(divide)(columns + u * UE_BAND + v * UE_BLOCKS, blocks->level[place],
                        blocks->nonzero[place / 16], 1 << place % 16, divisors, place);
    }
}

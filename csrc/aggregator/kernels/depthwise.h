/* Template: the 7 x 7 depth-wise correlation, four columns of the grid at once. */
#define UE_VECS (UE_PANEL / UE_WIDTH)

/* Channels [0, UE_PANEL) of `columns` <= 4 adjacent outputs; their sums stay in registers. */
UE_TARGET static UE_INLINE void UE_NAME(depthwise_of)(const size_t columns, const float *const *in,
                                                      size_t in_stride, size_t channel,
                                                      const float *weights, const float *bias,
                                                      size_t stride, float *out) {
    UE_VEC sums[4][UE_VECS];
    UE_UNROLL for (size_t o = 0; o < columns; o++) {
        UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) sums[o][v] = vload(bias + v * UE_WIDTH);
    }
    for (size_t dy = 0; dy < UE_TAPS; dy++) {
        const float *const *pixels = in + dy * in_stride;
        const float *row = weights + dy * UE_TAPS * stride;
        UE_UNROLL for (size_t i = 0; i < UE_TAPS + columns - 1; i++) {
            UE_VEC pixel[UE_VECS];
            UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
                pixel[v] = vload(pixels[i] + channel + v * UE_WIDTH);
            }
            UE_UNROLL for (size_t o = 0; o < columns; o++) {
                if (i >= o && i - o < UE_TAPS) {
                    UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
                        const float *weight = row + (i - o) * stride + v * UE_WIDTH;
                        sums[o][v] = vfma(pixel[v], vload(weight), sums[o][v]);
                    }
                }
            }
        }
    }
    UE_UNROLL for (size_t o = 0; o < columns; o++) {
        UE_UNROLL for (size_t v = 0; v < UE_VECS; v++) {
            vstore(out + o * stride + v * UE_WIDTH, sums[o][v]);
        }
    }
}

UE_TARGET static void UE_NAME(depthwise)(const float *const *in, size_t in_stride,
                                         const float *weights, const float *bias, size_t stride,
                                         size_t columns, float *out) {
    enum { CHANNELS = 128 }; /* whose 49 weights stay in the first-level cache */
    for (size_t block = 0; block < stride; block += CHANNELS) {
        const size_t end = block + CHANNELS < stride ? block + CHANNELS : stride;
        for (size_t column = 0; column < columns;) {
            const size_t step = columns - column >= 4 ? 4 : 1;
            for (size_t c = block; c < end; c += UE_PANEL) {
                float *to = out + column * stride + c;
                if (step == 4)
                    UE_NAME(depthwise_of)(4, in + column, in_stride, c, weights + c, bias + c,
                                          stride, to);
                else
                    UE_NAME(depthwise_of)(1, in + column, in_stride, c, weights + c, bias + c,
                                          stride, to);
            }
            column += step;
        }
    }
}

#undef UE_VECS

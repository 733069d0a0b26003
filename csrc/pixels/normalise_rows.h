/*
 * Template: the row functions of one instruction set, included by template.h, which says what must
 * be defined. The portable variant is this template with blocks of one pixel.
 */

/* ((a0 R + a1 G) + a2 B) + a3: the order is part of the interface, and nothing is fused. */
UE_TARGET static UE_INLINE UE_VEC UE_NAME(map)(const UE_VEC a[4], const UE_VEC rgb[3], int channel,
                                               enum ue_kind kind) {
    UE_VEC sum =
        UE_NAME(mul)(a[kind == UE_DIAGONAL ? channel : 0], rgb[kind == UE_DIAGONAL ? channel : 0]);
    if (kind == UE_GENERAL) {
        sum = UE_NAME(add)(sum, UE_NAME(mul)(a[1], rgb[1]));
        sum = UE_NAME(add)(sum, UE_NAME(mul)(a[2], rgb[2]));
    }
    return UE_NAME(add)(sum, a[3]);
}

UE_TARGET static UE_INLINE void UE_NAME(store)(void *plane, size_t i, UE_VEC value,
                                               ue_dtype dtype) {
    if (dtype == UE_FLOAT32)
        UE_NAME(store_f32)((float *)plane + i, value);
    else if (dtype == UE_FLOAT16)
        UE_NAME(store_f16)((uint16_t *)plane + i, value);
    else
        UE_NAME(store_u8)((uint8_t *)plane + i, value);
}

/* `kind` and `dtype` are constants where this is inlined. Returns the pixels done. */
UE_TARGET static UE_INLINE size_t UE_NAME(blocks)(const uint8_t *restrict pixels, size_t count,
                                                  const float *affine, void *restrict red,
                                                  void *restrict green, void *restrict blue,
                                                  enum ue_kind kind, ue_dtype dtype) {
    UE_VEC a[3][4];
    for (int k = 0; k < 12; k++)
        a[k / 4][k % 4] = UE_NAME(splat)(affine[k]);
    size_t i = 0;
    for (; i + UE_BLOCK <= count; i += UE_BLOCK) {
        UE_VEC rgb[3];
        UE_NAME(load)(pixels + 3 * i, rgb);
        UE_NAME(store)(red, i, UE_NAME(map)(a[0], rgb, 0, kind), dtype);
        UE_NAME(store)(green, i, UE_NAME(map)(a[1], rgb, 1, kind), dtype);
        UE_NAME(store)(blue, i, UE_NAME(map)(a[2], rgb, 2, kind), dtype);
    }
    return i;
}

UE_TARGET static UE_INLINE size_t UE_NAME(copies)(const uint8_t *restrict pixels, size_t count,
                                                  uint8_t *restrict red, uint8_t *restrict green,
                                                  uint8_t *restrict blue) {
    size_t i = 0;
    for (; i + UE_BLOCK <= count; i += UE_BLOCK)
        UE_NAME(copy)(pixels + 3 * i, red + i, green + i, blue + i);
    return i;
}

/* What is left over goes through the portable row function, which rounds the same way. */
#if UE_BLOCK == 1
#define UE_REST(dtype, kind, type) (void)0
#else
#define UE_REST(dtype, kind, type)                                               \
    ue_row_##dtype##_##kind##_portable(pixels + 3 * done, count - done, affine,  \
                                       (type *)red + done, (type *)green + done, \
                                       (type *)blue + done)
#endif

#define UE_ROW(dtype, kind, type)                                                            \
    UE_TARGET static void UE_NAME(row_##dtype##_##kind)(const uint8_t *pixels, size_t count, \
                                                        const float *affine, void *red,      \
                                                        void *green, void *blue) {           \
        size_t done =                                                                        \
            UE_NAME(blocks)(pixels, count, affine, red, green, blue, UE_##kind, UE_##dtype); \
        if (done < count)                                                                    \
            UE_REST(dtype, kind, type);                                                      \
    }

UE_ROW(FLOAT32, GENERAL, float)
UE_ROW(FLOAT32, DIAGONAL, float)
UE_ROW(FLOAT16, GENERAL, uint16_t)
UE_ROW(FLOAT16, DIAGONAL, uint16_t)
UE_ROW(UINT8, GENERAL, uint8_t)
UE_ROW(UINT8, DIAGONAL, uint8_t)

UE_TARGET static void UE_NAME(row_UINT8_COPY)(const uint8_t *pixels, size_t count,
                                              const float *affine, void *red, void *green,
                                              void *blue) {
    size_t done = UE_NAME(copies)(pixels, count, red, green, blue);
    (void)affine;
    if (done < count)
        UE_REST(UINT8, COPY, uint8_t);
}

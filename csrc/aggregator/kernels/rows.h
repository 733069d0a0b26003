/* Template: what is done to one row: moments, normalisation, exponentials, GELU, sums of rows. */

UE_TARGET static UE_INLINE float UE_NAME(sum_of)(const float *x, size_t count, float centre,
                                                 const bool squares) {
    UE_VEC sums[4] = {vzero(), vzero(), vzero(), vzero()};
    const UE_VEC middle = vsplat(centre);
    size_t i = 0;
    for (; i + 4 * UE_WIDTH <= count; i += 4 * UE_WIDTH) {
        UE_UNROLL for (size_t v = 0; v < 4; v++) {
            const UE_VEC off = vsub(vload(x + i + v * UE_WIDTH), middle);
            sums[v] = squares ? vfma(off, off, sums[v]) : vadd(off, sums[v]);
        }
    }
    float sum = vsum(vadd(vadd(sums[0], sums[1]), vadd(sums[2], sums[3])));
    for (; i < count; i++)
        sum += squares ? (x[i] - centre) * (x[i] - centre) : x[i] - centre;
    return sum;
}

UE_TARGET static void UE_NAME(moments)(const float *x, size_t count, float eps, float *mean,
                                       float *inverse) {
    const float size = (float)count;
    *mean = UE_NAME(sum_of)(x, count, 0.0f, false) / size;
    *inverse = 1.0f / sqrtf(UE_NAME(sum_of)(x, count, *mean, true) / size + eps);
}

UE_TARGET static void UE_NAME(standardise)(const float *x, size_t count, float mean, float inverse,
                                           float *out) {
    const UE_VEC middle = vsplat(mean), scale = vsplat(inverse);
    size_t i = 0;
    for (; i + UE_WIDTH <= count; i += UE_WIDTH)
        vstore(out + i, vmul(vsub(vload(x + i), middle), scale));
    for (; i < count; i++)
        out[i] = (x[i] - mean) * inverse;
}

UE_TARGET static float UE_NAME(normalise_row)(const float *x, size_t count, float mean,
                                              float inverse, const float *weight, const float *bias,
                                              float *out) {
    const UE_VEC middle = vsplat(mean), scale = vsplat(inverse);
    UE_VEC squares[2] = {vzero(), vzero()};
    size_t i = 0;
    for (; i + 2 * UE_WIDTH <= count; i += 2 * UE_WIDTH) {
        UE_UNROLL for (size_t v = 0; v < 2; v++) {
            const size_t at = i + v * UE_WIDTH;
            const UE_VEC unit = vmul(vsub(vload(x + at), middle), scale);
            const UE_VEC value = vfma(unit, vload(weight + at), vload(bias + at));
            vstore(out + at, value);
            squares[v] = vfma(value, value, squares[v]);
        }
    }
    float sum = vsum(vadd(squares[0], squares[1]));
    for (; i < count; i++) {
        out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
        sum += out[i] * out[i];
    }
    return sum;
}

/*
 * exp(x) to 2 units in the last place: x = n ln 2 + r, a polynomial in r (Cephes, expf), times 2^n.
 * Below -87.3 the result is the smallest normal number, not 0.
 */
UE_TARGET static UE_INLINE UE_VEC UE_NAME(exp)(UE_VEC x) {
    x = vmax(vsplat(-87.3f), vmin(vsplat(88.0f), x));
    const UE_VEC n = vround(vmul(x, vsplat(1.44269504088896341f)));
    UE_VEC r = vfma(n, vsplat(-0.693359375f), x);
    r = vfma(n, vsplat(2.12194440e-4f), r);
    UE_VEC p = vsplat(1.9875691500e-4f);
    p = vfma(p, r, vsplat(1.3981999507e-3f));
    p = vfma(p, r, vsplat(8.3334519073e-3f));
    p = vfma(p, r, vsplat(4.1665795894e-2f));
    p = vfma(p, r, vsplat(1.6666665459e-1f));
    p = vfma(p, r, vsplat(5.0000001201e-1f));
    p = vfma(vmul(p, r), r, vadd(r, vsplat(1.0f)));
    return vmul(p, vpow2(n));
}

/* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, erfc within 1.5e-7: Abramowitz &
 * Stegun 7.1.26. */
UE_TARGET static UE_INLINE UE_VEC UE_NAME(gelu_of)(UE_VEC x) {
    const UE_VEC size = vmax(x, vsub(vzero(), x));
    const UE_VEC a = vmul(size, vsplat(0.70710678118654752f));
    const UE_VEC t = vdiv(vsplat(1.0f), vfma(a, vsplat(0.3275911f), vsplat(1.0f)));
    UE_VEC p = vsplat(0.5f * 1.061405429f);
    p = vfma(p, t, vsplat(0.5f * -1.453152027f));
    p = vfma(p, t, vsplat(0.5f * 1.421413741f));
    p = vfma(p, t, vsplat(0.5f * -0.284496736f));
    p = vfma(p, t, vsplat(0.5f * 0.254829592f));
    const UE_VEC tail = vmul(vmul(p, t), UE_NAME(exp)(vmul(a, vsub(vzero(), a))));
    return vsub(vmax(vzero(), x), vmul(size, tail));
}

/* Apply one of the above to the last, incomplete vector. */
#define UE_LAST(x, count, i, expression)   \
    if (i < count) {                       \
        float rest[UE_WIDTH] = {0};        \
        for (size_t j = i; j < count; j++) \
            rest[j - i] = x[j];            \
        const UE_VEC value = vload(rest);  \
        vstore(rest, expression);          \
        for (size_t j = i; j < count; j++) \
            x[j] = rest[j - i];            \
    }

UE_TARGET static void UE_NAME(exponentials)(float *x, size_t count, float shift) {
    const UE_VEC off = vsplat(shift);
    size_t i = 0;
    for (; i + UE_WIDTH <= count; i += UE_WIDTH)
        vstore(x + i, UE_NAME(exp)(vsub(vload(x + i), off)));
    UE_LAST(x, count, i, UE_NAME(exp)(vsub(value, off)))
}

UE_TARGET static void UE_NAME(gelu)(float *x, const float *bias, size_t count) {
    size_t i = 0;
    for (; i + UE_WIDTH <= count; i += UE_WIDTH) {
        const UE_VEC value = vload(x + i);
        vstore(x + i, UE_NAME(gelu_of)(bias ? vadd(value, vload(bias + i)) : value));
    }
    for (size_t j = i; bias && j < count; j++)
        x[j] += bias[j];
    UE_LAST(x, count, i, UE_NAME(gelu_of)(value))
}

#undef UE_LAST

/* `vecs` vectors of channels, whose sums stay in registers while the rows pass. */
UE_TARGET static UE_INLINE void UE_NAME(sum_channels)(const size_t vecs, const float *const *rows,
                                                      const float *scale, size_t rows_count,
                                                      size_t channel, float *out) {
    UE_VEC sums[8];
    UE_UNROLL for (size_t v = 0; v < vecs; v++) sums[v] = vzero();
    for (size_t j = 0; j < rows_count; j++) {
        const UE_VEC weight = vsplat(scale[j]);
        UE_UNROLL for (size_t v = 0; v < vecs; v++) {
            sums[v] = vfma(weight, vload(rows[j] + channel + v * UE_WIDTH), sums[v]);
        }
    }
    UE_UNROLL for (size_t v = 0; v < vecs; v++) vstore(out + channel + v * UE_WIDTH, sums[v]);
}

UE_TARGET static void UE_NAME(weighted_sum)(const float *const *rows, const float *scale,
                                            size_t rows_count, size_t count, float *out) {
    size_t i = 0;
    for (; i + 8 * UE_WIDTH <= count; i += 8 * UE_WIDTH)
        UE_NAME(sum_channels)(8, rows, scale, rows_count, i, out);
    for (; i + UE_WIDTH <= count; i += UE_WIDTH)
        UE_NAME(sum_channels)(1, rows, scale, rows_count, i, out);
    for (; i < count; i++) {
        out[i] = 0.0f;
        for (size_t j = 0; j < rows_count; j++)
            out[i] += scale[j] * rows[j][i];
    }
}

/* 0 * x is 0 for every finite x and NaN otherwise. */
UE_TARGET static bool UE_NAME(finite)(const float *x, size_t count) {
    UE_VEC sums[2] = {vzero(), vzero()};
    const UE_VEC zero = vzero();
    size_t i = 0;
    for (; i + 2 * UE_WIDTH <= count; i += 2 * UE_WIDTH) {
        sums[0] = vfma(zero, vload(x + i), sums[0]);
        sums[1] = vfma(zero, vload(x + i + UE_WIDTH), sums[1]);
    }
    float sum = vsum(vadd(sums[0], sums[1]));
    for (; i < count; i++)
        sum += 0.0f * x[i];
    return sum == 0.0f;
}

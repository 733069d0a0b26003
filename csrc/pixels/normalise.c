/* ue_normalise: checks, the kind of the affine map, and the loop over rows. */
#include <math.h>

#include "variants.h"

ue_status ue_check_image(const ue_image *image) {
    if (!image || !image->pixels)
        return UE_NULL_POINTER;
    if (image->height - 1 >= UE_MAX_SIDE || image->width - 1 >= UE_MAX_SIDE)
        return UE_BAD_SIZE;
    return UE_OK;
}

static ue_status check_output(const ue_image *image, ue_dtype dtype, const void *dst,
                              size_t channel_stride) {
    static const size_t element[UE_DTYPES] = {sizeof(float), sizeof(uint16_t), sizeof(uint8_t)};
    if (!dst)
        return UE_NULL_POINTER;
    if ((unsigned)dtype >= UE_DTYPES)
        return UE_BAD_DTYPE;
    if ((uintptr_t)dst % element[dtype] != 0)
        return UE_MISALIGNED;
    /* Division, because a product could overflow where size_t has 32 bits. */
    if (channel_stride / image->width < image->height || channel_stride > PTRDIFF_MAX / 16)
        return UE_BAD_STRIDE;
    return UE_OK;
}

/* Copies the map, -0 as +0: only then do the kinds that leave out zeros give the same bits. */
static ue_status copy_affine(const float *affine, float copy[12]) {
    if (!affine)
        return UE_NULL_POINTER;
    for (int k = 0; k < 12; k++) {
        if (!(fabsf(affine[k]) <= UE_MAX_COEFFICIENT))
            return UE_BAD_AFFINE;
        copy[k] = affine[k] == 0.0f ? 0.0f : affine[k];
    }
    return UE_OK;
}

static enum ue_kind kind_of(const float affine[12], ue_dtype dtype) {
    enum ue_kind kind = dtype == UE_UINT8 ? UE_COPY : UE_DIAGONAL;
    for (int k = 0; k < 12; k++) {
        const int on_diagonal = k % 4 == k / 4;
        if (!on_diagonal && k % 4 != 3 && affine[k] != 0.0f)
            return UE_GENERAL;
        if (affine[k] != (on_diagonal ? 1.0f : 0.0f) && kind == UE_COPY)
            kind = UE_DIAGONAL;
    }
    return kind;
}

static void map_rows(const ue_image *image, const float *affine, ue_row_fn row, uint8_t *dst,
                     size_t plane_bytes, size_t row_bytes) {
    for (size_t y = 0; y < image->height; y++) {
        const uint8_t *pixels = image->pixels + (ptrdiff_t)y * image->row_stride;
        uint8_t *red = dst + y * row_bytes;
        row(pixels, image->width, affine, red, red + plane_bytes, red + 2 * plane_bytes);
    }
}

ue_status ue_normalise(const ue_image *image, const float affine[12], ue_dtype dtype, void *dst,
                       size_t channel_stride, const char *variant) {
    static const size_t element[UE_DTYPES] = {sizeof(float), sizeof(uint16_t), sizeof(uint8_t)};
    float map[12];
    ue_status status = ue_check_image(image);
    if (status == UE_OK)
        status = check_output(image, dtype, dst, channel_stride);
    if (status == UE_OK)
        status = copy_affine(affine, map);
    if (status != UE_OK)
        return status;
    const enum ue_kind kind = kind_of(map, dtype);
    const struct ue_variant *found = ue_find_variant(variant, ue_job_of(kind));
    if (!found)
        return UE_NO_SUCH_VARIANT;
    map_rows(image, map, found->rows[dtype][kind], dst, channel_stride * element[dtype],
             image->width * element[dtype]);
    return UE_OK;
}

const char *ue_normalise_variant(const float affine[12], ue_dtype dtype) {
    float map[12];
    if ((unsigned)dtype >= UE_DTYPES || copy_affine(affine, map) != UE_OK)
        return NULL;
    return ue_find_variant(NULL, ue_job_of(kind_of(map, dtype)))->name;
}

/*
 * Template: everything one instruction set consists of. The including file defines
 *
 *     UE_ISA, UE_TARGET   suffix of its names; attribute that permits its instructions
 *     UE_BLOCK, UE_VEC    pixels per step; a vector of that many float32
 *
 * and, with that suffix (ue_load_avx2), the functions supported()  load(pixels, vec[3])  splat  mul
 * add  store_f32  store_f16  store_u8  copy(pixels, red, green, blue)  luma(pixels, luma). It gives
 * ue_variant_<isa>.
 */
#define UE_JOIN2(name, isa) ue_##name##_##isa
#define UE_JOIN(name, isa) UE_JOIN2(name, isa)
#define UE_NAME(name) UE_JOIN(name, UE_ISA)
#define UE_TEXT2(name) #name
#define UE_TEXT(name) UE_TEXT2(name)

#include "normalise_rows.h"
#include "measure_rows.h"
#include "score_rows.h"

static const struct ue_variant UE_NAME(variant) = {
    UE_TEXT(UE_ISA),
    UE_NAME(supported),
    {
        {UE_NAME(row_FLOAT32_GENERAL), UE_NAME(row_FLOAT32_DIAGONAL), NULL},
        {UE_NAME(row_FLOAT16_GENERAL), UE_NAME(row_FLOAT16_DIAGONAL), NULL},
        {UE_NAME(row_UINT8_GENERAL), UE_NAME(row_UINT8_DIAGONAL), UE_NAME(row_UINT8_COPY)},
    },
    UE_NAME(measure),
    UE_NAME(luma_row),
    UE_NAME(transform),
};

#undef UE_JOIN2
#undef UE_JOIN
#undef UE_NAME
#undef UE_TEXT2
#undef UE_TEXT
#undef UE_REST
#undef UE_ROW
#undef UE_ISA
#undef UE_TARGET
#undef UE_BLOCK
#undef UE_VEC

/*
 * Template: the kernels of one instruction set. The including file defines
 *
 *     UE_ISA, UE_TARGET, UE_VEC, UE_WIDTH   name; attribute; a vector of UE_WIDTH floats
 *     UE_ROWS                               rows of a tile whose sums stay in registers
 *
 * and the macros vzero vsplat vload vstore vadd vsub vmul vdiv vmax vmin (a NaN in the second
 * operand is kept) vfma (a * b + c) vround (to nearest even) vpow2 (of an integral value) vsum
 * vload_f16 vload_bf16 vload_i8 (pointer, element). It gives ue_kernels_<isa>.
 */
#define UE_JOIN2(name, isa) ue_##name##_##isa
#define UE_JOIN(name, isa) UE_JOIN2(name, isa)
#define UE_NAME(name) UE_JOIN(name, UE_ISA)
#define UE_TEXT2(name) #name
#define UE_TEXT(name) UE_TEXT2(name)

#include "tile.h"
#include "dots.h"
#include "rows.h"
#include "depthwise.h"

static const struct ue_kernels UE_NAME(kernels) = {
    .name = UE_TEXT(UE_ISA),
    .supported = UE_NAME(math_supported),
    .tile = {UE_ROWS, UE_PANEL, UE_NAME(tile)},
    .narrow = {UE_NAME(NARROW_ROWS), UE_NAME(NARROW_COLUMNS), UE_NAME(narrow_tile)},
    .dots = UE_NAME(dots),
    .moments = UE_NAME(moments),
    .standardise = UE_NAME(standardise),
    .normalise = UE_NAME(normalise_row),
    .exponentials = UE_NAME(exponentials),
    .gelu = UE_NAME(gelu),
    .weighted_sum = UE_NAME(weighted_sum),
    .depthwise = UE_NAME(depthwise),
    .finite = UE_NAME(finite),
};

#undef UE_JOIN2
#undef UE_JOIN
#undef UE_NAME
#undef UE_TEXT2
#undef UE_TEXT
#undef UE_ISA
#undef UE_TARGET
#undef UE_VEC
#undef UE_WIDTH
#undef UE_ROWS
#undef vzero
#undef vsplat
#undef vload
#undef vstore
#undef vadd
#undef vsub
#undef vmul
#undef vdiv
#undef vmax
#undef vmin
#undef vfma
#undef vround
#undef vpow2
#undef vsum
#undef vload_f16
#undef vload_bf16
#undef vload_i8

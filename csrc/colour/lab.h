/* sRGB (IEC 61966-2-1) to CIELAB (CIE 15) of white point D65, and back. */
#ifndef UE_LAB_H
#define UE_LAB_H

#include <stdint.h>

struct ue_lab {
    double linear[256];    /* of a grey level, 0 to 1 */
    double to_xyz[3][3];   /* divided by the white point */
    double from_xyz[3][3]; /* the inverse */
};

void ue_lab_set(struct ue_lab *lab);
void ue_lab_of(const struct ue_lab *lab, const uint8_t rgb[3], double out[3]);
/* In grey levels, clipped to 0 to 255. */
void ue_lab_to_rgb(const struct ue_lab *lab, const double in[3], double rgb[3]);

#endif

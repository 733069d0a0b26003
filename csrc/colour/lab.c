#include "lab.h"

#include <math.h>

/* Where the cube root of CIELAB becomes a line. */
#define KNEE (6.0 / 29.0)
#define SLOPE (3.0 * KNEE * KNEE)

static void invert(double m[3][3], double inverse[3][3]) {
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            const int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
            inverse[i][j] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
        }
    const double determinant =
        m[0][0] * inverse[0][0] + m[0][1] * inverse[1][0] + m[0][2] * inverse[2][0];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            inverse[i][j] /= determinant;
}

void ue_lab_set(struct ue_lab *lab) {
    static const double xyz[3][3] = {{0.4124564, 0.3575761, 0.1804375},
                                     {0.2126729, 0.7151522, 0.0721750},
                                     {0.0193339, 0.1191920, 0.9503041}};
    static const double white[3] = {0.95047, 1.0, 1.08883};
    for (int level = 0; level < 256; level++) {
        const double value = level / 255.0;
        lab->linear[level] = value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4);
    }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            lab->to_xyz[i][j] = xyz[i][j] / white[i];
    invert(lab->to_xyz, lab->from_xyz);
}

static double times(const double row[3], double a, double b, double c) {
    return row[0] * a + row[1] * b + row[2] * c;
}

static double root(double part) {
    return part > KNEE * KNEE * KNEE ? cbrt(part) : part / SLOPE + 4.0 / 29.0;
}

static double cube(double part) {
    return part > KNEE ? part * part * part : SLOPE * (part - 4.0 / 29.0);
}

void ue_lab_of(const struct ue_lab *lab, const uint8_t rgb[3], double out[3]) {
    const double r = lab->linear[rgb[0]], g = lab->linear[rgb[1]], b = lab->linear[rgb[2]];
    const double x = root(times(lab->to_xyz[0], r, g, b)), y = root(times(lab->to_xyz[1], r, g, b)),
                 z = root(times(lab->to_xyz[2], r, g, b));
    out[0] = 116.0 * y - 16.0;
    out[1] = 500.0 * (x - y);
    out[2] = 200.0 * (y - z);
}

static double clipped(double value, double most) {
    return value > 0.0 ? (value < most ? value : most) : 0.0;
}

static double grey_level(double linear) {
    const double light = clipped(linear, 1.0);
    const double value = light <= 0.0031308 ? light * 12.92 : 1.055 * pow(light, 1.0 / 2.4) - 0.055;
    return clipped(value, 1.0) * 255.0;
}

void ue_lab_to_rgb(const struct ue_lab *lab, const double in[3], double rgb[3]) {
    const double part = (in[0] + 16.0) / 116.0;
    const double x = cube(part + in[1] / 500.0), y = cube(part), z = cube(part - in[2] / 200.0);
    for (int c = 0; c < 3; c++)
        rgb[c] = grey_level(times(lab->from_xyz[c], x, y, z));
}

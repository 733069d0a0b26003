/*
 * The token of one tile, by ONNX Runtime or OpenVINO, whichever is installed.
 *
 *     encode ENGINE LIBRARY MODEL CROP WIDTH TILE
 *
 * ENGINE is onnxruntime or openvino, LIBRARY its shared library or "-" for the usual name. MODEL is
 * an ONNX file that sees CROP x CROP pixels and gives WIDTH numbers. TILE holds those pixels as raw
 * RGB, a byte each (NumPy: tile.tofile("tile.rgb")). Prints what encodes, and the token's norm.
 * Exit codes: 0 success, 1 failure, 2 usage.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unicas_edge_encoder.h"

/* What ImageNet's mean and standard deviation make of pixels; a bundle says which are its own. */
static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "encode: %s: %s\n", what, why);
    return 1;
}

/* The tile's pixels, to be freed; NULL where the file is not of that size. */
static unsigned char *read_tile(const char *path, size_t crop) {
    const size_t size = 3 * crop * crop;
    unsigned char *pixels = malloc(size);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path, strerror(errno));
    const int whole = file && pixels && fread(pixels, 1, size, file) == size && fgetc(file) == EOF;
    if (file && !whole)
        fail(path, "it does not hold CROP x CROP x 3 bytes, or there is not enough memory");
    if (file)
        fclose(file);
    if (!whole)
        free(pixels);
    return whole ? pixels : NULL;
}

/* One tile fills the whole batch here; a scanner's program fills it with different ones. */
static ue_status fill_batch(const ue_encoder *encoder, const unsigned char *pixels, float *planes) {
    const size_t crop = encoder->crop, plane = crop * crop;
    const ue_image image = {pixels, crop, crop, (ptrdiff_t)(3 * crop)};
    float affine[12] = {0};
    ue_status status = UE_OK;
    for (size_t c = 0; c < 3; c++) {
        affine[4 * c + c] = 1 / (255 * deviation[c]);
        affine[4 * c + 3] = -mean[c] / deviation[c];
    }
    for (size_t row = 0; !status && row < encoder->batch; row++)
        status = ue_normalise(&image, affine, UE_FLOAT32, planes + row * 3 * plane, plane, NULL);
    return status;
}

static void print_token(const ue_encoder *encoder, const float *token) {
    double squares = 0;
    for (size_t k = 0; k < encoder->width; k++)
        squares += (double)token[k] * token[k];
    printf("%s %s %s\nnorm %.9g\n", encoder->name, encoder->version, encoder->precision,
           sqrt(squares));
    if (encoder->unverified)
        printf("not for screening: %s\n", encoder->unverified);
}

static int encode(const ue_encoder *encoder, const char *path) {
    unsigned char *pixels = read_tile(path, encoder->crop);
    float *planes = malloc(encoder->batch * 3 * encoder->crop * encoder->crop * sizeof *planes);
    float *tokens = malloc(encoder->batch * encoder->width * sizeof *tokens);
    int code = pixels ? 0 : 1;
    if (!code && (!planes || !tokens))
        code = fail(path, ue_status_text(UE_NO_MEMORY));
    const ue_status filled = code ? UE_OK : fill_batch(encoder, pixels, planes);
    if (filled)
        code = fail(path, ue_status_text(filled));
    if (!code && ue_encoder_encode(encoder, planes, tokens))
        code = fail(path, ue_encoder_error());
    if (!code)
        print_token(encoder, tokens);
    free(pixels);
    free(planes);
    free(tokens);
    return code;
}

static ue_status open_encoder(char **arguments, ue_encoder *encoder) {
    const ue_encoder_source source = {.struct_size = sizeof source,
                                      .path = arguments[3],
                                      .crop = strtoul(arguments[4], NULL, 10),
                                      .width = strtoul(arguments[5], NULL, 10),
                                      .dtype = UE_FLOAT32,
                                      .precision = "fp32"};
    ue_encoder_options options = {.struct_size = sizeof options, .threads = 1, .batch = 1};
    options.library = strcmp(arguments[2], "-") ? arguments[2] : NULL;
    return strcmp(arguments[1], "openvino")
               ? ue_encoder_open_onnxruntime(&source, &options, encoder)
               : ue_encoder_open_openvino(&source, &options, encoder);
}

int main(int count, char **arguments) {
    ue_encoder encoder = {.struct_size = sizeof encoder};
    if (count != 7 || (strcmp(arguments[1], "onnxruntime") && strcmp(arguments[1], "openvino"))) {
        fputs("usage: encode onnxruntime|openvino LIBRARY|- MODEL CROP WIDTH TILE\n", stderr);
        return 2;
    }
    int code = open_encoder(arguments, &encoder)
                   ? fail("cannot open the encoder", ue_encoder_error())
                   : encode(&encoder, arguments[6]);
    ue_encoder_close(&encoder);
    if (fflush(stdout))
        code = fail("cannot write the results", strerror(errno));
    return code;
}

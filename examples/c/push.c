/*
 * Screens the tiles of a folder, and prints each diagnosis.
 *
 *     push BUNDLE RUNTIME TILES WIDTH HEIGHT [RESULT]
 *
 * RUNTIME is ONNX Runtime's shared library, "-" where it has its usual name. TILES holds tiles as
 * X_Y.ppm, at level-0 (X, Y), at the bundle's um/px, of a slide of WIDTH x HEIGHT level-0 pixels.
 * RESULT is where the result's JSON is written. Exit codes: 0 success, 1 failure, 2 usage.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unicas_edge_session.h"

struct scan {
    ue_session *session;
    const char *folder;
    size_t side;
    unsigned char *rgb; /* of the tile at hand */
};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "push: %s: %s\n", what, why);
    return 1;
}

/* Why the tile cannot be read; NULL: it is in scan->rgb. */
static const char *read_tile(FILE *file, struct scan *scan) {
    char head[32], wanted[32];
    const size_t size = 3 * scan->side * scan->side;
    const int length =
        snprintf(wanted, sizeof wanted, "P6\n%zu %zu\n255\n", scan->side, scan->side);
    if (fread(head, 1, (size_t)length, file) != (size_t)length ||
        memcmp(head, wanted, (size_t)length))
        return "is no PPM of the bundle's tiles";
    return fread(scan->rgb, 1, size, file) == size && fgetc(file) == EOF ? NULL : "is damaged";
}

static ue_status deliver(struct scan *scan, int64_t x, int64_t y) {
    char path[4096];
    const int length =
        snprintf(path, sizeof path, "%s/%" PRId64 "_%" PRId64 ".ppm", scan->folder, x, y);
    FILE *file = length < (int)sizeof path ? fopen(path, "rb") : NULL;
    if (!file)
        return ue_session_skip(scan->session, x, y); /* nothing was scanned there */
    const char *why = read_tile(file, scan);
    const ue_pixels pixels = {scan->rgb, (ptrdiff_t)(3 * scan->side), 3, 1};
    fclose(file);
    if (why)
        return ue_session_fail(scan->session, x, y, why);
    return ue_session_push(scan->session, &pixels, x, y, UE_NO_SCORE, UE_FOREVER);
}

/* Every tile of the grid, and the end. */
static ue_status scan_slide(struct scan *scan) {
    size_t rows = 0, cols = 0;
    ue_status status = ue_session_grid(scan->session, &rows, &cols);
    for (size_t k = 0; !status && k < rows * cols; k++) {
        int64_t x, y;
        status = ue_session_origin(scan->session, k / cols, k % cols, &x, &y);
        if (!status)
            status = deliver(scan, x, y);
    }
    return status ? status : ue_session_finish(scan->session, UE_FOREVER);
}

static int print_result(const ue_session *session, const char *result) {
    static const char *const decisions[] = {"unsatisfactory", "negative", "positive"};
    ue_answer answer = {.struct_size = sizeof answer};
    for (size_t task = 0; !ue_session_answer(session, task, &answer); task++)
        printf("%s %s %.17g\n", answer.name, decisions[answer.decision], answer.probability);
    const char *reason;
    for (size_t k = 0; (reason = ue_session_reason(session, k)); k++)
        printf("unsatisfactory: %s\n", reason);
    FILE *file = result ? fopen(result, "wb") : NULL;
    if (!result)
        return 0;
    const int written = file && fprintf(file, "%s\n", ue_session_result_json(session)) > 0;
    if (file && fclose(file) == 0 && written)
        return 0;
    return fail(result, strerror(errno));
}

static int screen(ue_screener *screener, const ue_bundle_info *info, char **arguments) {
    const ue_session_options options = {.struct_size = sizeof options,
                                        .width = strtoll(arguments[4], NULL, 10),
                                        .height = strtoll(arguments[5], NULL, 10),
                                        .um_px = info->um_px};
    struct scan scan = {.folder = arguments[3], .side = info->tile_px};
    int code = 0;
    scan.rgb = malloc(3 * scan.side * scan.side);
    if (!scan.rgb)
        code = fail("a tile", ue_status_text(UE_NO_MEMORY));
    else if (ue_session_open(screener, &options, &scan.session) || scan_slide(&scan))
        code = fail(scan.folder, ue_session_error());
    else
        code = print_result(scan.session, arguments[6]);
    ue_session_close(scan.session);
    free(scan.rgb);
    return code;
}

static int run(const ue_bundle *bundle, char **arguments) {
    const char *runtime = strcmp(arguments[2], "-") ? arguments[2] : NULL;
    const ue_bundle_engine reference = {.struct_size = sizeof reference,
                                        .backend = "onnxruntime",
                                        .precision = "fp32",
                                        .onnxruntime = runtime};
    ue_bundle_info info = {.struct_size = sizeof info};
    ue_encoder encoder = {.struct_size = sizeof encoder};
    ue_screener *screener = NULL;
    int code = 0;
    if (ue_bundle_describe(bundle, &info))
        code = fail(arguments[1], "cannot be described");
    else if (ue_bundle_encoder(bundle, &reference, &encoder))
        code = fail(arguments[1], ue_encoder_error());
    else if (ue_screener_open(bundle, &encoder, NULL, &screener))
        code = fail(arguments[1], ue_session_error());
    else
        code = screen(screener, &info, arguments);
    ue_screener_close(screener);
    ue_encoder_close(&encoder);
    return code;
}

int main(int count, char **arguments) {
    if (count < 6 || count > 7) {
        fputs("usage: push BUNDLE RUNTIME TILES WIDTH HEIGHT [RESULT]\n", stderr);
        return 2;
    }
    ue_bundle *bundle;
    int code = ue_bundle_open(arguments[1], &bundle)
                   ? fail("cannot open the bundle", ue_bundle_error(bundle))
                   : run(bundle, arguments);
    ue_bundle_close(bundle);
    if (fflush(stdout))
        code = fail("cannot write the results", strerror(errno));
    return code;
}

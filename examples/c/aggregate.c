/*
 * A slide's logits from its tokens, and the tiles attended to most.
 *
 *     aggregate AGGREGATOR.safetensors TOKENS [TILES]
 *
 * TOKENS holds the CLS tokens of the slide's tiles as raw float32, one after the other (NumPy:
 * tokens.astype("<f4").tofile("tokens.bin")). Prints the logits of each task, then the TILES (3)
 * tiles it attended to most, each with its share of the attention. Exit codes: 0 success, 1
 * failure, 2 usage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unicas_edge.h"

struct slide {
    float *tokens; /* [n][width] */
    size_t n, width;
};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "aggregate: %s: %s\n", what, why);
    return 1;
}

/* The file's tokens; slide->width is known. 0 where that succeeds. */
static int read_tokens(const char *path, struct slide *slide) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        return fail(path, strerror(errno));
    const size_t bytes = (size_t)ftell(file), token = slide->width * sizeof(float);
    int code = bytes && bytes % token == 0 ? 0 : fail(path, "no tokens, or not whole ones");
    slide->n = bytes / token;
    slide->tokens = code ? NULL : malloc(bytes);
    rewind(file);
    if (!code && (!slide->tokens || fread(slide->tokens, token, slide->n, file) != slide->n))
        code = fail(path, "cannot be read whole, or not enough memory");
    fclose(file);
    return code;
}

/* The tile with the largest share; it is struck out, so that the next call finds the next one. */
static size_t take_largest(float *shares, size_t n, float *share) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (shares[i] > shares[best])
            best = i;
    *share = shares[best];
    shares[best] = -1.0f;
    return best;
}

static void print_task(const float *logits, size_t classes, float *shares, size_t n, size_t top) {
    printf("logits");
    for (size_t c = 0; c < classes; c++)
        printf(" %.9g", logits[c]);
    printf("\ntiles");
    for (size_t i = 0; i < top && i < n; i++) {
        float share;
        const size_t tile = take_largest(shares, n, &share);
        printf(" %zu:%.9g", tile, share);
    }
    printf("\n");
}

static int screen(ue_aggregator *aggregator, const ue_aggregator_info *info, ue_bag *bag,
                  const struct slide *slide, size_t top) {
    float *logits = malloc(info->num_tasks * info->most_classes * sizeof *logits);
    float *shares = malloc(info->num_tasks * slide->n * sizeof *shares);
    ue_status status = logits && shares ? UE_OK : UE_NO_MEMORY;
    if (!status)
        status = ue_aggregator_push(bag, 0, slide->tokens, slide->n, slide->width);
    if (!status)
        status = ue_aggregator_arrange(bag, NULL, slide->n);
    if (!status)
        status = ue_aggregator_finish(bag, logits, NULL);
    if (!status)
        status = ue_aggregator_explain(bag, shares);
    for (size_t task = 0; !status && task < info->num_tasks; task++)
        print_task(logits + task * info->most_classes, ue_aggregator_classes(aggregator, task),
                   shares + task * slide->n, slide->n, top);
    free(logits);
    free(shares);
    return status ? fail(ue_status_text(status), ue_aggregator_bag_error(bag)) : 0;
}

static int run(ue_aggregator *aggregator, const char *path, size_t top) {
    ue_aggregator_info info = {.struct_size = sizeof info};
    struct slide slide = {0};
    ue_bag *bag = NULL;
    if (ue_aggregator_describe(aggregator, &info))
        return fail("the aggregator", "cannot be described");
    slide.width = info.embed_dim_in;
    int code = read_tokens(path, &slide);
    if (!code && ue_aggregator_bag(aggregator, slide.n, &bag))
        code = fail(path, "too many tokens, or not enough memory");
    code = code ? code : screen(aggregator, &info, bag, &slide, top);
    ue_aggregator_free_bag(bag);
    free(slide.tokens);
    return code;
}

int main(int count, char **arguments) {
    const size_t top = count == 4 ? strtoul(arguments[3], NULL, 10) : 3;
    if (count < 3 || count > 4 || !top) {
        fputs("usage: aggregate AGGREGATOR.safetensors TOKENS [TILES]\n", stderr);
        return 2;
    }
    ue_aggregator *aggregator;
    int code = ue_aggregator_open(arguments[1], NULL, &aggregator)
                   ? fail("cannot open the aggregator", ue_aggregator_error(aggregator))
                   : run(aggregator, arguments[2], top);
    ue_aggregator_destroy(aggregator);
    if (fflush(stdout))
        code = fail("cannot write the results", strerror(errno));
    return code;
}

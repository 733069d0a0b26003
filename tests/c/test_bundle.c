/*
 * Opens the bundles whose folders come on standard input, a line each, and tells what they say, or
 * what is wrong. Then waits for another line, and makes the aggregator.
 */
#define _DEFAULT_SOURCE

#include <stdbool.h>

#include "check.h"
#include "unicas_edge_bundle.h"

enum { TILES = 9, WIDEST = 1024, MOST = 64 * 1024 };

static void tell_task(const ue_bundle *bundle, size_t index) {
    ue_bundle_task task = {.struct_size = sizeof task};
    CHECK(!ue_bundle_describe_task(bundle, index, &task), "%zu", index);
    printf("task %s %zu %.17g %.17g %zu %.17g %.17g %.17g", task.name, task.positive,
           task.threshold, task.temperature, task.conformal_slides, task.conformal_coverage,
           task.positive_from, task.negative_to);
    for (size_t i = 0; i < task.classes; i++)
        printf(" %s", ue_bundle_class(bundle, index, i));
    putchar('\n');
    CHECK(!ue_bundle_class(bundle, index, task.classes), "past the last class");
}

static void tell_triples(const ue_bundle_info *info) {
    const double *const triples[] = {info->mean, info->std, info->colour_mean, info->colour_std};
    for (size_t i = 0; i < 4; i++)
        printf("triple %.17g %.17g %.17g\n", triples[i][0], triples[i][1], triples[i][2]);
}

static void tell(const ue_bundle *bundle) {
    ue_bundle_info info = {.struct_size = sizeof info};
    CHECK(!ue_bundle_describe(bundle, &info), "describe");
    CHECK(!*ue_bundle_error(bundle), "%s", ue_bundle_error(bundle));
    printf("text %s\ntext %s\ntext %s\ntext %s\n", info.name, info.version, info.licence,
           info.intended_use);
    printf("sha256 %s\n", info.sha256);
    printf("numbers %zu %zu %zu %zu %.17g %d %d %d %d %zu %zu\n", info.tile_px, info.crop_px,
           info.field_tiles, info.max_tiles, info.um_px, (int)info.dtype, (int)info.colour,
           (int)info.trained, (int)info.demonstration, info.width, info.tasks);
    tell_triples(&info);
    for (size_t i = 0; i < info.tasks; i++)
        tell_task(bundle, i);
    ue_bundle_task past = {.struct_size = sizeof past};
    CHECK(ue_bundle_describe_task(bundle, info.tasks, &past) == UE_BAD_OPTIONS, "past the last");
    CHECK(!ue_bundle_class(bundle, info.tasks, 0), "past the last task");
    puts("end");
}

/* Structs of older callers are filled as far as they go; others not at all. */
static void describe_sizes(const ue_bundle *bundle) {
    ue_bundle_info info;
    const size_t sizes[] = {0, 4, sizeof(size_t) + 1, sizeof(size_t), 2 * sizeof(size_t)};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(&info, 7, sizeof info);
        info.struct_size = sizes[i];
        CHECK(ue_bundle_describe(bundle, &info) == (i < 3 ? UE_BAD_OPTIONS : UE_OK), "%zu", i);
        CHECK(((unsigned char *)&info.version)[0] == 7, "written past the end: %zu", i);
    }
    CHECK(ue_bundle_describe(bundle, NULL) == UE_NULL_POINTER, "no struct");
    CHECK(ue_bundle_describe(NULL, &info) == UE_NULL_POINTER, "no bundle");
}

static void run(ue_aggregator *aggregator) {
    static float tokens[TILES * WIDEST], logits[MOST];
    static const size_t order[TILES] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    ue_aggregator_info info = {.struct_size = sizeof info};
    ue_bag *bag;
    CHECK(!ue_aggregator_describe(aggregator, &info) && info.embed_dim_in <= WIDEST, "width");
    for (size_t i = 0; i < TILES * info.embed_dim_in; i++)
        tokens[i] = (float)(i % 17) / 8 - 1;
    CHECK(!ue_aggregator_bag(aggregator, TILES, &bag), "bag");
    CHECK(!ue_aggregator_push(bag, 0, tokens, TILES, info.embed_dim_in), "push");
    CHECK(!ue_aggregator_arrange(bag, order, TILES), "arrange");
    CHECK(!ue_aggregator_finish(bag, logits, NULL), "%s", ue_aggregator_bag_error(bag));
    printf("logits");
    for (size_t i = 0; i < info.num_tasks * info.most_classes; i++)
        printf(" %.9g", (double)logits[i]);
    putchar('\n');
    ue_aggregator_free_bag(bag);
}

/* What was not opened says why, and gives nothing. */
static void check_refused(const ue_bundle *bundle) {
    ue_bundle_info info = {.struct_size = sizeof info};
    ue_bundle_task task = {.struct_size = sizeof task};
    ue_aggregator *aggregator = (ue_aggregator *)(void *)&info;
    CHECK(ue_bundle_describe(bundle, &info) == UE_BAD_OPTIONS, "described");
    CHECK(ue_bundle_describe_task(bundle, 0, &task) == UE_BAD_OPTIONS, "described");
    CHECK(!ue_bundle_class(bundle, 0, 0), "a class");
    CHECK(ue_bundle_aggregator(bundle, NULL, &aggregator) == UE_BAD_BUNDLE, "made");
    CHECK(!aggregator && *ue_bundle_error(bundle), "no text");
}

static void check_null(void) {
    ue_bundle *bundle;
    CHECK(ue_bundle_open("x", NULL) == UE_NULL_POINTER, "nowhere to put it");
    CHECK(ue_bundle_open(NULL, &bundle) == UE_NULL_POINTER && bundle, "no folder");
    check_refused(bundle);
    CHECK(ue_bundle_aggregator(bundle, NULL, NULL) == UE_NULL_POINTER, "nowhere to put it");
    ue_bundle_close(bundle);
    ue_bundle_close(NULL);
    CHECK(*ue_bundle_error(NULL), "no text");
    CHECK(!ue_bundle_class(NULL, 0, 0), "a class");
}

static bool read_line(char *text, int size) {
    if (!fgets(text, size, stdin))
        return false;
    text[strcspn(text, "\n")] = '\0';
    return true;
}

static void use(const ue_bundle *bundle) {
    const ue_aggregator_options options = {.struct_size = sizeof options, .threads = 1};
    ue_aggregator *aggregator;
    char word[8];
    describe_sizes(bundle);
    tell(bundle);
    fflush(stdout);
    CHECK(read_line(word, sizeof word), "no further word");
    CHECK(!ue_bundle_aggregator(bundle, &options, &aggregator), "%s",
          ue_aggregator_error(aggregator));
    run(aggregator);
    ue_aggregator_destroy(aggregator);
}

int main(void) {
    char folder[4096];
    check_null();
    while (read_line(folder, sizeof folder)) {
        ue_bundle *bundle;
        const ue_status status = ue_bundle_open(folder, &bundle);
        if (status) {
            check_refused(bundle);
            printf("refused %d %s\n", (int)status, ue_bundle_error(bundle));
        } else {
            use(bundle);
        }
        fflush(stdout);
        ue_bundle_close(bundle);
    }
    return 0;
}

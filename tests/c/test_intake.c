/*
 * A session as a scanner's engineer drives it: threads that push in any order, threads that encode,
 * and the same bits whatever they do. test_session FILE WIDTH SPOOL, with sanitizers.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>

#include "check.h"
#include "intake/intake.h"

enum { TILE = 10, CROP = 8, ROWS = 9, COLS = 11, CELLS = ROWS * COLS, FIELD = 3, CAP = 30 };
enum { SCANNERS = 3, ENCODERS = 2, BATCH = 4, ROUNDS = 6, MOST_LOGITS = 4096, MOST_WIDTH = 64 };

static size_t width;
static ue_aggregator *aggregator;
static const char *spool; /* NULL for none */

/* What one scan has of its own. */
struct scan {
    ue_intake *intake;
    uint32_t order[CELLS];
    size_t thread; /* the next one's number */
    pthread_mutex_t lock;
    int cancelled; /* in its middle */
};

struct outcome {
    uint32_t cells[CELLS];
    size_t count, encoded;
    float logits[MOST_LOGITS];
};

static size_t own_number(struct scan *scan) {
    pthread_mutex_lock(&scan->lock);
    const size_t number = scan->thread++;
    pthread_mutex_unlock(&scan->lock);
    return number;
}

/* A tile's content depends on its place alone; every fifth is background. */
static void draw(uint32_t cell, uint8_t *pixels) {
    for (size_t k = 0; k < 3 * TILE * TILE; k++)
        pixels[k] = cell % 5 ? (uint8_t)(cell * 31 + k * k % 89) % 200 : 250;
}

static double score_of(uint32_t cell) {
    return cell % 7;
}

static void send(ue_intake *intake, uint32_t cell, int layout) {
    uint8_t pixels[3 * TILE * TILE], planes[3 * TILE * TILE];
    draw(cell, pixels);
    for (size_t k = 0; k < 3 * TILE * TILE; k++)
        planes[k % 3 * TILE * TILE + k / 3] = pixels[k];
    const ue_pixels packed = {pixels, 3 * TILE, 3, 1}, planar = {planes, TILE, 1, TILE * TILE};
    const int64_t x = cell % COLS * TILE, y = cell / COLS * TILE;
    ue_status status;
    if (ue_intake_came(intake, x, y) == UE_OK)
        return;
    if (cell % 11 == 3)
        status = ue_intake_skip(intake, x, y);
    else if (cell % 11 == 7)
        status = ue_intake_fail(intake, x, y, score_of(cell));
    else
        status = ue_intake_push(intake, layout ? &planar : &packed, x, y, score_of(cell), true);
    CHECK(status == UE_OK || status == UE_ENDED, "%s", ue_intake_error());
    while (ue_intake_room(intake, 5) == UE_BUSY)
        ;
}

static void *push(void *argument) {
    struct scan *scan = argument;
    const size_t me = own_number(scan) % SCANNERS;
    for (size_t k = me; k < CELLS; k += SCANNERS) {
        send(scan->intake, scan->order[k], (int)(k % 2));
        if (scan->cancelled && k > CELLS / 2)
            ue_intake_cancel(scan->intake);
    }
    return NULL;
}

static void make_token(uint32_t cell, float *token) {
    for (size_t k = 0; k < width; k++)
        token[k] = (float)((cell * 131 + k * 17) % 97) / 97.0f - 0.5f;
}

static void *encode(void *argument) {
    struct scan *scan = argument;
    float planes[BATCH * 3 * CROP * CROP], tokens[BATCH * MOST_WIDTH];
    uint32_t cells[BATCH];
    size_t count, bad;
    ue_status status;
    while ((status = ue_intake_take(scan->intake, planes, cells, &count, 5)) != UE_ENDED)
        if (status == UE_OK) {
            for (size_t k = 0; k < count; k++)
                make_token(cells[k], tokens + k * width);
            CHECK(ue_intake_deliver(scan->intake, cells, count, tokens, width, &bad) == UE_OK, "%s",
                  ue_intake_error());
        }
    return NULL;
}

static void shuffle(uint32_t *order) {
    for (uint32_t k = 0; k < CELLS; k++)
        order[k] = k;
    for (size_t k = CELLS; k-- > 1;) {
        const size_t other = random_below(k + 1);
        const uint32_t cell = order[k];
        order[k] = order[other];
        order[other] = cell;
    }
}

static ue_intake_options options_of(ue_bag *bag, size_t held) {
    const ue_intake_options options = {
        .struct_size = sizeof options,
        .width = COLS * TILE,
        .height = ROWS * TILE,
        .downsample = 1,
        .tile = TILE,
        .crop = CROP,
        .field = FIELD,
        .max_tiles = CAP,
        .token_width = width,
        .batch = BATCH,
        .most_held = held,
        .most_open = CELLS,
        .cellular_below = 217,
        .dark = 2,
        .background_share = 0.003,
        .affine = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0},
        .dtype = UE_FLOAT32,
        .bag = bag,
        .capacity = CAP,
        .spool = spool,
    };
    return options;
}

static void run_threads(struct scan *scan) {
    pthread_t threads[SCANNERS + ENCODERS];
    for (size_t k = 0; k < SCANNERS + ENCODERS; k++)
        CHECK(!pthread_create(&threads[k], NULL, k < SCANNERS ? push : encode, scan), "thread");
    for (size_t k = 0; k < SCANNERS; k++)
        pthread_join(threads[k], NULL);
    const ue_status status = ue_intake_end(scan->intake);
    CHECK(status == (scan->cancelled ? UE_ENDED : UE_OK), "%s", ue_intake_error());
    while (ue_intake_drained(scan->intake, 5) == UE_BUSY)
        ;
    for (size_t k = SCANNERS; k < SCANNERS + ENCODERS; k++)
        pthread_join(threads[k], NULL);
}

static void collect(ue_intake *intake, ue_bag *bag, struct outcome *outcome) {
    uint8_t has[CELLS];
    size_t places[CELLS];
    memset(outcome, 0, sizeof *outcome);
    CHECK(ue_intake_order(intake, outcome->cells, CELLS, &outcome->count) == UE_OK, "order");
    CHECK(outcome->count == CAP, "%zu tiles are planned", outcome->count);
    CHECK(ue_intake_keep(intake, outcome->cells, outcome->count, has) == UE_OK, "keep");
    for (size_t k = 0; k < outcome->count; k++)
        if (has[k])
            outcome->cells[outcome->encoded++] = outcome->cells[k];
    CHECK(ue_intake_places(intake, outcome->cells, outcome->encoded, places) == UE_OK, "%s",
          ue_intake_error());
    CHECK(ue_aggregator_arrange(bag, places, outcome->encoded) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, outcome->logits, NULL) == UE_OK, "finish");
}

static void scan(size_t held, int cancelled, struct outcome *outcome) {
    ue_bag *bag;
    CHECK(ue_aggregator_bag(aggregator, CAP, &bag) == UE_OK, "bag");
    const ue_intake_options options = options_of(bag, held);
    struct scan scan = {.cancelled = cancelled};
    shuffle(scan.order);
    pthread_mutex_init(&scan.lock, NULL);
    CHECK(ue_intake_open(&options, &scan.intake) == UE_OK, "%s", ue_intake_error());
    run_threads(&scan);
    if (outcome)
        collect(scan.intake, bag, outcome);
    ue_intake_destroy(scan.intake);
    ue_aggregator_free_bag(bag);
    pthread_mutex_destroy(&scan.lock);
}

/* What is refused changes nothing. */
static void refuse(void) {
    ue_bag *bag;
    ue_intake *intake;
    ue_session_progress progress;
    uint8_t pixels[3 * TILE * TILE] = {0};
    const ue_pixels tile = {pixels, 3 * TILE, 3, 1};
    CHECK(ue_aggregator_bag(aggregator, CAP, &bag) == UE_OK, "bag");
    ue_intake_options options = options_of(bag, 100);
    options.crop = TILE + 1;
    CHECK(ue_intake_open(&options, &intake) == UE_BAD_OPTIONS, "a crop larger than its tile");
    options.crop = CROP;
    CHECK(ue_intake_open(&options, &intake) == UE_OK, "%s", ue_intake_error());
    CHECK(ue_intake_push(intake, &tile, 1, 0, 1, true) == UE_BAD_TILE, "off the grid");
    CHECK(ue_intake_push(intake, &tile, INT64_MAX, INT64_MIN, 1, true) == UE_BAD_TILE, "far");
    CHECK(ue_intake_push(intake, &tile, 0, 0, -1, true) == UE_BAD_TILE, "a score below 0");
    CHECK(ue_intake_push(intake, NULL, 0, 0, 1, true) == UE_NULL_POINTER, "no pixels");
    CHECK(ue_intake_push(intake, &tile, 0, 0, 1, true) == UE_OK, "%s", ue_intake_error());
    CHECK(ue_intake_skip(intake, 0, 0) == UE_BAD_TILE, "a tile twice");
    CHECK(strstr(ue_intake_error(), "pushed twice"), "%s", ue_intake_error());
    CHECK(ue_intake_push(intake, &tile, TILE, 0, 1, false) == UE_BAD_TILE, "scores for some");
    CHECK(ue_intake_progress_of(intake, &progress) == UE_OK && progress.seen == 1, "one tile");
    CHECK(ue_intake_skip(NULL, 0, 0) == UE_NULL_POINTER, "no session");
    ue_intake_destroy(intake);
    ue_intake_destroy(NULL);
    ue_aggregator_free_bag(bag);
}

int main(int argc, char **argv) {
    CHECK(argc == 4, "test_session FILE WIDTH SPOOL");
    const ue_aggregator_options options = {sizeof options, 1, NULL};
    width = strtoul(argv[2], NULL, 10);
    CHECK(width <= MOST_WIDTH, "%zu", width);
    CHECK(ue_aggregator_open(argv[1], &options, &aggregator) == UE_OK, "%s",
          ue_aggregator_error(aggregator));
    static struct outcome first, again;
    scan(CELLS, 0, &first);
    for (size_t round = 0; round < ROUNDS; round++) {
        scan(round % 2 ? 5 : CELLS, 0, &again);
        CHECK(!memcmp(&first, &again, sizeof first), "round %zu differs", round);
        scan(round % 2 ? 5 : CELLS, 1, NULL);
    }
    for (size_t round = 0; round < ROUNDS; round++) { /* cancelled, and gone on with */
        spool = argv[3];
        scan(round % 2 ? 5 : CELLS, 1, NULL);
        scan(round % 2 ? CELLS : 5, 0, &again);
        CHECK(!memcmp(&first, &again, sizeof first), "round %zu with a spool differs", round);
        remove(spool);
        spool = NULL;
    }
    refuse();
    ue_aggregator_destroy(aggregator);
    return 0;
}

/*
 * The aggregator as a program that embeds it would use it, and every rule of its header.
 *
 *     test_aggregator FILE TOKENS N VARIANT THREADS
 *
 * TOKENS is raw float32 [N, embed_dim_in]. Prints the variant, then the logits of the bag, a task a
 * line, as hexadecimal floats; ends with 1 and a sentence where a rule does not hold.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdbool.h>

#include "check.h"
#include "unicas_edge.h"

enum { BAGS = 17 };

static const char *path;
static ue_aggregator_options options = {sizeof options, 0, NULL};
static struct {
    float *values;
    size_t count, width;
} tokens;
static ue_aggregator_info info = {.struct_size = sizeof info};

static void *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    CHECK(file && fseek(file, 0, SEEK_END) == 0, "%s", name);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size);
    CHECK(bytes && fread(bytes, 1, *size, file) == *size, "%s", name);
    fclose(file);
    return bytes;
}

static size_t logits_size(void) {
    return info.num_tasks * info.most_classes * sizeof(float);
}

static ue_aggregator *open_good(void) {
    ue_aggregator *aggregator;
    CHECK(ue_aggregator_open(path, &options, &aggregator) == UE_OK, "%s",
          ue_aggregator_error(aggregator));
    CHECK(!*ue_aggregator_error(aggregator), "an error after success");
    return aggregator;
}

static ue_bag *bag_of(ue_aggregator *aggregator, size_t capacity) {
    ue_bag *bag;
    CHECK(ue_aggregator_bag(aggregator, capacity, &bag) == UE_OK, "a bag of %zu", capacity);
    CHECK(ue_aggregator_bag_bytes(bag) >= capacity * info.embed_dim * sizeof(float), "bytes");
    return bag;
}

static void push_all(ue_bag *bag, size_t first, size_t from, size_t count) {
    const float *begin = tokens.values + from * tokens.width;
    CHECK(ue_aggregator_push(bag, first, begin, count, tokens.width) == UE_OK, "%s",
          ue_aggregator_bag_error(bag));
}

/* ---- opening --------------------------------------------------------------------------------- */

/* `made` is read after `found` came about: arguments have no order. */
static void fails(ue_status found, ue_status wanted, ue_aggregator **made, const char *text) {
    ue_aggregator *const aggregator = *made;
    CHECK(found == wanted, "status %d, not %d", (int)found, (int)wanted);
    CHECK(strstr(ue_aggregator_error(aggregator), text), "%s", ue_aggregator_error(aggregator));
    CHECK(ue_aggregator_describe(aggregator, &info) != UE_OK, "an unusable handle is described");
    CHECK(strstr(ue_aggregator_error(aggregator), text), "the error did not stay");
    ue_aggregator_destroy(aggregator);
}

static void check_refusals(void) {
    ue_aggregator *aggregator;
    ue_aggregator_options bad = options;
    CHECK(ue_aggregator_open(path, NULL, NULL) == UE_NULL_POINTER, "no place for the handle");
    fails(ue_aggregator_open(NULL, NULL, &aggregator), UE_NULL_POINTER, &aggregator, "no file");
    fails(ue_aggregator_from_memory(NULL, 9, NULL, &aggregator), UE_NULL_POINTER, &aggregator,
          "no");
    fails(ue_aggregator_open("/no/such.file", NULL, &aggregator), UE_BAD_FILE, &aggregator,
          "/no/such.file");
    bad.struct_size = sizeof bad.struct_size - 1;
    fails(ue_aggregator_open(path, &bad, &aggregator), UE_BAD_OPTIONS, &aggregator, "struct_size");
    bad.struct_size = sizeof bad + 1;
    fails(ue_aggregator_open(path, &bad, &aggregator), UE_BAD_OPTIONS, &aggregator, "struct_size");
    bad = options;
    bad.variant = "abacus";
    fails(ue_aggregator_open(path, &bad, &aggregator), UE_NO_SUCH_VARIANT, &aggregator, "abacus");
    ue_aggregator_destroy(NULL);
    ue_aggregator_free_bag(NULL);
    CHECK(*ue_aggregator_error(NULL) && *ue_aggregator_bag_error(NULL), "no text for NULL");
}

static void check_damaged(void) {
    size_t size;
    ue_aggregator *aggregator;
    uint8_t *bytes = read_file(path, &size);
    fails(ue_aggregator_from_memory(bytes, 7, NULL, &aggregator), UE_BAD_FILE, &aggregator, "");
    fails(ue_aggregator_from_memory(bytes, size - 1, NULL, &aggregator), UE_BAD_FILE, &aggregator,
          "");
    free(bytes);
}

/* A caller compiled against an earlier header, whose structs were shorter. */
static void check_short_structs(void) {
    ue_aggregator *aggregator;
    const ue_aggregator_options earlier = {offsetof(ue_aggregator_options, variant), 1, "abacus"};
    CHECK(ue_aggregator_open(path, &earlier, &aggregator) == UE_OK, "%s",
          ue_aggregator_error(aggregator));
    ue_aggregator_info some = {.struct_size = offsetof(ue_aggregator_info, depth), .depth = 77};
    CHECK(ue_aggregator_describe(aggregator, &some) == UE_OK, "describe");
    CHECK(some.embed_dim == info.embed_dim && some.depth == 77, "describe wrote too much");
    some.struct_size = sizeof some.struct_size - 1;
    CHECK(ue_aggregator_describe(aggregator, &some) == UE_BAD_OPTIONS, "too small");
    CHECK(ue_aggregator_describe(NULL, &some) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_describe(aggregator, NULL) == UE_NULL_POINTER, "NULL");
    ue_aggregator_destroy(aggregator);
}

static void check_description(ue_aggregator *aggregator) {
    size_t variants = 0, most = 0;
    while (ue_aggregator_variant(variants))
        variants++;
    CHECK(variants && !strcmp(ue_aggregator_variant(variants - 1), "portable"), "portable is last");
    CHECK(ue_version() == UE_VERSION, "version %x", (unsigned)ue_version());
    CHECK(ue_aggregator_describe(aggregator, &info) == UE_OK, "describe");
    CHECK(info.struct_size == sizeof info && info.stored_bytes && info.prepared_bytes, "info");
    CHECK(info.threads == options.threads, "%zu threads", info.threads);
    CHECK(!strcmp(info.variant, options.variant), "%s", info.variant);
    for (size_t task = 0; task < info.num_tasks; task++) {
        const size_t classes = ue_aggregator_classes(aggregator, task);
        CHECK(classes, "task %zu has no classes", task);
        most = classes > most ? classes : most;
    }
    CHECK(most == info.most_classes, "most classes");
    CHECK(!ue_aggregator_classes(aggregator, info.num_tasks), "a task too many");
    CHECK(!ue_aggregator_classes(NULL, 0), "classes of NULL");
}

/* ---- bags ------------------------------------------------------------------------------------ */

static void names(ue_status found, ue_bag *bag, const char *text) {
    CHECK(found == UE_BAD_TOKENS, "status %d, wanted: %s", (int)found, text);
    CHECK(strstr(ue_aggregator_bag_error(bag), text), "%s", ue_aggregator_bag_error(bag));
}

static void check_bag_rules(ue_aggregator *aggregator) {
    ue_bag *bag;
    float *out = malloc(logits_size() + info.depth * info.num_tasks * info.embed_dim * sizeof *out);
    const size_t bad_order[] = {0, 9};
    const float *values = tokens.values;
    CHECK(ue_aggregator_bag(aggregator, 0, &bag) == UE_BAD_OPTIONS && !bag, "capacity 0");
    CHECK(ue_aggregator_bag(aggregator, UE_MAX_TILES + 1, &bag) == UE_BAD_OPTIONS && !bag, "most");
    CHECK(ue_aggregator_bag(aggregator, SIZE_MAX, &bag) == UE_BAD_OPTIONS && !bag, "SIZE_MAX");
    CHECK(ue_aggregator_bag(NULL, 1, &bag) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_bag(aggregator, 1, NULL) == UE_NULL_POINTER, "NULL");
    bag = bag_of(aggregator, 5);
    names(ue_aggregator_finish(bag, out, NULL), bag, "no tokens were arranged");
    names(ue_aggregator_push(bag, 4, values, 2, tokens.width), bag, "do not fit");
    names(ue_aggregator_push(bag, SIZE_MAX, values, 2, tokens.width), bag, "do not fit");
    names(ue_aggregator_push(bag, 0, values, SIZE_MAX, tokens.width), bag, "do not fit");
    names(ue_aggregator_push(bag, 0, values, 2, tokens.width - 1), bag, "apart");
    CHECK(ue_aggregator_push(bag, 0, NULL, 1, tokens.width) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_push(NULL, 0, values, 1, tokens.width) == UE_NULL_POINTER, "NULL");
    names(ue_aggregator_arrange(bag, NULL, 1), bag, "token 0 was never pushed");
    push_all(bag, 0, 0, 1);
    names(ue_aggregator_arrange(bag, bad_order, 2), bag, "token 9 was never pushed");
    names(ue_aggregator_arrange(bag, NULL, 0), bag, "0 tokens");
    names(ue_aggregator_arrange(bag, NULL, 6), bag, "6 tokens");
    names(ue_aggregator_finish(bag, out, NULL), bag, "no tokens were arranged");
    CHECK(ue_aggregator_arrange(bag, NULL, 1) == UE_OK, "arrange");
    names(ue_aggregator_explain(bag, out), bag, "call finish first");
    names(ue_aggregator_task_tokens(bag, out), bag, "call finish first");
    CHECK(ue_aggregator_finish(bag, NULL, NULL) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_finish(NULL, out, NULL) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_arrange(NULL, NULL, 1) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_explain(bag, NULL) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_task_tokens(NULL, out) == UE_NULL_POINTER, "NULL");
    ue_aggregator_free_bag(bag);
    free(out);
}

/* A NaN or infinity in the second of three tokens: it is named, and the first is not taken. */
static void check_bad_token(ue_aggregator *aggregator) {
    const size_t bytes = 3 * tokens.width * sizeof(float);
    float *three = malloc(bytes), *logits = malloc(logits_size()), *again = malloc(logits_size());
    const float bad[] = {NAN, INFINITY, -INFINITY};
    ue_bag *bag = bag_of(aggregator, 3);
    push_all(bag, 0, 0, 3);
    CHECK(ue_aggregator_arrange(bag, NULL, 3) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, logits, NULL) == UE_OK, "finish");
    for (size_t place = 0; place < tokens.width; place++) {
        memcpy(three, tokens.values, bytes);
        three[0] += 1.0f;
        three[tokens.width + place] = bad[place % 3];
        names(ue_aggregator_push(bag, 0, three, 3, tokens.width), bag, "token 1 is not finite");
    }
    CHECK(ue_aggregator_arrange(bag, NULL, 3) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, again, NULL) == UE_OK, "finish");
    CHECK(!memcmp(logits, again, logits_size()), "a refused token was taken");
    ue_aggregator_free_bag(bag);
    free(three);
    free(logits);
    free(again);
}

static void check_sums(ue_bag *bag, size_t n) {
    float *attention = malloc(info.num_tasks * n * sizeof *attention);
    CHECK(ue_aggregator_explain(bag, attention) == UE_OK, "%s", ue_aggregator_bag_error(bag));
    for (size_t task = 0; task < info.num_tasks; task++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++) {
            CHECK(attention[task * n + j] >= 0, "negative attention");
            sum += attention[task * n + j];
        }
        CHECK(fabs(sum - 1) < 1e-4, "attention of task %zu sums to %g", task, sum);
    }
    free(attention);
}

static void check_task_tokens(ue_bag *bag) {
    const size_t count = info.depth * info.num_tasks * info.embed_dim;
    float *values = malloc(count * sizeof *values);
    CHECK(ue_aggregator_task_tokens(bag, values) == UE_OK, "task tokens");
    for (size_t i = 0; i < count; i++)
        CHECK(isfinite(values[i]), "task token value %zu", i);
    free(values);
}

/* All tokens in the order of the file, pushed by a call. */
static void expect(ue_aggregator *aggregator, float *logits) {
    ue_bag *bag = bag_of(aggregator, tokens.count);
    double seconds[UE_PASSES] = {0};
    push_all(bag, 0, 0, tokens.count);
    CHECK(ue_aggregator_arrange(bag, NULL, tokens.count) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, logits, seconds) == UE_OK, "%s", ue_aggregator_bag_error(bag));
    for (size_t pass = 0; pass < UE_PASSES; pass++)
        CHECK(seconds[pass] >= 0 && seconds[pass] < 600, "pass %zu took %g s", pass, seconds[pass]);
    check_sums(bag, tokens.count);
    check_task_tokens(bag);
    ue_aggregator_free_bag(bag);
}

static void shuffle(size_t *places, size_t count) {
    for (size_t i = 0; i < count; i++)
        places[i] = i;
    for (size_t i = count; i > 1; i--) {
        const size_t j = random_below(i), kept = places[i - 1];
        places[i - 1] = places[j];
        places[j] = kept;
    }
}

/* Token by token at shuffled places with a wide stride, in a bag that another slide used before. */
static void check_streaming(ue_aggregator *aggregator, const float *wanted) {
    const size_t n = tokens.count, wide = tokens.width + 3, bytes = tokens.width * sizeof(float);
    size_t *places = malloc((n + 9) * sizeof *places);
    float *apart = malloc(n * wide * sizeof *apart), *found = malloc(logits_size());
    ue_bag *bag = bag_of(aggregator, n + 9);
    memset(apart, 0xff, n * wide * sizeof *apart); /* NaN between the tokens may not be looked at */
    for (size_t i = 0; i < n; i++)
        memcpy(apart + i * wide, tokens.values + i * tokens.width, bytes);
    push_all(bag, 4, 0, n > 5 ? 5 : n);
    CHECK(ue_aggregator_push(bag, 9, apart, 0, wide) == UE_OK, "no tokens are no error");
    for (size_t step = 1; step <= 3; step++) {
        shuffle(places, n + 9);
        for (size_t i = 0; i < n; i++)
            CHECK(ue_aggregator_push(bag, places[i], apart + i * wide, 1, wide) == UE_OK, "push");
        CHECK(ue_aggregator_arrange(bag, places, n) == UE_OK, "arrange");
        CHECK(ue_aggregator_finish(bag, found, NULL) == UE_OK, "finish");
        CHECK(!memcmp(found, wanted, logits_size()), "pushed one by one the bits differ");
    }
    for (size_t i = 0; i < n; i += 5) /* and in blocks */
        CHECK(ue_aggregator_push(bag, i + 3, apart + i * wide, n - i < 5 ? n - i : 5, wide) ==
                  UE_OK,
              "push");
    for (size_t i = 0; i < n; i++)
        places[i] = i + 3;
    CHECK(ue_aggregator_arrange(bag, places, n) == UE_OK, "arrange");
    CHECK(ue_aggregator_finish(bag, found, NULL) == UE_OK, "finish");
    CHECK(!memcmp(found, wanted, logits_size()), "pushed in blocks the bits differ");
    ue_aggregator_free_bag(bag);
    free(places);
    free(apart);
    free(found);
}

/* Bags of different sizes, one more than go side by side, give the bits that each gives alone. */
static void check_many(ue_aggregator *aggregator) {
    static const size_t counts[] = {0, 1, 2, 5, 16, BAGS};
    ue_bag *bags[BAGS];
    float *alone[BAGS], *together[BAGS];
    for (size_t b = 0; b < BAGS; b++) {
        const size_t n = 1 + b * 7 % tokens.count;
        bags[b] = bag_of(aggregator, n + b % 2);
        alone[b] = malloc(logits_size());
        together[b] = malloc(logits_size());
        push_all(bags[b], 0, tokens.count - n, n);
        CHECK(ue_aggregator_arrange(bags[b], NULL, n) == UE_OK, "arrange");
        CHECK(ue_aggregator_finish(bags[b], alone[b], NULL) == UE_OK, "finish");
    }
    for (size_t step = 0; step < sizeof counts / sizeof counts[0]; step++) {
        const size_t count = counts[step];
        for (size_t b = 0; b < count; b++)
            memset(together[b], 0xff, logits_size());
        CHECK(ue_aggregator_finish_many(bags, count, together, NULL) == UE_OK, "%zu bags", count);
        for (size_t b = 0; b < count; b++)
            CHECK(!memcmp(alone[b], together[b], logits_size()), "bag %zu of %zu", b, count);
    }
    ue_bag *const twice[] = {bags[0], bags[1], bags[0]};
    CHECK(ue_aggregator_finish_many(twice, 3, together, NULL) == UE_BAD_OPTIONS, "listed twice");
    CHECK(strstr(ue_aggregator_bag_error(bags[0]), "twice"), "%s",
          ue_aggregator_bag_error(bags[0]));
    CHECK(ue_aggregator_finish_many(NULL, 1, together, NULL) == UE_NULL_POINTER, "NULL");
    CHECK(ue_aggregator_finish_many(bags, 1, NULL, NULL) == UE_NULL_POINTER, "NULL");
    for (size_t b = 0; b < BAGS; b++) {
        ue_aggregator_free_bag(bags[b]);
        free(alone[b]);
        free(together[b]);
    }
}

/* The same file from memory, not even aligned, gives the same bits. */
static void check_memory(const float *wanted) {
    size_t size;
    ue_aggregator *aggregator;
    uint8_t *bytes = read_file(path, &size), *shifted = malloc(size + 1);
    float *found = malloc(logits_size());
    memcpy(shifted + 1, bytes, size);
    for (size_t odd = 0; odd < 2; odd++) {
        const uint8_t *from = odd ? shifted + 1 : bytes;
        CHECK(ue_aggregator_from_memory(from, size, &options, &aggregator) == UE_OK, "%s",
              ue_aggregator_error(aggregator));
        expect(aggregator, found);
        CHECK(!memcmp(found, wanted, logits_size()), "from memory the bits differ");
        ue_aggregator_destroy(aggregator);
    }
    free(bytes);
    free(shifted);
    free(found);
}

static void print_logits(const float *logits) {
    printf("%s %zu\n", info.variant, info.threads);
    for (size_t i = 0; i < info.num_tasks * info.most_classes; i++)
        printf("%a%c", (double)logits[i], (i + 1) % info.most_classes ? ' ' : '\n');
}

int main(int count, char **arguments) {
    CHECK(count == 6, "usage: %s FILE TOKENS N VARIANT THREADS", arguments[0]);
    size_t size;
    path = arguments[1];
    tokens.values = read_file(arguments[2], &size);
    tokens.count = strtoul(arguments[3], NULL, 10);
    options.variant = arguments[4];
    options.threads = strtoul(arguments[5], NULL, 10);
    ue_aggregator *aggregator = open_good();
    check_description(aggregator);
    tokens.width = info.embed_dim_in;
    CHECK(size >= tokens.count * tokens.width * sizeof(float), "too few tokens");
    float *logits = malloc(logits_size());
    expect(aggregator, logits);
    print_logits(logits);
    check_bag_rules(aggregator);
    check_bad_token(aggregator);
    check_streaming(aggregator, logits);
    check_many(aggregator);
    ue_aggregator_destroy(aggregator);
    check_memory(logits);
    check_short_structs();
    check_refusals();
    check_damaged();
    free(logits);
    free(tokens.values);
    return 0;
}

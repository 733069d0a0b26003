/*
 * Which form of an encoder may screen: cases from standard input, each a line of words and numbers
 * (tests/c/test_choice.py writes them); one line for each: the status, what was chosen, the text.
 */
#define _DEFAULT_SOURCE
#include "check.h"
#include "encoders/choice.h"

enum { MOST_WORD = 32 };

/* A case, with room for its words. */
struct words {
    char word[4096][MOST_WORD];
    size_t count;
};

static struct words words;

static const char *read_word(void) {
    char *word = words.word[words.count++];
    CHECK(words.count < 4096 && scanf("%31s", word) == 1, "a case is cut short");
    return word;
}

static double read_number(void) {
    double number;
    CHECK(scanf("%lf", &number) == 1, "a case is cut short");
    return number;
}

static int read_index(void) {
    return (int)read_number();
}

static struct ue_candidate read_candidate(void) {
    struct ue_candidate made;
    made.backend = (enum ue_backend)read_index();
    made.precision = (enum ue_precision)read_index();
    made.sha256 = read_word();
    return made;
}

static struct ue_engine_run read_run(void) {
    struct ue_engine_run run = {.of = read_candidate()};
    run.isa = read_word();
    run.cosine_mean = read_number();
    run.cosine_min = read_number();
    run.centred_cosine_mean = read_number();
    run.overlap = read_number();
    run.max_probability_change = read_number();
    run.changed_decisions = (uint64_t)read_number();
    return run;
}

static struct ue_verification read_verification(struct ue_engine_run *runs) {
    struct ue_verification found = {.runs = runs};
    found.encoder_sha256 = read_word();
    found.aggregator_sha256 = read_word();
    found.gate.min_cosine_mean = read_number();
    found.gate.min_cosine = read_number();
    found.gate.min_centred_cosine_mean = read_number();
    found.gate.min_overlap = read_number();
    found.gate.max_probability_change = read_number();
    found.gate.max_changed_decisions = (uint64_t)read_number();
    found.run_count = (size_t)read_number();
    for (size_t k = 0; k < found.run_count && k < UE_MAX_RUNS; k++)
        runs[k] = read_run();
    return found;
}

static struct ue_machine read_machine(void) {
    struct ue_machine machine = {.isa = read_word()};
    for (size_t k = 0; k < UE_BACKENDS; k++)
        machine.has[k] = read_index();
    for (size_t k = 0; k < UE_BACKENDS; k++)
        for (size_t p = 0; p < UE_PRECISIONS; p++)
            machine.speed[k][p] = read_number();
    return machine;
}

static void answer(void) {
    struct ue_candidate forms[UE_MAX_FORMS];
    struct ue_engine_run runs[UE_MAX_RUNS];
    struct ue_verification found;
    struct ue_choice choice;
    struct ue_encoder_forms bundle = {.reference = read_candidate(), .forms = forms};
    bundle.aggregator_sha256 = read_word();
    bundle.form_count = (size_t)read_number();
    for (size_t k = 0; k < bundle.form_count && k < UE_MAX_FORMS; k++)
        forms[k] = read_candidate();
    if (read_index()) {
        found = read_verification(runs);
        bundle.verification = &found;
    }
    const struct ue_machine machine = read_machine();
    struct ue_wish wish = {.backend = read_index()};
    wish.precision = read_index();
    wish.allow_unverified = read_index();
    const ue_status status = ue_choose(&bundle, &machine, &wish, &choice);
    const char *sha256 = choice.chosen.sha256;
    printf("%d|%s|%s|%s|%d|%s\n", (int)status, ue_backend_name(choice.chosen.backend),
           ue_precision_name(choice.chosen.precision), sha256 ? sha256 : "", choice.unverified,
           choice.text);
    fflush(stdout);
}

static void test_what_is_not_possible(void) {
    struct ue_choice choice;
    const struct ue_candidate reference = {UE_ONNXRUNTIME, UE_FP32, "a"};
    const struct ue_machine machine = {.isa = "x"};
    struct ue_encoder_forms bundle = {.reference = reference, .form_count = UE_MAX_FORMS + 1};
    struct ue_wish wish = {UE_ANY, UE_ANY, false};
    CHECK(ue_choose(NULL, &machine, &wish, &choice) == UE_NULL_POINTER, "NULL");
    CHECK(ue_choose(&bundle, &machine, &wish, &choice) == UE_BAD_OPTIONS, "too many forms");
    bundle.form_count = 0;
    wish.backend = UE_BACKENDS;
    CHECK(ue_choose(&bundle, &machine, &wish, &choice) == UE_BAD_OPTIONS, "no such engine");
    CHECK(*choice.text, "it does not say why");
}

int main(void) {
    test_what_is_not_possible();
    for (int next; scanf(" ") != EOF && (next = getchar()) != EOF;) {
        ungetc(next, stdin);
        words.count = 0;
        answer();
    }
    return 0;
}

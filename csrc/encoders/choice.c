#include "choice.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "system/error.h"

/* A row of engines/registry.py: in which precisions it computes the encoder's own fp32 file. */
static const struct row {
    const char *name;
    bool fp32, bf16;
    int rank; /* of two in one precision, the higher is usually the faster */
} rows[UE_BACKENDS] = {
    {"onnxruntime", true, false, 0},
    {"openvino", true, true, 1},
    {"onnxruntime-cuda", true, false, 0},
    {"onnxruntime-tensorrt", true, false, 0},
};
static const char *const precisions[UE_PRECISIONS] = {"int8", "int8w", "bf16", "fp16", "fp32"};

enum { MOST = 1 + 2 * UE_BACKENDS + UE_MAX_FORMS };

/* The bundle's candidates, the reference first. */
struct list {
    struct ue_candidate all[MOST];
    size_t count;
};

const char *ue_backend_name(enum ue_backend backend) {
    return rows[backend].name;
}

const char *ue_precision_name(enum ue_precision precision) {
    return precisions[precision];
}

int ue_backend_of(const char *name) {
    int found = UE_BACKENDS;
    while (found-- > 0 && strcmp(rows[found].name, name) != 0)
        ;
    return found;
}

int ue_precision_of(const char *name) {
    int found = UE_PRECISIONS;
    while (found-- > 0 && strcmp(precisions[found], name) != 0)
        ;
    return found;
}

/* Append to a text, cut to fit. */
UE_PRINTF(2, 3)
static void add(struct ue_choice *choice, const char *format, ...) {
    const size_t used = strlen(choice->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(choice->text + used, sizeof choice->text - used, format, arguments);
    va_end(arguments);
}

/* ---- candidates ------------------------------------------------------------------------------ */

static bool alike(struct ue_candidate a, struct ue_candidate b) {
    return a.backend == b.backend && a.precision == b.precision;
}

static bool same_text(const char *a, const char *b) {
    return a && b && !strcmp(a, b);
}

static bool has_form(const struct ue_encoder_forms *forms, struct ue_candidate kind) {
    bool found = alike(forms->reference, kind);
    for (size_t k = 0; k < forms->form_count; k++)
        found = found || alike(forms->forms[k], kind);
    return found;
}

/* Every engine takes an fp32 reference in the precisions of its row; others need a form. */
static void add_rows(const struct ue_encoder_forms *forms, struct list *list) {
    for (int backend = 0; backend < UE_BACKENDS; backend++)
        for (int half = 0; half < 2; half++) {
            const struct ue_candidate kind = {(enum ue_backend)backend, half ? UE_BF16 : UE_FP32,
                                              forms->reference.sha256};
            if ((half ? rows[backend].bf16 : rows[backend].fp32) && !has_form(forms, kind))
                list->all[list->count++] = kind;
        }
}

/* Of two forms of one kind the last counts, in the place of the first. */
static void add_form(struct list *list, size_t first, struct ue_candidate form) {
    for (size_t k = first; k < list->count; k++)
        if (alike(list->all[k], form)) {
            list->all[k] = form;
            return;
        }
    list->all[list->count++] = form;
}

static void list_candidates(const struct ue_encoder_forms *forms, struct list *list) {
    list->all[0] = forms->reference;
    list->count = 1;
    if (forms->reference.precision == UE_FP32)
        add_rows(forms, list);
    const size_t first = list->count;
    for (size_t k = 0; k < forms->form_count; k++)
        add_form(list, first, forms->forms[k]);
}

static bool fits(struct ue_candidate candidate, const struct ue_wish *wish) {
    return (wish->backend == UE_ANY || wish->backend == (int)candidate.backend) &&
           (wish->precision == UE_ANY || wish->precision == (int)candidate.precision);
}

/* ---- the gate -------------------------------------------------------------------------------- */

/* The run over these very files, on this class of processor; NULL: there is none. */
static const struct ue_engine_run *find_run(const struct ue_encoder_forms *forms, const char *isa,
                                            struct ue_candidate candidate) {
    const struct ue_verification *found = forms->verification;
    if (!found || !same_text(found->encoder_sha256, forms->reference.sha256) ||
        !same_text(found->aggregator_sha256, forms->aggregator_sha256))
        return NULL;
    for (size_t k = 0; k < found->run_count; k++)
        if (alike(found->runs[k].of, candidate) &&
            same_text(found->runs[k].of.sha256, candidate.sha256) &&
            same_text(found->runs[k].isa, isa))
            return &found->runs[k];
    return NULL;
}

/* A figure that is no number misses every limit. */
static void weigh(struct ue_choice *choice, const char *what, double value, double limit,
                  bool least) {
    if (least ? value >= limit : value <= limit)
        return;
    add(choice, "%s%s %.4g is %s %g", *choice->text ? "; " : "", what, value,
        least ? "below" : "above", limit);
}

/* Each limit that a run misses, with both figures, into the empty text. */
static void list_shortfalls(const struct ue_engine_run *run, const struct ue_gate *gate,
                            struct ue_choice *choice) {
    weigh(choice, "mean cosine", run->cosine_mean, gate->min_cosine_mean, true);
    weigh(choice, "least cosine", run->cosine_min, gate->min_cosine, true);
    weigh(choice, "mean centred cosine", run->centred_cosine_mean, gate->min_centred_cosine_mean,
          true);
    weigh(choice, "overlap of the tiles attended to", run->overlap, gate->min_overlap, true);
    weigh(choice, "probability change", run->max_probability_change, gate->max_probability_change,
          false);
    weigh(choice, "changed decisions", (double)run->changed_decisions,
          (double)gate->max_changed_decisions, false);
}

/* Whether the index-th candidate may screen unasked; if not, why, into the text. */
static bool may_screen(const struct ue_encoder_forms *forms, const char *isa,
                       const struct list *list, size_t index, struct ue_choice *choice) {
    const struct ue_candidate candidate = list->all[index];
    struct ue_choice missed = {.text = ""};
    choice->text[0] = '\0';
    if (!index ||
        (alike(candidate, list->all[0]) && same_text(candidate.sha256, list->all[0].sha256)))
        return true;
    const struct ue_engine_run *run = find_run(forms, isa, candidate);
    if (run)
        list_shortfalls(run, &forms->verification->gate, &missed);
    if (run && !*missed.text)
        return true;
    add(choice, "%s in %s ", rows[candidate.backend].name, precisions[candidate.precision]);
    if (run)
        add(choice, "did not pass the bundle's gate: %s", missed.text);
    else
        add(choice, "was not verified for this bundle on a processor like this one; run "
                    "`unicas-edge verify` with slides of yours");
    return false;
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Whether a is preferred to b: measured ones first, then the faster, then what is usual. */
static bool better(const struct ue_machine *machine, struct ue_candidate a, struct ue_candidate b) {
    const double fast_a = machine->speed[a.backend][a.precision];
    const double fast_b = machine->speed[b.backend][b.precision];
    if (fast_a != fast_b)
        return fast_a > fast_b;
    if (a.precision != b.precision)
        return a.precision < b.precision;
    return rows[a.backend].rank > rows[b.backend].rank;
}

static ue_status none_fits(const struct list *list, const struct ue_wish *wish,
                           struct ue_choice *choice) {
    add(choice, "no %s for %s in this bundle; it has ",
        wish->precision == UE_ANY ? "precision" : precisions[wish->precision],
        wish->backend == UE_ANY ? "any engine" : rows[wish->backend].name);
    for (size_t k = 0; k < list->count; k++)
        add(choice, "%s%s %s", k ? ", " : "", rows[list->all[k].backend].name,
            precisions[list->all[k].precision]);
    return UE_BAD_OPTIONS;
}

static ue_status not_installed(struct ue_candidate needed, struct ue_choice *choice) {
    choice->chosen = needed;
    choice->text[0] = '\0';
    add(choice, "%s is not installed; install it, or leave the engine open",
        rows[needed.backend].name);
    return UE_NO_RUNTIME;
}

/* Nothing that may screen is installed: `first` fits, and `allowed` may screen, if there is one. */
static ue_status last_resort(const struct ue_encoder_forms *forms, const struct ue_machine *machine,
                             const struct ue_wish *wish, const struct list *list, size_t first,
                             size_t allowed, struct ue_choice *choice) {
    const size_t needed = allowed < list->count ? allowed : first;
    if (!machine->has[list->all[needed].backend])
        return not_installed(list->all[needed], choice);
    choice->unverified = !may_screen(forms, machine->isa, list, first, choice);
    choice->chosen = list->all[first];
    return wish->allow_unverified ? UE_OK : UE_BAD_OPTIONS;
}

static ue_status choose(const struct ue_encoder_forms *forms, const struct ue_machine *machine,
                        const struct ue_wish *wish, struct ue_choice *choice) {
    struct list list;
    list_candidates(forms, &list);
    const size_t none = list.count;
    size_t best = none, allowed = none, installed = none, fitting = none;
    for (size_t k = list.count; k-- > 0;) {
        if (!fits(list.all[k], wish))
            continue;
        const bool here = machine->has[list.all[k].backend];
        const bool may = may_screen(forms, machine->isa, &list, k, choice);
        fitting = k;
        installed = here ? k : installed;
        allowed = may ? k : allowed;
        if (may && here && (best == none || !better(machine, list.all[best], list.all[k])))
            best = k;
    }
    choice->text[0] = '\0';
    if (fitting == none)
        return none_fits(&list, wish, choice);
    if (best == none)
        return last_resort(forms, machine, wish, &list, installed < none ? installed : fitting,
                           allowed, choice);
    choice->chosen = list.all[best];
    return UE_OK;
}

ue_status ue_choose(const struct ue_encoder_forms *forms, const struct ue_machine *machine,
                    const struct ue_wish *wish, struct ue_choice *choice) {
    if (!forms || !machine || !wish || !choice)
        return UE_NULL_POINTER;
    *choice = (struct ue_choice){.unverified = false};
    const struct ue_verification *found = forms->verification;
    if (forms->form_count > UE_MAX_FORMS || (found && found->run_count > UE_MAX_RUNS) ||
        wish->backend < UE_ANY || wish->backend >= UE_BACKENDS || wish->precision < UE_ANY ||
        wish->precision >= UE_PRECISIONS) {
        add(choice, "at most %d forms and %d runs, and engines and precisions that there are",
            UE_MAX_FORMS, UE_MAX_RUNS);
        return UE_BAD_OPTIONS;
    }
    return choose(forms, machine, wish, choice);
}

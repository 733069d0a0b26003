/*
 * Fuzzes the reading of weights. Under libFuzzer (clang -fsanitize=fuzzer -DLIBFUZZER) the engine
 * mutates; without it main does: fuzz_weights ROUNDS SEED_FILE...
 */
#define _DEFAULT_SOURCE

#ifndef LIBFUZZER
#include "mutate.h"
#endif
#include "weights_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ue_weights weights;
    struct ue_error error = {UE_OK, ""};
    struct visitor visitor = {add_to_crc, 0};
    if (!data) /* what libFuzzer passes for an empty input */
        return 0;
    const ue_status status = ue_weights_parse(&weights, data, size, &error);
    if (status) {
        check_failure(&weights, status, &error);
        return 0;
    }
    CHECK(weights.copied_bytes <= 2 * (uint64_t)size, "too large");
    see_weights(&visitor, &weights);
    ue_weights_close(&weights);
    return 0;
}

#ifndef LIBFUZZER

/* Most bytes of a file are tensors, whose values matter little: prefer the header. */
static size_t somewhere(const struct input *input) {
    const size_t header = input->size < 9 ? 1 : 8 + input->bytes[0] + 256u * input->bytes[1];
    return random_below(random_below(8) && header < input->size ? header : input->size);
}

static const char *const words[] = {
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\u0000",
    "\\ud83d",
    "-1",
    "0",
    "1e9",
    "0.5",
    "4",
    "65536",
    "F16",
    "BF16",
    "I8",
    "F32",
    "U8",
    "true",
    "\\\"",
    "config",
    "dtype",
    "shape",
    ".weight",
    "_scale",
    "\xc3\xa9",
    "\xff",
    " ",
    "[0,0]",
    "18446744073709551615",
    "9223372036854775808",
};

static const struct kind kind = {words, sizeof words / sizeof *words, somewhere};

/* State a header of all that is there but `tensors` bytes, so that a changed header is read. */
static void state_length(struct input *input, size_t tensors) {
    if (input->size < 8 + tensors)
        return;
    const uint64_t length = input->size - 8 - tensors;
    for (int i = 0; i < 8; i++)
        input->bytes[i] = (uint8_t)(length >> 8 * i);
}

static void run(const struct input *seed) {
    static struct input input;
    const size_t header = seed->bytes[0] + 256u * seed->bytes[1];
    CHECK(seed->size >= 8 + header, "a seed is a safetensors file");
    input = *seed;
    for (size_t count = 1 + random_below(4); count; count--)
        mutate(&input, &kind);
    if (random_below(4))
        state_length(&input, seed->size - 8 - header);
    uint8_t *exact = malloc(input.size);
    CHECK(exact, "%zu bytes", input.size);
    memcpy(exact, input.bytes, input.size);
    LLVMFuzzerTestOneInput(exact, input.size);
    free(exact);
}

int main(int count, char **arguments) {
    static struct input seed;
    CHECK(count >= 3, "usage: %s ROUNDS SEED_FILE...", arguments[0]);
    const long rounds = atol(arguments[1]);
    for (int i = 2; i < count; i++) {
        read_seed(&seed, arguments[i]);
        LLVMFuzzerTestOneInput(seed.bytes, seed.size);
        for (long round = 0; round < rounds; round++)
            run(&seed);
    }
    printf("%ld inputs\n", rounds * (count - 2));
    return 0;
}

#endif

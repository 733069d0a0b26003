/*
 * Prints what ue_weights_* make of a file or of many cases; test_weights.py knows what they
 * should. With a path: opens the file and prints the configuration and the CRC-32 of each tensor,
 * or the error. With `-`: cases from standard input, each a letter, a little-endian uint64 and as
 * many bytes; one line each to standard output. The letters:
 *   w, u  weights in memory, aligned or one byte off: the CRC-32 of everything
 *   h     the safetensors header alone
 *   c     the text of a configuration
 */
#define _DEFAULT_SOURCE

#include <locale.h>

#include "weights_case.h"

#include "aggregator/config.h"
#include "formats/safetensors.h"

static const char *const storages[UE_STORAGES] = {"F32", "F16", "BF16", "I8"};

static void print_error(const struct ue_error *error) {
    static const char *const names[] = {
        [UE_NO_MEMORY] = "NO_MEMORY",
        [UE_BAD_FILE] = "BAD_FILE",
        [UE_BAD_CONFIG] = "BAD_CONFIG",
        [UE_BAD_WEIGHTS] = "BAD_WEIGHTS",
    };
    printf("%s %s\n", names[error->status], error->text);
}

static void print_config(const struct ue_config *config) {
    printf("config %zu %zu %zu %zu %zu %zu %zu %zu %zu %zu %d %.17g %.9g %.9g",
           config->embed_dim_in, config->embed_dim, config->depth, config->num_heads,
           config->num_tasks, config->num_experts, config->slots_per_expert, config->top_m,
           config->head_dim, config->hidden_dim, config->qkv_bias, config->mlp_ratio,
           (double)(float)config->norm_eps, (double)(float)config->layer1_norm_eps);
    for (size_t i = 0; i < config->num_tasks; i++)
        printf(" %zu", config->classes[i]);
    printf("\n");
}

static void print_tensor(struct visitor *visitor, const char *name, const char *part,
                         enum ue_storage storage, const void *bytes, size_t count) {
    visitor->crc = 0;
    add_to_crc(visitor, name, part, storage, bytes, count);
    printf("%s%s %s %08x\n", name, part, storages[storage], visitor->crc);
}

static void open_file(const char *path) {
    struct ue_weights weights;
    struct ue_error error = {UE_OK, ""};
    struct visitor visitor = {print_tensor, 0};
    const ue_status status = ue_weights_open(&weights, path, &error);
    if (status) {
        check_failure(&weights, status, &error);
        print_error(&error);
    } else {
        print_config(&weights.config);
        printf("bytes %llu %llu\n", (unsigned long long)weights.stored_bytes,
               (unsigned long long)weights.copied_bytes);
        see_weights(&visitor, &weights);
    }
    ue_weights_close(&weights); /* after a failure and twice is allowed */
    ue_weights_close(&weights);
}

static void parse_weights(const uint8_t *bytes, size_t size) {
    struct ue_weights weights;
    struct ue_error error = {UE_OK, ""};
    struct visitor visitor = {add_to_crc, 0};
    const ue_status status = ue_weights_parse(&weights, bytes, size, &error);
    if (status) {
        check_failure(&weights, status, &error);
        print_error(&error);
        return;
    }
    CHECK(weights.copied_bytes <= 2 * (uint64_t)size, "%llu of %zu",
          (unsigned long long)weights.copied_bytes, size);
    see_weights(&visitor, &weights);
    printf("ok %08x %llu\n", visitor.crc, (unsigned long long)weights.copied_bytes);
    ue_weights_close(&weights);
}

static void read_header(const uint8_t *bytes, size_t size) {
    struct ue_safetensors file;
    struct ue_error error = {UE_OK, ""};
    if (ue_safetensors_read(&file, NULL, bytes, size, &error)) {
        print_error(&error);
        return;
    }
    printf("ok %zu\n", file.count);
    ue_safetensors_free(&file);
}

static void parse_config(const uint8_t *bytes, size_t size) {
    struct ue_config config;
    struct ue_error error = {UE_OK, ""};
    char *text = malloc(size + 1);
    CHECK(text, "%zu bytes", size);
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (ue_config_parse(&config, text, size, "memory", &error))
        print_error(&error);
    else
        print_config(&config);
    free(text);
}

/* The next case in a block of just its size, so that one byte too far is seen; NULL at the end. */
static uint8_t *next_case(int *kind, size_t *size) {
    uint8_t length[8];
    *kind = getchar();
    if (*kind == EOF)
        return NULL;
    CHECK(fread(length, 1, 8, stdin) == 8, "cut short");
    *size = 0;
    for (int i = 7; i >= 0; i--)
        *size = *size << 8 | length[i];
    const size_t shift = *kind == 'u';
    uint8_t *block = malloc(*size + shift + (*size + shift == 0));
    CHECK(block && fread(block + shift, 1, *size, stdin) == *size, "%zu bytes", *size);
    return block;
}

static void run_cases(void) {
    int kind;
    size_t size;
    for (uint8_t *block; (block = next_case(&kind, &size)) != NULL; free(block)) {
        if (kind == 'h')
            read_header(block, size);
        else if (kind == 'c')
            parse_config(block, size);
        else
            parse_weights(block + (kind == 'u'), size);
        fflush(stdout);
    }
}

int main(int count, char **arguments) {
    CHECK(count == 2, "usage: %s FILE|-", arguments[0]);
    setlocale(LC_ALL, "");
    if (strcmp(arguments[1], "-") == 0)
        run_cases();
    else
        open_file(arguments[1]);
    return 0;
}

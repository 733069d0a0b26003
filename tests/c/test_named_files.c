/*
 * Which files an ONNX model refers to: cases from standard input, each a size (uint32) and as many
 * bytes; one line for each, "ok" or the sentence. The one file that is given is `given.bin`.
 */
#define _DEFAULT_SOURCE
#include "check.h"
#include "encoders/named_files.h"

int main(void) {
    static const unsigned char nothing = 0;
    const ue_encoder_file given = {"given.bin", &nothing, 1};
    for (uint32_t size; fread(&size, sizeof size, 1, stdin) == 1;) {
        unsigned char *bytes = malloc(size ? size : 1); /* no byte more, for the sanitizer */
        CHECK(bytes && fread(bytes, 1, size, stdin) == size, "a case is cut short");
        const ue_encoder_source source = {
            .bytes = bytes, .size = size, .weights = &given, .weights_count = 1};
        const ue_status status = ue_named_files_check(&source, "model");
        CHECK(!status || status == UE_BAD_MODEL, "%d", (int)status);
        puts(status ? ue_encoder_error() : "ok");
        fflush(stdout);
        free(bytes);
    }
    return 0;
}

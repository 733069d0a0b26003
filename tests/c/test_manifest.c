/* Answers "ok" or the error for each manifest on standard input: eight bytes of length, the text.
 */
#define _DEFAULT_SOURCE

#include "bundle/manifest.h"
#include "check.h"

int main(void) {
    uint64_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        struct ue_error error = {UE_OK, ""};
        struct ue_manifest manifest;
        char *text = malloc(size + 1);
        CHECK(text && fread(text, 1, size, stdin) == size, "a case is cut short");
        text[size] = '\0';
        const ue_status status = ue_manifest_parse(&manifest, text, size, "bundle.json", &error);
        CHECK(status == error.status && !status == !*error.text, "%d", (int)status);
        puts(status ? error.text : "ok");
        fflush(stdout);
        ue_manifest_free(&manifest);
        free(text);
    }
    return 0;
}

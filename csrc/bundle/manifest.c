#include "manifest.h"

#include "fields.h"

static const struct ue_gate standard_gate = {0.99, 0.95, 0.95, 0.9, 0.02, 0};

ue_status ue_manifest_parse(struct ue_manifest *manifest, char *text, size_t length,
                            const char *file, struct ue_error *error) {
    struct ue_reader reader = {.manifest = manifest, .error = error, .file = file};
    *manifest = (struct ue_manifest){.verification.gate = standard_gate};
    ue_json_start(&reader.json, text, length);
    if (!ue_read_object(&reader, ue_manifest_rules, manifest))
        return error->status;
    if (!ue_json_finish(&reader.json))
        return ue_fail(error, UE_BAD_BUNDLE, "%s: byte %zu: %s; correct the manifest", file,
                       ue_json_offset(&reader.json), reader.json.problem);
    const char *broken = ue_manifest_broken_rule(manifest);
    return broken ? ue_fail(error, UE_BAD_BUNDLE, "%s: %s; correct the manifest", file, broken)
                  : UE_OK;
}

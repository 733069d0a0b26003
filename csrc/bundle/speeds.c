#include "speeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked_file.h"
#include "formats/json.h"
#include "system/machine.h"

#ifdef _WIN32
#define HOME "USERPROFILE"
#else
#define HOME "HOME"
#endif

enum { MOST_BYTES = 1 << 20, PATH = 4096, KEY = UE_SHA256_HEX + UE_MACHINE_TEXT + 24 };

typedef double speeds_of[UE_PRECISIONS];

/* ---- where it lies --------------------------------------------------------------------------- */

/* False where no environment says it. */
static bool usual_place(char path[PATH]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv(HOME);
    const bool named = cache && *cache;
    if (!named && !(home && *home))
        return false;
    const int length = snprintf(path, PATH, "%s%s/unicas-edge/speeds.json", named ? cache : home,
                                named ? "" : "/.cache");
    return length > 0 && length < PATH;
}

static void write_key(const char *encoder_sha256, char key[KEY]) {
    char processor[UE_MACHINE_TEXT];
    ue_processor("", processor);
    snprintf(key, KEY, "%s %s %zu", encoder_sha256, processor, ue_usable_cores());
}

/* ---- what it says ---------------------------------------------------------------------------- */

/* Of "openvino/int8" both; an engine that this version does not know is passed over. */
static double *find(struct ue_json_text name, speeds_of *speeds) {
    char known[64];
    for (int backend = 0; backend < UE_BACKENDS; backend++)
        for (int precision = 0; precision < UE_PRECISIONS; precision++) {
            snprintf(known, sizeof known, "%s/%s", ue_backend_name((enum ue_backend)backend),
                     ue_precision_name((enum ue_precision)precision));
            if (ue_json_equals(name, known))
                return &speeds[backend][precision];
        }
    return NULL;
}

/* The speeds of one machine and encoder; passed over where `speeds` is NULL. */
static void read_entry(struct ue_json *json, speeds_of *speeds) {
    struct ue_json_text name;
    double value;
    ue_json_enter(json, '{');
    while (ue_json_more(json, '}') && ue_json_key(json, &name) && ue_json_real(json, &value)) {
        double *speed = speeds ? find(name, speeds) : NULL;
        if (speed)
            *speed = value > 0 && value < 1e9 ? value : 0;
    }
}

static bool read_all(char *text, size_t length, const char *wanted, speeds_of *speeds) {
    struct ue_json json;
    struct ue_json_text key;
    ue_json_start(&json, text, length);
    ue_json_enter(&json, '{');
    while (ue_json_more(&json, '}') && ue_json_key(&json, &key)) {
        const bool ours = ue_json_equals(key, wanted);
        if (ours) /* of two entries the last counts */
            memset(speeds, 0, UE_BACKENDS * sizeof *speeds);
        read_entry(&json, ours ? speeds : NULL);
    }
    return ue_json_finish(&json);
}

void ue_speeds_read(const char *file, const char *encoder_sha256, speeds_of *speeds) {
    const struct ue_shown name = {"speeds"};
    char path[PATH], key[KEY];
    struct ue_checked found;
    struct ue_error unheard = {UE_OK, ""};
    memset(speeds, 0, UE_BACKENDS * sizeof *speeds);
    if (!file && !usual_place(path))
        return;
    const struct ue_checked_source source = {file ? file : path, &name, MOST_BYTES};
    if (ue_checked_read(&source, true, &found, &unheard))
        return;
    write_key(encoder_sha256, key);
    if (!read_all(found.kept.bytes, found.kept.size, key, speeds))
        memset(speeds, 0, UE_BACKENDS * sizeof *speeds);
    free(found.kept.bytes);
}

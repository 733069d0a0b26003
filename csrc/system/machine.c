#include "machine.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <sys/utsname.h>
#endif

#include "text_file.h"

#define CPUINFO "/proc/cpuinfo"
#define CGROUP "/sys/fs/cgroup/"

enum { FLAGS = 1 << 13, NUMBER = 64 };

/* Linux's names, in the order in which a class has them. */
static const char *const telling[] = {"avx2",        "avx512f",  "avx_vnni", "avx512_vnni",
                                      "avx512_bf16", "amx_int8", "amx_bf16", "asimddp",
                                      "i8mm",        "bf16",     "sve"};

#ifdef _WIN32

/* As Python's platform.machine() has it. */
static void machine_name(char name[UE_MACHINE_TEXT]) {
    SYSTEM_INFO about;
    GetNativeSystemInfo(&about);
    const WORD kind = about.wProcessorArchitecture;
    snprintf(name, UE_MACHINE_TEXT, "%s",
             kind == PROCESSOR_ARCHITECTURE_AMD64    ? "AMD64"
             : kind == 12 /* ARM64; older headers */ ? "ARM64"
                                                     : "x86");
}

static uint64_t machine_bytes(const char *root) {
    MEMORYSTATUSEX about = {.dwLength = sizeof about};
    (void)root;
    return GlobalMemoryStatusEx(&about) ? about.ullAvailPhys : UINT64_MAX;
}

#else

static void machine_name(char name[UE_MACHINE_TEXT]) {
    struct utsname about;
    snprintf(name, UE_MACHINE_TEXT, "%s", uname(&about) < 0 ? "unknown" : about.machine);
}

static uint64_t machine_bytes(const char *root) {
    char text[NUMBER];
    uint64_t kilobytes;
    const bool known = ue_text_value(root, "/proc/meminfo", "MemAvailable", text, sizeof text) &&
                       sscanf(text, "%" SCNu64, &kilobytes) == 1;
    return known && kilobytes < UINT64_MAX / 1024 ? kilobytes * 1024 : UINT64_MAX;
}

#endif

/* ---- the processor --------------------------------------------------------------------------- */

static bool has_word(const char *words, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (!at[length] || at[length] == ' '))
            return true;
    return false;
}

void ue_isa(const char *root, char isa[UE_MACHINE_TEXT]) {
    char flags[FLAGS];
    machine_name(isa);
    if (!ue_text_value(root, CPUINFO, "flags", flags, sizeof flags) &&
        !ue_text_value(root, CPUINFO, "Features", flags, sizeof flags))
        return;
    for (size_t k = 0; k < sizeof telling / sizeof *telling; k++) {
        const size_t used = strlen(isa);
        if (has_word(flags, telling[k]))
            snprintf(isa + used, UE_MACHINE_TEXT - used, "+%s", telling[k]);
    }
}

void ue_processor(const char *root, char name[UE_MACHINE_TEXT]) {
    if (ue_text_value(root, CPUINFO, "model name", name, UE_MACHINE_TEXT) && *name)
        return;
#ifdef _WIN32
    const char *said = getenv("PROCESSOR_IDENTIFIER");
    if (said && *said) {
        snprintf(name, UE_MACHINE_TEXT, "%s", said);
        return;
    }
#endif
    machine_name(name);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool read_number(const char *root, const char *name, uint64_t *number) {
    char text[NUMBER];
    return ue_text_file(root, name, text, sizeof text) && sscanf(text, "%" SCNu64, number) == 1;
}

/* What a container (cgroup v2) may still take: its limit is a number, or "max". */
static uint64_t container_bytes(const char *root) {
    uint64_t limit, used = 0;
    if (!read_number(root, CGROUP "memory.max", &limit))
        return UINT64_MAX;
    (void)read_number(root, CGROUP "memory.current", &used);
    return limit > used ? limit - used : 0;
}

uint64_t ue_available_bytes(const char *root) {
    const uint64_t machine = machine_bytes(root), container = container_bytes(root);
    return machine < container ? machine : container;
}

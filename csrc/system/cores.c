/* sched_getaffinity is an extension of Linux's C libraries. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "cores.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif
#ifdef __linux__
#include <errno.h>
#include <sched.h>
#endif

#include "text_file.h"
#include "unicas_edge.h"

#define CPUS "/sys/devices/system/cpu/cpu"
#define CGROUP "/sys/fs/cgroup/"

enum { MOST_CPUS = 1 << 18 };

/*
 * What is read of a file. Lists of siblings begin with their first processor, so that those of two
 * cores differ in fewer bytes than these.
 */
enum { TEXT = 64 };

/* ---- quota ----------------------------------------------------------------------------------- */

/* Microseconds of processor time in a period of so many; infinite where that is no limit. */
static double limit_of(const char *quota, const char *period) {
    char *quota_end, *period_end;
    const long long most = strtoll(quota, &quota_end, 10), of = strtoll(period, &period_end, 10);
    if (quota_end == quota || *quota_end || period_end == period || *period_end)
        return INFINITY;
    return most > 0 && of > 0 ? fmax(1.0, (double)most / (double)of) : INFINITY;
}

/* cgroup v2: "150000 100000", or "max 100000". */
static double quota_of_v2(const char *root) {
    char quota[TEXT];
    if (!ue_text_file(root, CGROUP "cpu.max", quota, TEXT))
        return INFINITY;
    char *period = quota + strcspn(quota, " \t");
    if (*period)
        *period++ = '\0';
    return limit_of(quota, period + strspn(period, " \t"));
}

static double quota_of_v1(const char *root) {
    char quota[TEXT], period[TEXT];
    if (!ue_text_file(root, CGROUP "cpu/cpu.cfs_quota_us", quota, TEXT) ||
        !ue_text_file(root, CGROUP "cpu/cpu.cfs_period_us", period, TEXT))
        return INFINITY;
    return limit_of(quota, period);
}

double ue_cpu_quota(const char *root) {
    const double quota = quota_of_v2(root);
    return isinf(quota) ? quota_of_v1(root) : quota;
}

/* ---- cores ----------------------------------------------------------------------------------- */

struct core {
    char name[TEXT];
};

/* A name that the hyper-threads of one core share: the list of them, or the processor's number. */
static struct core core_of(const char *root, size_t cpu) {
    char path[sizeof CPUS "/topology/thread_siblings_list" + 20];
    struct core core;
    snprintf(path, sizeof path, CPUS "%zu/topology/thread_siblings_list", cpu);
    if (!ue_text_file(root, path, core.name, TEXT))
        snprintf(core.name, sizeof core.name, "%zu", cpu);
    return core;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct core *)a)->name, ((const struct core *)b)->name);
}

/* Without memory for the names every processor counts. */
static size_t different_cores(const char *root, const size_t *cpus, size_t count) {
    struct core *cores = malloc(count * sizeof *cores);
    if (!cores)
        return count;
    for (size_t i = 0; i < count; i++)
        cores[i] = core_of(root, cpus[i]);
    qsort(cores, count, sizeof *cores, by_name);
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        different += i == 0 || by_name(&cores[i - 1], &cores[i]) != 0;
    free(cores);
    return different;
}

size_t ue_cores_of(const char *root, const size_t *cpus, size_t count) {
    const double usable = fmin((double)different_cores(root, cpus, count), ue_cpu_quota(root));
    return usable < 1.0 ? 1 : (size_t)usable;
}

/* ---- this process ---------------------------------------------------------------------------- */

#ifdef _WIN32

size_t ue_usable_cores(void) {
    const DWORD processors = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return processors ? processors : 1;
}

#else

static size_t *first_cpus(size_t *count) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    *count = online > 0 ? (size_t)online : 1;
    size_t *cpus = malloc(*count * sizeof *cpus);
    for (size_t cpu = 0; cpus && cpu < *count; cpu++)
        cpus[cpu] = cpu;
    return cpus;
}

#ifdef __linux__

static size_t *members(const cpu_set_t *set, size_t size, size_t *count) {
    *count = (size_t)CPU_COUNT_S(size, set);
    size_t *cpus = malloc(*count * sizeof *cpus);
    for (size_t cpu = 0, i = 0; cpus && i < *count; cpu++)
        if (CPU_ISSET_S(cpu, size, set))
            cpus[i++] = cpu;
    return cpus;
}

/* The affinity mask's, to be freed. The kernel refuses a mask with fewer bits than it has. */
static size_t *allowed_cpus(size_t *count) {
    for (size_t most = CPU_SETSIZE; most <= MOST_CPUS; most *= 2) {
        const size_t size = CPU_ALLOC_SIZE(most);
        cpu_set_t *set = CPU_ALLOC(most);
        if (!set)
            break;
        CPU_ZERO_S(size, set);
        const bool known = sched_getaffinity(0, size, set) == 0;
        const bool too_small = !known && errno == EINVAL;
        size_t *cpus = known && CPU_COUNT_S(size, set) ? members(set, size, count) : NULL;
        CPU_FREE(set);
        if (!too_small)
            return cpus ? cpus : first_cpus(count);
    }
    return first_cpus(count);
}

#else

static size_t *allowed_cpus(size_t *count) {
    return first_cpus(count);
}

#endif

size_t ue_usable_cores(void) {
    size_t count;
    size_t *cpus = allowed_cpus(&count);
    const size_t cores = cpus ? ue_cores_of("", cpus, count) : count;
    free(cpus);
    return cores;
}

#endif

/*
 * How many cores this process may keep busy: what ue_usable_cores counts, from files under `root`,
 * which is "" for the running system and another folder in tests.
 */
#ifndef UE_CORES_H
#define UE_CORES_H

#include <stddef.h>

/* The CPU limit of the container, at least 1; infinite without one. */
double ue_cpu_quota(const char *root);

/* The cores that `count` logical processors belong to, and of those no more than the quota. */
size_t ue_cores_of(const char *root, const size_t *cpus, size_t count);

#endif

/*
 * Prints what is counted under a root that stands for the system's: test_cores ROOT CPU...
 * The quota of the container, then the cores that the logical processors amount to.
 */
#define _DEFAULT_SOURCE

#include "check.h"
#include "system/cores.h"

enum { MOST = 4096 };

int main(int count, char **arguments) {
    static size_t cpus[MOST];
    CHECK(count > 2 && count - 2 <= MOST, "usage: %s ROOT CPU...", arguments[0]);
    for (int i = 2; i < count; i++)
        cpus[i - 2] = strtoul(arguments[i], NULL, 10);
    printf("%g %zu\n", ue_cpu_quota(arguments[1]),
           ue_cores_of(arguments[1], cpus, (size_t)count - 2));
    return 0;
}

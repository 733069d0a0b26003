/*
 * What kind of machine this is: core/machine.py asks here. From files under `root`, which is "" for
 * the running system and another folder in tests.
 */
#ifndef UE_MACHINE_H
#define UE_MACHINE_H

#include <stddef.h>
#include <stdint.h>

enum { UE_MACHINE_TEXT = 256 };

/*
 * The processor's instruction class, such as x86_64+avx2+avx512f: the machine's name, and of the
 * processor's flags those that change how an engine computes. Where the system does not list them
 * (not Linux) the name alone.
 */
void ue_isa(const char *root, char isa[UE_MACHINE_TEXT]);

/* The processor's name as the system gives it, else the machine's. */
void ue_processor(const char *root, char name[UE_MACHINE_TEXT]);

/* Bytes that this process may still take without swapping; UINT64_MAX where that is unknown. */
uint64_t ue_available_bytes(const char *root);

#endif

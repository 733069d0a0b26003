/* How fast each engine was on this machine: the cache that engines/speeds.py writes. */
#ifndef UE_SPEEDS_H
#define UE_SPEEDS_H

#include "encoders/choice.h"

/*
 * Tiles a second with every core, of the encoder with that SHA-256 on a processor of this name and
 * these cores; 0 for what was not measured. `file` NULL: where Python keeps it, in the user's cache
 * folder. A file that cannot be read, or is not as it is written there, counts as none.
 */
void ue_speeds_read(const char *file, const char *encoder_sha256, double (*speeds)[UE_PRECISIONS]);

#endif

/*
 * A bundle's files as they were when they were hashed, and whether they still are;
 * bundle/verified_files.py says the same, and why. Any number of threads may ask at once.
 */
#ifndef UE_WATCH_H
#define UE_WATCH_H

#include "checked_file.h"

struct ue_watch;

/* Room for so many files; NULL: no memory. */
struct ue_watch *ue_watch_open(size_t most);
void ue_watch_close(struct ue_watch *watch);

/* Watch one more file, in the order of their numbers; its path becomes the watch's. */
void ue_watch_add(struct ue_watch *watch, char *path, const struct ue_checked *found);

/* Bytes that a file had. */
uint64_t ue_watch_size(struct ue_watch *watch, size_t number);

/* A runtime reads this file where it lies: from now on no touch of it is forgiven. */
void ue_watch_in_place(struct ue_watch *watch, size_t number);

/*
 * UE_BAD_BUNDLE if a file is no longer what was hashed; from then on always. Looks at sizes and
 * times alone, unless they differ: then a file that is not read in place is hashed again, as a
 * link to it, a backup or the same file copied anew changes times, too.
 */
ue_status ue_watch_check(struct ue_watch *watch);

/* Which file changed, and what to do; NULL: none that is known of. It stays as long as the watch.
 */
const char *ue_watch_changed(struct ue_watch *watch);

#endif

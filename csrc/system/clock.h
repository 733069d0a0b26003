/* Time that passes. */
#ifndef UE_CLOCK_H
#define UE_CLOCK_H

/* Seconds of a clock that never goes back; only differences mean anything. */
double ue_seconds(void);

#endif

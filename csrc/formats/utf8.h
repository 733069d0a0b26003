/* UTF-8, character by character. */
#ifndef UE_UTF8_H
#define UE_UTF8_H

#include <stddef.h>

/*
 * Bytes of the character that starts at `s` with a byte above 0x7f; 0 if there is none. Table 3-7
 * of the Unicode Standard. A NUL at the end of the text stops it like any wrong byte.
 */
size_t ue_utf8_length(const unsigned char *s);

#endif

/* Small texts by which a system says what it is: files below `root`, "" for the running system. */
#ifndef UE_TEXT_FILE_H
#define UE_TEXT_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* The beginning of a file without white space around it; false where there is no text to be had. */
bool ue_text_file(const char *root, const char *name, char *text, size_t room);

/*
 * In a file of lines `key : value`, the first with that key; its value without white space around
 * it, cut to fit. False where there is no such line.
 */
bool ue_text_value(const char *root, const char *name, const char *key, char *value, size_t room);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lists of names in one text, with a space between them: tables of what is known by many names.
 * No system calls, no memory of its own; any thread.
 */
#ifndef QMP_WORDS_H
#define QMP_WORDS_H

#include <stdbool.h>

/* Is @name one of @words? */
bool words_have(const char *words, const char *name);

/*
 * Does @name begin with one of @words? A word behind a '*' may stand anywhere in it. A list without
 * words has nothing.
 */
bool words_match(const char *words, const char *name);

#endif

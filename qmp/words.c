/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of names: see words.h. */
#include "qmp/words.h"

#include <stddef.h>
#include <string.h>

/* The first word from @at on, and its size; 0: there is none. */
static const char *words_next(const char *at, size_t *ret_size)
{
	at += strspn(at, " ");
	*ret_size = strcspn(at, " ");
	return at;
}

bool words_have(const char *words, const char *name)
{
	size_t len = strlen(name), size;
	const char *word;

	for (word = words_next(words, &size); size; word = words_next(word + size, &size)) {
		if (size == len && !memcmp(word, name, len))
			return true;
	}
	return false;
}

bool words_match(const char *words, const char *name)
{
	const char *word;
	size_t size;

	for (word = words_next(words, &size); size; word = words_next(word + size, &size)) {
		if (*word == '*' ? memmem(name, strlen(name), word + 1, size - 1) != NULL
				 : !strncmp(name, word, size))
			return true;
	}
	return false;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes and strings, as the C library names them where the compiler itself calls them.
 */
#ifndef BARE_TEXT_H
#define BARE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);

bool text_has_prefix(const char *text, const char *prefix);

/*
 * A number, decimal or after 0x hexadecimal, with an optional factor K, M, G or T behind it; ends
 * at a space or the string's end. False when there is anything else.
 */
bool text_number(const char *text, uint64_t *ret_value);

#endif

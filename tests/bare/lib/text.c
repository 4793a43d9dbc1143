/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes and strings. Copying and filling use string instructions: no loop here can be turned into a
 * call of itself.
 */
#include "text.h"

void *memcpy(void *to, const void *from, size_t size)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(size) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	uint8_t *d = to;
	const uint8_t *s = from;

	if (d <= s || d >= s + size)
		return memcpy(to, from, size);
	while (size-- > 0) {
		d[size] = s[size];
		__asm__ volatile("" : : : "memory");
	}
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	uint64_t pattern = (uint8_t)byte * 0x0101010101010101ull;
	size_t words = size / 8, rest = size % 8;
	void *d = to;

	__asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(rest) : "a"(pattern) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < size; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

size_t strlen(const char *text)
{
	size_t n = 0;

	while (text[n] != '\0') {
		n++;
		__asm__ volatile("" : : : "memory");
	}
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return (uint8_t)*a - (uint8_t)*b;
}

bool text_has_prefix(const char *text, const char *prefix)
{
	while (*prefix != '\0')
		if (*text++ != *prefix++)
			return false;
	return true;
}

static int text_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

bool text_number(const char *text, uint64_t *ret_value)
{
	uint64_t value = 0;
	int base = 10;
	unsigned int shift = 0;

	if (text_has_prefix(text, "0x")) {
		base = 16;
		text += 2;
	}
	if (text_digit(*text) >= base)
		return false;
	for (; text_digit(*text) < base; text++)
		value = value * (uint64_t)base + (uint64_t)text_digit(*text);
	switch (*text) {
	case 'K':
		shift = 10;
		break;
	case 'M':
		shift = 20;
		break;
	case 'G':
		shift = 30;
		break;
	case 'T':
		shift = 40;
		break;
	default:
		break;
	}
	if (shift != 0)
		text++;
	if (*text != '\0' && *text != ' ')
		return false;
	*ret_value = value << shift;
	return true;
}

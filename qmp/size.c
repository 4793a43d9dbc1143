/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers and sizes as people write them: see size.h for the contract. */
#include "qmp/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/num.h"

/* More digits of a fraction than this say nothing about bytes: 2^60 < 10^19. */
#define FRACTION_DIGITS 18

__extension__ typedef unsigned __int128 wide;

static int size_digit(char c, unsigned int base)
{
	int digit = -1;

	if (c >= '0' && c <= '9')
		digit = c - '0';
	else if (c >= 'a' && c <= 'f')
		digit = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		digit = c - 'A' + 10;
	return digit < (int)base ? digit : -1;
}

/* Reads digits from *text on and moves it behind them; -EINVAL without any digit. */
static int size_scan(const char **text, unsigned int base, uint64_t *ret_value)
{
	const char *p = *text;
	uint64_t value = 0;
	int digit;

	for (; (digit = size_digit(*p, base)) >= 0; p++) {
		if (!num_mul(value, base, &value) || !num_add(value, (uint64_t)digit, &value))
			return -ERANGE;
	}
	if (p == *text)
		return -EINVAL;
	*text = p;
	*ret_value = value;
	return 0;
}

/* Reads "123" or "0x7b" from *text on and moves it behind that. */
static int size_scan_number(const char **text, uint64_t *ret_value, bool *ret_hex)
{
	*ret_hex = (*text)[0] == '0' && ((*text)[1] == 'x' || (*text)[1] == 'X');
	if (*ret_hex)
		*text += 2;
	return size_scan(text, *ret_hex ? 16 : 10, ret_value);
}

int size_parse_number(const char *text, uint64_t *ret_value)
{
	uint64_t value;
	bool hex;
	int ret;

	ret = size_scan_number(&text, &value, &hex);
	if (ret < 0)
		return ret;
	if (*text)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

/* Bytes of a unit's letter; 0 for any other. */
static uint64_t size_unit(char letter)
{
	switch (letter) {
	case 'b':
	case 'B':
		return 1;
	case 'k':
	case 'K':
		return KIB;
	case 'm':
	case 'M':
		return MIB;
	case 'g':
	case 'G':
		return GIB;
	case 't':
	case 'T':
		return TIB;
	case 'p':
	case 'P':
		return TIB << 10;
	default:
		return 0;
	}
}

/* Reads ".125" from *text on: *ret_fraction / *ret_scale. Without a point it is 0 / 1. */
static int size_scan_fraction(const char **text, uint64_t *ret_fraction, uint64_t *ret_scale)
{
	const char *p = *text;
	unsigned int digits = 0;

	*ret_fraction = 0;
	*ret_scale = 1;
	if (*p != '.')
		return 0;
	for (p++; size_digit(*p, 10) >= 0; p++) {
		if (digits++ >= FRACTION_DIGITS)
			continue;
		*ret_fraction = *ret_fraction * 10 + (uint64_t)size_digit(*p, 10);
		*ret_scale *= 10;
	}
	if (!digits)
		return -EINVAL;
	*text = p;
	return 0;
}

int size_parse(const char *text, uint64_t unit_bytes, uint64_t *ret_bytes)
{
	uint64_t whole, fraction = 0, scale = 1, unit = unit_bytes;
	bool hex;
	int ret;

	ret = size_scan_number(&text, &whole, &hex);
	if (!ret && !hex)
		ret = size_scan_fraction(&text, &fraction, &scale);
	if (ret < 0)
		return ret;
	if (*text) {
		unit = size_unit(*text++);
		if (!unit || *text)
			return -EINVAL;
	}
	/* Both factors are below 2^61, so the product fits the wide type. */
	fraction = (uint64_t)((wide)fraction * unit / scale);
	if (!num_mul(whole, unit, &whole) || !num_add(whole, fraction, &whole))
		return -ERANGE;
	*ret_bytes = whole;
	return 0;
}

const char *size_format(uint64_t bytes, char buf[SIZE_TEXT_MAX])
{
	static const char *const names[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	unsigned int i = 0;

	while (bytes && i + 1 < ARRAY_SIZE(names) && !(bytes % 1024)) {
		bytes /= 1024;
		i++;
	}
	snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 " %s", bytes, names[i]);
	return buf;
}

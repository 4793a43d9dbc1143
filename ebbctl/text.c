/* SPDX-License-Identifier: BSD-3-Clause */
/* Clean text: see text.h for the contract. */
#include "ebbctl/text.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/num.h"

/* The longest that one byte becomes: "\xNN", "\uNNNN" for three; a byte of JSON: "\u00NN". */
#define TEXT_GROWTH 6

bool text_locale_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

size_t text_next(const char *text, size_t size, uint32_t *ret_char)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char)text[0];
	size_t length = first < 0x80   ? 1
			: first < 0xC0 ? 0
			: first < 0xE0 ? 2
			: first < 0xF0 ? 3
				       : 4;
	uint32_t c;

	*ret_char = UINT32_MAX;
	if (!length || length > size || first >= 0xF8)
		return 1;
	c = length == 1 ? first : first & (0xFFu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		unsigned char next = (unsigned char)text[i];

		if ((next & 0xC0) != 0x80)
			return 1;
		c = c << 6 | (next & 0x3F);
	}
	if (c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
		return 1;
	*ret_char = c;
	return length;
}

bool text_is_plain(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} others[] = {
		{0x00, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},          {0x61C, 0x61C},
		{0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},      {0xFEFF, 0xFEFF},
		{0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0xE0000, UINT32_MAX},
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (c >= others[i].first && c <= others[i].last)
			return false;
	return true;
}

/* What stands for a character of @length bytes that is not shown as it is; its size. */
static size_t text_replace(char *out, const char *text, size_t length, uint32_t c, bool utf8)
{
	if (c == UINT32_MAX || c < 0x80)
		return (size_t)sprintf(out, "\\x%02x", (unsigned char)text[0]);
	if (!utf8 && text_is_plain(c)) {
		*out = '?';
		return 1;
	}
	if (c > 0xFFFF || length < 2)
		return (size_t)sprintf(out, "\\U%08" PRIx32, c);
	return (size_t)sprintf(out, "\\u%04" PRIx32, c);
}

char *text_clean(const char *text, size_t size, bool utf8, unsigned int flags)
{
	char *clean = malloc(size * TEXT_GROWTH + 1);
	size_t at = 0, used = 0, length;
	uint32_t c;

	if (!clean)
		return NULL;
	while (at < size) {
		length = text_next(text + at, size - at, &c);
		if ((flags & TEXT_LINES) && (c == '\n' || c == '\t')) {
			clean[used++] = text[at];
		} else if ((flags & TEXT_LINES) && c == '\r' && at + 1 < size &&
			   text[at + 1] == '\n') {
			/* the line feed that follows says it all */
		} else if (text_is_plain(c) && (utf8 || c < 0x80)) {
			memcpy(clean + used, text + at, length);
			used += length;
		} else {
			used += text_replace(clean + used, text + at, length, c, utf8);
		}
		at += length;
	}
	clean[used] = '\0';
	return clean;
}

char *text_clean_json(const char *json, size_t size)
{
	char *clean = malloc(size * TEXT_GROWTH + 1);
	size_t at = 0, used = 0, length;
	uint32_t c;

	if (!clean)
		return NULL;
	while (at < size) {
		length = text_next(json + at, size - at, &c);
		if (c == '\n' || text_is_plain(c)) {
			memcpy(clean + used, json + at, length);
			used += length;
		} else if (c > 0xFFFF && c != UINT32_MAX) {
			c -= 0x10000;
			used += (size_t)sprintf(clean + used, "\\u%04" PRIx32 "\\u%04" PRIx32,
						0xD800 + (c >> 10), 0xDC00 + (c & 0x3FF));
		} else {
			used += (size_t)sprintf(clean + used, "\\u%04" PRIx32,
						c == UINT32_MAX ? 0xFFFD : c);
		}
		at += length;
	}
	clean[used] = '\0';
	return clean;
}

/* The sequence that begins at @text with an ESC: how many bytes it takes. */
static size_t text_escape_size(const char *text, size_t size)
{
	size_t at = 2;

	if (size < 2 || text[1] != '[')
		return size < 2 ? size : 2;
	while (at < size && (unsigned char)text[at] >= 0x20 && (unsigned char)text[at] < 0x40)
		at++;
	return at < size ? at + 1 : at;
}

size_t text_strip_escapes(char *text, size_t size)
{
	size_t at = 0, used = 0;

	while (at < size) {
		if (text[at] == 0x1B)
			at += text_escape_size(text + at, size - at);
		else
			text[used++] = text[at++];
	}
	return used;
}

static size_t text_width(uint32_t c)
{
	int width = wcwidth((wchar_t)c);

	return width < 0 ? 1 : (size_t)width;
}

size_t text_columns(const char *clean)
{
	size_t size = strlen(clean), columns = 0, at = 0;
	uint32_t c;

	while (at < size) {
		at += text_next(clean + at, size - at, &c);
		columns += text_width(c);
	}
	return columns;
}

size_t text_fit(const char *clean, size_t columns)
{
	size_t size = strlen(clean), used = 0, at = 0, length;
	uint32_t c;

	while (at < size) {
		length = text_next(clean + at, size - at, &c);
		used += text_width(c);
		if (used > columns)
			break;
		at += length;
	}
	return at;
}

const char *text_size(uint64_t bytes, char buf[TEXT_SIZE_MAX])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned int i = 0;
	uint64_t hundredths;

	while (i + 1 < ARRAY_SIZE(units) && bytes >> (10 * (i + 1)))
		i++;
	if (!i) {
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 " %s", bytes, units[i]);
		return buf;
	}
	hundredths = ((bytes >> (10 * (i - 1))) & 1023) * 100 / 1024;
	bytes >>= 10 * i;
	if (!hundredths)
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 " %s", bytes, units[i]);
	else if (hundredths % 10)
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 ".%02" PRIu64 " %s", bytes, hundredths,
			 units[i]);
	else
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 ".%" PRIu64 " %s", bytes, hundredths / 10,
			 units[i]);
	return buf;
}

const char *text_seconds(uint64_t seconds, char buf[TEXT_SIZE_MAX])
{
	if (seconds < 60)
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 " s", seconds);
	else if (seconds < 3600)
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 " min %" PRIu64 " s", seconds / 60,
			 seconds % 60);
	else
		snprintf(buf, TEXT_SIZE_MAX, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600,
			 seconds / 60 % 60);
	return buf;
}

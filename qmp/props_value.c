/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of properties: checking one against its row of a table. See props.h for the contract. */
#include "qmp/props_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/size.h"

#define TEXT_MAX 32

/* What is being parsed, for sentences. */
struct value_context {
	const struct prop *prop;
	const char *what;
	const char *text; /* the value as the sentence shows it */
};

uint64_t prop_max(const struct prop *prop)
{
	uint64_t field = UINT64_MAX;

	if (prop->type == PROP_UINT16_LIST)
		field = UINT16_MAX;
	else if (prop->width && prop->width < sizeof(field))
		field = (UINT64_C(1) << (8 * prop->width)) - 1;
	return prop->max ? num_min(prop->max, field) : field;
}

const char *const *prop_enum_names(const struct prop *prop)
{
	static const char *const on_off_auto[] = {"auto", "on", "off", NULL};

	return prop->type == PROP_ENUM ? prop->names : on_off_auto;
}

__attribute__((format(printf, 4, 5))) static int
value_fail(const struct value_context *ctx, struct err **err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(err, code, fmt, ap);
	va_end(ap);
	if (err)
		err_prefix(err, "%s", ctx->what);
	return -code;
}

static int value_out_of_memory(struct err **err)
{
	return err_set(err, ENOMEM, "out of memory");
}

static int value_check_range(const struct value_context *ctx, uint64_t number, struct err **err)
{
	const struct prop *prop = ctx->prop;
	char low[SIZE_TEXT_MAX], high[SIZE_TEXT_MAX];
	uint64_t max = prop_max(prop);
	const char *note = "";

	if (number >= prop->min && number <= max)
		return 0;
	if (prop->type != PROP_SIZE && prop->min == max)
		return value_fail(ctx, err, ERANGE, "%s=%s is out of range; allowed: %" PRIu64,
				  prop->name, ctx->text, max);
	if (prop->type != PROP_SIZE)
		return value_fail(ctx, err, ERANGE,
				  "%s=%s is out of range; allowed: %" PRIu64 " to %" PRIu64,
				  prop->name, ctx->text, prop->min, max);
	size_format(prop->min, low);
	/* "maxmem=4096" by somebody who thinks of MiB */
	if (prop->unit <= 1 && number && ctx->text[strspn(ctx->text, "0123456789")] == '\0')
		note = " (without a unit it counts bytes)";
	if (max == UINT64_MAX)
		return value_fail(ctx, err, ERANGE, "%s=%s is too small%s; allowed: at least %s",
				  prop->name, ctx->text, note, low);
	return value_fail(ctx, err, ERANGE, "%s=%s is out of range%s; allowed: %s to %s",
			  prop->name, ctx->text, note, low, size_format(max, high));
}

static int value_parse_uint(const struct value_context *ctx, struct prop_value *ret,
			    struct err **err)
{
	const struct prop *prop = ctx->prop;
	int code = size_parse_number(ctx->text, &ret->number);

	if (code == -ERANGE)
		return value_fail(ctx, err, ERANGE,
				  "%s=%s is out of range; allowed: %" PRIu64 " to %" PRIu64,
				  prop->name, ctx->text, prop->min, prop_max(prop));
	if (code < 0)
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not a number; allowed: %" PRIu64 " to %" PRIu64,
				  prop->name, ctx->text, prop->min, prop_max(prop));
	return value_check_range(ctx, ret->number, err);
}

static int value_parse_size(const struct value_context *ctx, uint64_t unit, struct prop_value *ret,
			    struct err **err)
{
	const struct prop *prop = ctx->prop;
	char text[SIZE_TEXT_MAX];
	int code = size_parse(ctx->text, unit, &ret->number);

	if (code == -ERANGE)
		return value_fail(ctx, err, ERANGE, "%s=%s does not fit 64 bits", prop->name,
				  ctx->text);
	if (code < 0)
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not a size; allowed: a number, then B, K, M, G, T or P "
				  "for its unit (%s without)",
				  prop->name, ctx->text, unit == MIB ? "MiB" : "bytes");
	code = value_check_range(ctx, ret->number, err);
	if (code < 0)
		return code;
	if ((prop->flags & PROP_POW2) && !num_is_pow2(ret->number))
		return value_fail(ctx, err, EINVAL, "%s=%s is not a power of two", prop->name,
				  ctx->text);
	if (prop->align && ret->number % prop->align)
		return value_fail(ctx, err, EINVAL, "%s=%s is not a multiple of %s", prop->name,
				  ctx->text, size_format(prop->align, text));
	return 0;
}

static int value_parse_bool(const struct value_context *ctx, struct prop_value *ret,
			    struct err **err)
{
	static const char *const names[] = {"off", "on", "no", "yes", "false", "true", "n", "y"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(ctx->text, names[i])) {
			ret->number = i & 1;
			return 0;
		}
	}
	return value_fail(ctx, err, EINVAL, "%s=%s is neither yes nor no; allowed: on, off",
			  ctx->prop->name, ctx->text);
}

/* The names but the refused one, separated by ", ". */
static void value_list_names(const struct prop *prop, char *buf, size_t size)
{
	const char *const *names = prop_enum_names(prop);
	size_t len = 0;

	buf[0] = '\0';
	for (; *names && len < size; names++) {
		if (!prop->refused || strcmp(*names, prop->refused))
			len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
						*names);
	}
}

static int value_parse_enum(const struct value_context *ctx, struct prop_value *ret,
			    struct err **err)
{
	const char *const *names = prop_enum_names(ctx->prop);
	char list[256];

	for (size_t i = 0; names[i]; i++) {
		if (!strcmp(ctx->text, names[i])) {
			ret->number = i;
			return 0;
		}
	}
	value_list_names(ctx->prop, list, sizeof(list));
	return value_fail(ctx, err, EINVAL, "%s=%s is unknown; allowed: %s", ctx->prop->name,
			  ctx->text, list);
}

static int value_parse_string(const struct value_context *ctx, struct prop_value *ret,
			      struct err **err)
{
	const struct prop *prop = ctx->prop;

	if (!*ctx->text && !(prop->flags & PROP_EMPTY))
		return value_fail(ctx, err, EINVAL, "%s= is empty", prop->name);
	if (prop->type == PROP_ID && !props_id_valid(ctx->text))
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not an id; allowed: a letter, then letters, digits, "
				  "'-', '.', '_'",
				  prop->name, ctx->text);
	ret->memory = strdup(ctx->text);
	return ret->memory ? 0 : value_out_of_memory(err);
}

/* One or two hexadecimal digits, as PCI addresses have them, with or without "0x". */
static bool value_scan_hex(const char **text, uint64_t *ret_value)
{
	const char *p = *text;
	unsigned int digits = 0;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
		p += 2;
	*ret_value = 0;
	for (; digits < 3; digits++, p++) {
		if (*p >= '0' && *p <= '9')
			*ret_value = *ret_value * 16 + (uint64_t)(*p - '0');
		else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')
			*ret_value = *ret_value * 16 + (uint64_t)((*p | 0x20) - 'a' + 10);
		else
			break;
	}
	*text = p;
	return digits == 1 || digits == 2;
}

static int value_parse_pci_addr(const struct value_context *ctx, struct prop_value *ret,
				struct err **err)
{
	const char *p = ctx->text;
	bool good = value_scan_hex(&p, &ret->number);

	ret->second = 0;
	if (good && *p == '.') {
		p++;
		good = value_scan_hex(&p, &ret->second);
	}
	if (!good || *p || ret->number > 31 || ret->second > 7)
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not a PCI address; allowed: SLOT or SLOT.FUNCTION in "
				  "hexadecimal, 0 to 1f and 0 to 7",
				  ctx->prop->name, ctx->text);
	return 0;
}

static int value_parse_uuid(const struct value_context *ctx, struct prop_value *ret,
			    struct err **err)
{
	const char *p = ctx->text;
	uint64_t byte = 0;
	bool good = strlen(p) == 36;

	for (size_t i = 0; good && i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			good = *p++ == '-';
		if (good) {
			char pair[3] = {p[0], p[1], '\0'};
			const char *end = pair;

			good = pair[1] != 'x' && pair[1] != 'X' && value_scan_hex(&end, &byte) &&
			       end == pair + 2;
			ret->uuid[i] = (uint8_t)byte;
			p += 2;
		}
	}
	if (!good)
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not a UUID; allowed: hexadecimal digits in groups of "
				  "8-4-4-4-12",
				  ctx->prop->name, ctx->text);
	return 0;
}

/* Add first..last to the sorted list in @ret, without repetition. */
static int value_list_add(struct prop_value *ret, uint64_t first, uint64_t last)
{
	uint16_t *list = ret->memory;
	size_t count = ret->second;

	for (uint64_t n = first; n <= last; n++) {
		size_t at = 0;

		while (at < count && list[at] < n)
			at++;
		if (at < count && list[at] == n)
			continue;
		list = realloc(ret->memory, (count + 1) * sizeof(*list));
		if (!list)
			return -ENOMEM;
		ret->memory = list;
		memmove(list + at + 1, list + at, (count - at) * sizeof(*list));
		list[at] = (uint16_t)n;
		ret->second = ++count;
	}
	return 0;
}

/* "3" or "0-3". */
static int value_parse_range(const struct value_context *ctx, struct prop_value *ret,
			     struct err **err)
{
	const char *dash = strchr(ctx->text, '-');
	size_t len = dash ? (size_t)(dash - ctx->text) : strlen(ctx->text);
	char left[TEXT_MAX];
	uint64_t first, last;
	bool good = len < sizeof(left);

	if (good) {
		memcpy(left, ctx->text, len);
		left[len] = '\0';
		good = !size_parse_number(left, &first);
		last = first;
	}
	if (good && dash)
		good = !size_parse_number(dash + 1, &last) && last >= first;
	if (!good)
		return value_fail(ctx, err, EINVAL,
				  "%s=%s is not a range; allowed: N or FIRST-LAST, from %" PRIu64
				  " to %" PRIu64,
				  ctx->prop->name, ctx->text, ctx->prop->min, prop_max(ctx->prop));
	if (value_check_range(ctx, first, err) < 0)
		return -ERANGE;
	if (value_check_range(ctx, last, err) < 0)
		return -ERANGE;
	return value_list_add(ret, first, last) < 0 ? value_out_of_memory(err) : 0;
}

/* Integers and booleans in the spelling of the command line; NULL for what has none. */
static const char *value_text(const json_t *value, char buf[TEXT_MAX])
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "on" : "off";
	if (!json_is_integer(value))
		return NULL;
	snprintf(buf, TEXT_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	return buf;
}

static bool value_type_fits(const struct prop *prop, const json_t *value)
{
	if (json_is_string(value))
		return true;
	switch (prop->type) {
	case PROP_BOOL:
	case PROP_ON_OFF_AUTO:
		return json_is_boolean(value);
	case PROP_UINT:
	case PROP_SIZE:
	case PROP_PCI_ADDR:
	case PROP_UINT16_LIST:
		return json_is_integer(value);
	default:
		return false;
	}
}

static const char *value_type_name(const struct prop *prop)
{
	switch (prop->type) {
	case PROP_BOOL:
		return "a boolean";
	case PROP_UINT:
		return "a number";
	case PROP_SIZE:
		return "a size";
	case PROP_PCI_ADDR:
		return "a PCI address";
	case PROP_UINT16_LIST:
		return "numbers or ranges";
	default:
		return "a string";
	}
}

static int value_parse_text(const struct value_context *ctx, const json_t *value,
			    struct prop_value *ret, struct err **err)
{
	const struct prop *prop = ctx->prop;

	switch (prop->type) {
	case PROP_BOOL:
		return value_parse_bool(ctx, ret, err);
	case PROP_ON_OFF_AUTO:
	case PROP_ENUM:
		return value_parse_enum(ctx, ret, err);
	case PROP_UINT:
		return value_parse_uint(ctx, ret, err);
	case PROP_SIZE:
		return value_parse_size(ctx, prop->unit && json_is_string(value) ? prop->unit : 1,
					ret, err);
	case PROP_PCI_ADDR:
		if (json_is_integer(value)) { /* slot and function in one number */
			uint64_t devfn = (uint64_t)json_integer_value(value);

			ret->number = devfn >> 3;
			ret->second = devfn & 7;
			if (ret->number <= 31)
				return 0;
		}
		return value_parse_pci_addr(ctx, ret, err);
	case PROP_UINT16_LIST:
		return value_parse_range(ctx, ret, err);
	case PROP_UUID:
		return value_parse_uuid(ctx, ret, err);
	default:
		return value_parse_string(ctx, ret, err);
	}
}

static bool value_is_refused(const struct prop *prop, const char *text,
			     const struct prop_value *value)
{
	if (!strcmp(prop->refused, "*"))
		return true;
	if (prop->type == PROP_BOOL)
		return value->number == !strcmp(prop->refused, "on");
	return !strcmp(prop->refused, text);
}

/* One value that is no array. Adds to @ret, which the caller ends. */
static int value_parse_one(const struct prop *prop, const char *what, const json_t *value,
			   struct prop_value *ret, struct err **err)
{
	struct value_context ctx = {.prop = prop, .what = what};
	char buf[TEXT_MAX];
	int code;

	ctx.text = value_text(value, buf);
	if (!ctx.text || !value_type_fits(prop, value))
		return value_fail(&ctx, err, EINVAL, "%s takes %s%s", prop->name,
				  value_type_name(prop),
				  json_is_array(value) ? ", and only one" : "");
	code = value_parse_text(&ctx, value, ret, err);
	if (code < 0 || !prop->refused)
		return code;
	if (value_is_refused(prop, ctx.text, ret)) {
		free(ret->memory);
		ret->memory = NULL;
		return value_fail(&ctx, err, ENOTSUP, "%s=%s is not possible: %s", prop->name,
				  ctx.text, prop->why);
	}
	return 0;
}

int prop_parse(const struct prop *prop, const char *what, const json_t *value,
	       struct prop_value *ret_value, struct err **err)
{
	struct prop_value result = {0};
	size_t i;
	json_t *item;
	int ret = 0;

	if (prop->type == PROP_UINT16_LIST && json_is_array(value)) {
		json_array_foreach (value, i, item) {
			ret = value_parse_one(prop, what, item, &result, err);
			if (ret < 0)
				break;
		}
	} else {
		ret = value_parse_one(prop, what, value, &result, err);
	}
	if (ret < 0)
		free(result.memory);
	else
		*ret_value = result;
	return ret;
}

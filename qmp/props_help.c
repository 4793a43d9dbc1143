/* SPDX-License-Identifier: BSD-3-Clause */
/* Property tables as text. See props.h for the contract. */
#include "qmp/props_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static void help_print_type(FILE *out, const struct prop *prop)
{
	static const char *const types[] = {
		[PROP_BOOL] = "on|off",
		[PROP_SIZE] = "size",
		[PROP_STRING] = "string",
		[PROP_ID] = "id",
		[PROP_PCI_ADDR] = "slot[.function]",
		[PROP_UINT16_LIST] = "number or range",
		[PROP_UUID] = "uuid",
	};
	const char *const *names;

	switch (prop->type) {
	case PROP_ON_OFF_AUTO:
	case PROP_ENUM:
		for (names = prop_enum_names(prop); *names; names++)
			fprintf(out, "%s%s", names == prop_enum_names(prop) ? "" : "|", *names);
		break;
	case PROP_UINT:
		if (prop_max(prop) == UINT64_MAX)
			fprintf(out, "number");
		else
			fprintf(out, "%" PRIu64 "-%" PRIu64, prop->min, prop_max(prop));
		break;
	default:
		fputs(types[prop->type], out);
	}
}

static void help_print_prop(FILE *out, const struct prop *prop)
{
	fprintf(out, "  %s=<", prop->name);
	help_print_type(out, prop);
	fprintf(out, ">");
	if (prop->help)
		fprintf(out, "  %s", prop->help);
	if (prop->refused && !strcmp(prop->refused, "*"))
		fprintf(out, "; not possible: %s", prop->why);
	else if (prop->refused)
		fprintf(out, "; not %s: %s", prop->refused, prop->why);
	if (prop->flags & PROP_REQUIRED)
		fprintf(out, " (required)");
	else if (prop->flags & PROP_READONLY)
		fprintf(out, " (read-only)");
	else if (prop->defval)
		fprintf(out, " (default: %s)", prop->defval);
	fprintf(out, "\n");
}

static char *help_finish(FILE *out, char **text)
{
	bool failed = ferror(out);

	if (fclose(out) || failed) {
		free(*text);
		return NULL;
	}
	return *text;
}

char *props_help(const struct props *table)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++)
			help_print_prop(out, &table->list[i]);
	}
	return help_finish(out, &text);
}

char *props_names(const struct props *table)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *separator = "";

	if (!out)
		return NULL;
	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++) {
			if (table->list[i].flags & (PROP_READONLY | PROP_SILENT))
				continue;
			fprintf(out, "%s%s", separator, table->list[i].name);
			separator = ", ";
		}
	}
	return help_finish(out, &text);
}

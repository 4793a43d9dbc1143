/* SPDX-License-Identifier: BSD-3-Clause */
/* Texts of top: see top_text.h for the contract. */
#include "ebbctl/top_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/text.h"
#include "ebbctl/top_model.h"

const char *top_size_text(uint64_t bytes, char buf[TOP_TEXT_MAX])
{
	char text[TEXT_SIZE_MAX], *blank, *point;

	/* "1.5 GiB" without what says itself in a column of sizes. */
	text_size(bytes, text);
	blank = strchr(text, ' ');
	*blank = '\0';
	point = strchr(text, '.');
	if (point && point - text > 2)
		*point = '\0';
	else if (point && point - text == 2 && point[1] != '0')
		point[2] = '\0';
	else if (point && point - text == 2)
		*point = '\0';
	snprintf(buf, TOP_TEXT_MAX, "%s%.1s", text, blank[1] == 'b' ? "" : blank + 1);
	return buf;
}

const char *top_rate_text(int64_t bytes_per_s, char buf[TOP_TEXT_MAX])
{
	uint64_t speed = bytes_per_s < 0 ? -(uint64_t)bytes_per_s : (uint64_t)bytes_per_s;
	char size[TOP_TEXT_MAX];

	if (!speed)
		snprintf(buf, TOP_TEXT_MAX, "0");
	else
		snprintf(buf, TOP_TEXT_MAX, "%c%.20s/s", bytes_per_s < 0 ? '-' : '+',
			 top_size_text(speed, size));
	return buf;
}

static const char *top_state_name(enum top_state state)
{
	static const char *const names[] = {"steady", "growing", "shrinking", "stuck"};

	return names[state];
}

const char *top_state_text(const struct top_device *device, uint64_t now_ms, char buf[TOP_TEXT_MAX])
{
	enum top_state state = top_device_state(device, now_ms);

	int percent = top_device_percent(device);
	char granted[TOP_TEXT_MAX];
	size_t used;

	if (state == TOP_STEADY || percent < 0)
		snprintf(buf, TOP_TEXT_MAX, "%s", top_state_name(state));
	else
		snprintf(buf, TOP_TEXT_MAX, "%s %d %%", top_state_name(state), percent);
	used = strlen(buf);
	if (device->granted_bytes)
		snprintf(buf + used, TOP_TEXT_MAX - used, ", %.32s granted",
			 top_size_text(device->granted_bytes, granted));
	return buf;
}

const char *top_count_text(uint64_t count, int known, char buf[TOP_TEXT_MAX])
{
	if (known)
		snprintf(buf, TOP_TEXT_MAX, "%" PRIu64, count);
	else
		snprintf(buf, TOP_TEXT_MAX, "-");
	return buf;
}

/* Exact: in MiB where that divides it. */
static void top_put_size(FILE *out, const char *key, uint64_t bytes)
{
	if (bytes % MIB)
		fprintf(out, " %s=%" PRIu64, key, bytes);
	else
		fprintf(out, " %s=%" PRIu64 "M", key, bytes / MIB);
}

/* A clean text as one word. */
static void top_put_word(FILE *out, const char *key, const char *text)
{
	fprintf(out, "%s=", key);
	for (; *text; text++)
		fputc(*text == ' ' ? '_' : *text, out);
}

static void top_put_quoted(FILE *out, const char *key, const char *text)
{
	fprintf(out, " %s=\"", key);
	for (; *text; text++)
		fputc(*text == '"' ? '\'' : *text, out);
	fputc('"', out);
}

char *top_line(const struct top_machine *machine, const struct top_device *device, uint64_t now_ms)
{
	enum top_state state = top_device_state(device, now_ms);
	int percent = top_device_percent(device);
	char rate[TOP_TEXT_MAX], *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	if (!out)
		return NULL;
	top_put_word(out, "machine", machine->label);
	top_put_word(out, " device", device->label);
	fprintf(out, " node=%" PRId64, device->node);
	top_put_size(out, "plugged", device->plugged_bytes);
	top_put_size(out, "requested", device->requested_bytes);
	if (device->granted_bytes)
		top_put_size(out, "granted", device->granted_bytes);
	top_put_size(out, "max", device->max_bytes);
	fprintf(out, " rate=%s", top_rate_text(top_device_rate(device, now_ms), rate));
	if (device->requests_known)
		fprintf(out, " requests=%" PRId64 "/s",
			progress_rate_get(&device->requests_rate, now_ms));
	if (device->violations_known)
		fprintf(out, " violations=%" PRIu64, device->violations);
	fprintf(out, " state=%s", top_state_name(state));
	if (state != TOP_STEADY && percent >= 0)
		fprintf(out, " progress=%d%%", percent);
	if (state != TOP_STEADY && device->reason)
		top_put_quoted(out, "reason", device->reason);
	if (fclose(out)) {
		free(line);
		return NULL;
	}
	return line;
}

char *top_problem_line(const struct top_machine *machine)
{
	char *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	if (!out)
		return NULL;
	top_put_word(out, "machine", machine->label);
	if (machine->problem)
		top_put_quoted(out, "problem", machine->problem);
	else
		fputs(" devices=0", out);
	if (fclose(out)) {
		free(line);
		return NULL;
	}
	return line;
}

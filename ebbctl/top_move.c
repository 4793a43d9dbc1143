/* SPDX-License-Identifier: BSD-3-Clause */
/* What top shows of a machine's migration: see top_model.h and top_text.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/progress.h"
#include "ebbctl/text.h"
#include "ebbctl/told.h"
#include "ebbctl/top_model.h"
#include "ebbctl/top_text.h"

void top_machine_take_migration(struct top_machine *machine, const json_t *value, uint64_t now_ms)
{
	bool was_moving = machine->moving;

	told_read(value, &machine->move);
	/* The answer's, which does not stay. */
	machine->move.why = NULL;
	machine->moving = machine->move.has_memory && !told_is_over(&machine->move);
	if (!was_moving)
		machine->move_rate = (struct progress_rate){.count = 0};
	if (machine->moving)
		progress_rate_note(&machine->move_rate, now_ms, machine->move.moved_bytes);
}

const char *top_move_text(const struct top_machine *machine, uint64_t now_ms,
			  char buf[TOP_MOVE_TEXT_MAX])
{
	const struct told *move = &machine->move;
	char rate[TOP_TEXT_MAX];
	int used;

	used = snprintf(buf, TOP_MOVE_TEXT_MAX, "moving %u %%, %s",
			progress_percent(move->done_bytes, move->total_bytes),
			top_rate_text(progress_rate_get(&machine->move_rate, now_ms), rate));
	if (move->passes > 1)
		used += snprintf(buf + used, TOP_MOVE_TEXT_MAX - (size_t)used, ", pass %" PRIu64,
				 move->passes);
	if (move->throttle)
		snprintf(buf + used, TOP_MOVE_TEXT_MAX - (size_t)used, ", slowed by %" PRIu64 " %%",
			 move->throttle);
	return buf;
}

/* One word of the other side's. */
static void move_put_word(FILE *out, const char *key, const char *text)
{
	char *clean = text_clean(text, strlen(text), text_locale_utf8(), 0);

	fprintf(out, "%s=", key);
	for (const char *c = clean; c && *c; c++)
		fputc(*c == ' ' ? '_' : *c, out);
	free(clean);
}

char *top_move_line(const struct top_machine *machine, uint64_t now_ms)
{
	const struct told *move = &machine->move;
	char rate[TOP_TEXT_MAX], *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	if (!out)
		return NULL;
	move_put_word(out, "machine", machine->label);
	move_put_word(out, " migration", move->status);
	fprintf(out, " progress=%u%% memory=%" PRIu64 " sent=%" PRIu64 " rate=%s pass=%" PRIu64,
		progress_percent(move->done_bytes, move->total_bytes), move->total_bytes,
		move->sent_bytes,
		top_rate_text(progress_rate_get(&machine->move_rate, now_ms), rate), move->passes);
	if (move->throttle)
		fprintf(out, " throttle=%" PRIu64 "%%", move->throttle);
	if (fclose(out)) {
		free(line);
		return NULL;
	}
	return line;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Progress as text: see progress.h for the contract. */
#include "ebbctl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/text.h"

#define PROGRESS_BAR_MIN 10
#define PROGRESS_BAR_MAX 40

void progress_rate_note(struct progress_rate *rate, uint64_t ms, uint64_t value)
{
	size_t keep = 0;

	/* One sample from before the window stays: from it on the change counts. */
	while (keep + 1 < rate->count && ms - rate->samples[keep + 1].ms >= PROGRESS_WINDOW_MS)
		keep++;
	rate->count -= keep;
	memmove(rate->samples, rate->samples + keep, rate->count * sizeof(rate->samples[0]));
	if (rate->count > 1 &&
	    (ms - rate->samples[rate->count - 2].ms) * (PROGRESS_SAMPLES - 2) < PROGRESS_WINDOW_MS)
		rate->count--;
	if (rate->count == PROGRESS_SAMPLES) {
		rate->count--;
		memmove(rate->samples, rate->samples + 1, rate->count * sizeof(rate->samples[0]));
	}
	rate->samples[rate->count].ms = ms;
	rate->samples[rate->count].value = value;
	rate->count++;
}

int64_t progress_rate_get(const struct progress_rate *rate, uint64_t ms)
{
	uint64_t since, from, to;

	if (rate->count < 2)
		return 0;
	since = rate->samples[0].ms;
	from = rate->samples[0].value;
	to = rate->samples[rate->count - 1].value;
	if (ms <= since)
		return 0;
	return (int64_t)(((double)to - (double)from) * 1000 / (double)(ms - since));
}

unsigned int progress_percent(uint64_t done, uint64_t total)
{
	double part;

	if (done >= total)
		return 100;
	part = (double)done * 100 / (double)total;
	return part > 99 ? 99 : (unsigned int)part;
}

const char *progress_sizes(uint64_t bytes, uint64_t target_bytes, char buf[PROGRESS_SIZES_MAX])
{
	char size[TEXT_SIZE_MAX], target[TEXT_SIZE_MAX];

	snprintf(buf, PROGRESS_SIZES_MAX, "%s %s %s", text_size(bytes, size),
		 bytes > target_bytes ? "on the way to" : "of", text_size(target_bytes, target));
	return buf;
}

/* The sizes, or nothing. */
static void progress_known_sizes(const struct progress *p, char buf[PROGRESS_SIZES_MAX])
{
	*buf = '\0';
	if (p->target_known)
		progress_sizes(p->size_bytes, p->target_bytes, buf);
}

static uint64_t progress_speed(const struct progress *p)
{
	return p->bytes_per_s < 0 ? -(uint64_t)p->bytes_per_s : (uint64_t)p->bytes_per_s;
}

/* "350 MiB/s  3 s left", or nothing while nothing moves. */
static void progress_pace(const struct progress *p, char *buf, size_t room)
{
	char size[TEXT_SIZE_MAX], seconds[TEXT_SIZE_MAX];
	uint64_t speed = progress_speed(p), left;

	*buf = '\0';
	if (!speed || p->done >= p->total)
		return;
	left = p->total - p->done;
	snprintf(buf, room, "  %s/s  %s left", text_size(speed, size),
		 text_seconds(left / speed + !!(left % speed), seconds));
}

static size_t progress_add(char *buf, size_t room, size_t used, const char *text)
{
	int size = used < room ? snprintf(buf + used, room - used, "%s", text) : 0;

	return num_min(used + (size_t)size, room - 1);
}

const char *progress_bar(const struct progress *p, size_t columns, bool utf8, char *buf,
			 size_t room)
{
	const char *full = utf8 ? "█" : "#", *empty = utf8 ? "░" : ".";
	char sizes[PROGRESS_SIZES_MAX], pace[2 * TEXT_SIZE_MAX + 16], percent[16];
	size_t used, width, filled;

	progress_known_sizes(p, sizes);
	progress_pace(p, pace, sizeof(pace));
	snprintf(percent, sizeof(percent), "%3u %%", progress_percent(p->done, p->total));
	used = strlen(sizes) + strlen(pace) + strlen(percent) + text_columns(p->what) +
	       (*sizes ? 6 : 4) + 2;
	width = columns > used ? num_min(columns - used, PROGRESS_BAR_MAX) : 0;
	used = progress_add(buf, room, 0, p->what);
	if (*sizes)
		used = progress_add(buf, room, progress_add(buf, room, used, "  "), sizes);
	if (width >= PROGRESS_BAR_MIN) {
		filled = p->done >= p->total
				 ? width
				 : (size_t)((double)p->done * (double)width / (double)p->total);
		used = progress_add(buf, room, used, "  [");
		for (size_t i = 0; i < width; i++)
			used = progress_add(buf, room, used, i < filled ? full : empty);
		used = progress_add(buf, room, used, "]");
	}
	used = progress_add(buf, room, progress_add(buf, room, used, "  "), percent);
	progress_add(buf, room, used, pace);
	buf[text_fit(buf, columns)] = '\0';
	return buf;
}

const char *progress_line(const struct progress *p, char *buf, size_t room)
{
	char sizes[PROGRESS_SIZES_MAX], size[TEXT_SIZE_MAX];
	uint64_t speed = progress_speed(p);

	progress_known_sizes(p, sizes);
	if (speed)
		snprintf(buf, room, "%s: %s%s%u %%, %s/s", p->what, sizes, *sizes ? ", " : "",
			 progress_percent(p->done, p->total), text_size(speed, size));
	else
		snprintf(buf, room, "%s: %s%s%u %%", p->what, sizes, *sizes ? ", " : "",
			 progress_percent(p->done, p->total));
	return buf;
}

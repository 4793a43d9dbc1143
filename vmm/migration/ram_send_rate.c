/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast memory is sent, and made dirty again: see ram_send_rate.h. */
#include "vmm/migration/ram_send_rate.h"

#include "base/num.h"

#define RATE_TICK_MS   100u
#define RATE_TELLING   (1 * MIB) /* less than this of pages with content says nothing */
#define RATE_UNLIMITED (1 * GIB) /* a second, until it is known */

static uint64_t rate_per_s(uint64_t amount, uint64_t ms)
{
	return amount * 1000 / num_max(ms, 1);
}

void rate_begin(struct rate *rate, const struct rate_sums *now, uint64_t pages)
{
	rate->syncs++;
	rate->remaining_pages = pages;
	rate->round = *now;
	if (!rate->sync_ms)
		rate->sync_ms = now->ms;
	if (!rate->tick.ms)
		rate->tick = *now;
}

void rate_taken(struct rate *rate, uint64_t pages)
{
	uint64_t left = rate->remaining_pages;

	/* Pages that became dirty in the round are not among them yet. */
	rate->remaining_pages = left - num_min(left, pages);
}

void rate_tick(struct rate *rate, const struct rate_sums *now)
{
	uint64_t ms = now->ms - rate->tick.ms, normal = now->normal - rate->tick.normal;

	if (ms < RATE_TICK_MS)
		return;
	rate->bytes_per_s = rate_per_s(now->bytes - rate->tick.bytes, ms);
	rate->pages_per_s = rate_per_s(normal + now->zero - rate->tick.zero, ms);
	if (normal * PAGE_BYTES >= RATE_TELLING)
		rate->normal_per_s = rate_per_s(normal * PAGE_BYTES, ms);
	rate->tick = *now;
}

void rate_end(struct rate *rate, const struct rate_sums *now)
{
	uint64_t ms = now->ms - rate->round.ms;

	rate->round_normal = now->normal - rate->round.normal;
	if (rate->round_normal * PAGE_BYTES >= RATE_TELLING)
		rate->normal_per_s = rate_per_s(rate->round_normal * PAGE_BYTES, ms);
	/* A migration that is over before there was a tick has figures too. */
	if (!rate->bytes_per_s) {
		rate->bytes_per_s = rate_per_s(now->bytes - rate->round.bytes, ms);
		rate->pages_per_s =
			rate_per_s(rate->round_normal + now->zero - rate->round.zero, ms);
	}
}

void rate_synced(struct rate *rate, uint64_t now_ms, uint64_t pages)
{
	rate->dirty_per_s = rate_per_s(pages, now_ms - rate->sync_ms);
	rate->sync_ms = now_ms;
	rate->remaining_pages = pages;
}

uint64_t rate_expected_ms(const struct rate *rate, const struct ram_send_limits *limits)
{
	uint64_t per_s = rate->normal_per_s;

	if (!per_s)
		per_s = limits->max_bandwidth ? limits->max_bandwidth : RATE_UNLIMITED;
	return rate->remaining_pages * PAGE_BYTES * 1000 / num_max(per_s, 1);
}

bool rate_fits(const struct rate *rate, const struct ram_send_limits *limits)
{
	return rate_expected_ms(rate, limits) <= limits->downtime_limit_ms;
}

/* The next step up from @now percent. */
static unsigned int rate_throttle_more(unsigned int now, const struct ram_send_limits *limits,
				       uint64_t dirty, uint64_t allowed)
{
	unsigned int step = limits->cpu_throttle_increment;

	if (!now)
		return limits->cpu_throttle_initial;
	if (limits->cpu_throttle_tailslow) {
		/* No more than what makes the guest as slow as it has to be. */
		uint64_t runs = 100 - now, ideal = runs * allowed / num_max(dirty, 1);

		step = (unsigned int)num_max(num_min(step, runs - num_min(runs, ideal)), 1);
	}
	return now + step;
}

unsigned int rate_throttle(struct rate *rate, const struct ram_send_limits *limits,
			   uint64_t dirty_pages)
{
	uint64_t allowed = rate->round_normal * limits->throttle_trigger_threshold / 100;
	unsigned int now = rate->throttle;

	if (!limits->auto_converge || dirty_pages <= allowed) {
		rate->outpaced = 0;
		return now;
	}
	if (++rate->outpaced < 2)
		return now;
	rate->outpaced = 0;
	now = rate_throttle_more(now, limits, dirty_pages, allowed);
	rate->throttle = (unsigned int)num_min(now, limits->max_cpu_throttle);
	return rate->throttle;
}

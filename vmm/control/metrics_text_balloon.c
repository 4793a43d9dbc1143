/* SPDX-License-Identifier: BSD-3-Clause */
/* Metrics of the balloon, and what the guest says of its memory: see metrics_text.h. */
#include <inttypes.h>

#include "base/num.h"
#include "vmm/control/metrics_text.h"

struct balloon_figure {
	const char *name, *type, *help;
	uint64_t value;
};

static void balloon_figures(FILE *f, const struct balloon_figure *figures, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		metrics_text_head(f, figures[i].name, figures[i].type, figures[i].help);
		fprintf(f, "%s %" PRIu64 "\n", figures[i].name, figures[i].value);
	}
}

static void balloon_text_info(FILE *f, const struct balloon_info *info)
{
	const struct balloon_figure figures[] = {
		{"ebb_balloon_target_bytes", "gauge", "Boot memory that the guest shall keep.",
		 info->target_bytes},
		{"ebb_balloon_actual_bytes", "gauge",
		 "Boot memory that is not in the balloon, as the driver says.", info->actual_bytes},
		{"ebb_balloon_driver_ready", "gauge", "Whether the guest has a driver at work.",
		 info->driven},
		{"ebb_balloon_inflated_bytes_total", "counter",
		 "Memory that the guest put into the balloon.", info->inflated_bytes},
		{"ebb_balloon_deflated_bytes_total", "counter",
		 "Memory that the guest took out of the balloon.", info->deflated_bytes},
		{"ebb_balloon_reported_bytes_total", "counter",
		 "Memory that the guest reported as free.", info->reported_bytes},
		{"ebb_balloon_hinted_bytes_total", "counter",
		 "Memory that the guest hinted as free in migrations.", info->hinted_bytes},
		{"ebb_balloon_discarded_bytes_total", "counter",
		 "Memory that went back to the host.", info->discarded_bytes},
		{"ebb_balloon_discard_failures_total", "counter",
		 "Times that memory could not go back to the host.", info->discards_failed},
		{"ebb_balloon_ignored_pages_total", "counter",
		 "Pages that the guest named and that are no memory of its.", info->ignored_pages},
	};

	balloon_figures(f, figures, ARRAY_SIZE(figures));
}

/* In the order of the tags. */
static const struct balloon_figure balloon_stat_figures[BALLOON_STATS] = {
	{"ebb_guest_swap_in_bytes_total", "counter", "Memory that the guest swapped in."},
	{"ebb_guest_swap_out_bytes_total", "counter", "Memory that the guest swapped out."},
	{"ebb_guest_major_faults_total", "counter", "Page faults of the guest with I/O."},
	{"ebb_guest_minor_faults_total", "counter", "Page faults of the guest without I/O."},
	{"ebb_guest_free_bytes", "gauge", "Memory of the guest that is not used at all."},
	{"ebb_guest_total_bytes", "gauge", "Memory that the guest has."},
	{"ebb_guest_available_bytes", "gauge", "Memory that the guest can use without swapping."},
	{"ebb_guest_disk_caches_bytes", "gauge", "Memory that the guest can reclaim without I/O."},
	{"ebb_guest_hugetlb_allocations_total", "counter", "Huge pages that the guest took."},
	{"ebb_guest_hugetlb_failures_total", "counter", "Huge pages that the guest did not get."},
	{"ebb_guest_oom_kills_total", "counter",
	 "Processes that the guest ended for want of memory."},
	{"ebb_guest_allocation_stalls_total", "counter", "Times that the guest waited for memory."},
	{"ebb_guest_async_scans_total", "counter", "Pages that the guest looked at ahead of need."},
	{"ebb_guest_direct_scans_total", "counter", "Pages that the guest looked at in need."},
	{"ebb_guest_async_reclaims_total", "counter",
	 "Pages that the guest reclaimed ahead of need."},
	{"ebb_guest_direct_reclaims_total", "counter", "Pages that the guest reclaimed in need."},
};

/* What it said, and when; nothing of what it did not. */
static void balloon_text_stats(FILE *f, const struct balloon_stats *stats)
{
	const struct balloon_figure update = {"ebb_guest_stats_timestamp_seconds", "gauge",
					      "When the guest said what it says of its memory.",
					      stats->last_update_s};

	if (!stats->last_update_s)
		return;
	balloon_figures(f, &update, 1);
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++) {
		struct balloon_figure figure = balloon_stat_figures[s];

		figure.value = stats->values[s];
		if (figure.value != BALLOON_STAT_UNKNOWN)
			balloon_figures(f, &figure, 1);
	}
}

void metrics_text_balloon(FILE *f, const struct metrics_balloon *balloon)
{
	balloon_text_info(f, &balloon->info);
	balloon_text_stats(f, &balloon->stats);
}

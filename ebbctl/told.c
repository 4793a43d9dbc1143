/* SPDX-License-Identifier: BSD-3-Clause */
/* How a migration is: see told.h. */
#include "ebbctl/told.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/device.h"

static void told_read_memory(const json_t *ram, struct told *told)
{
	uint64_t remaining, total, duplicate = 0, normal = 0, page = 0, dirty = 0, moved;

	if (!device_number(ram, "remaining", &remaining) || !device_number(ram, "total", &total))
		return;
	device_number(ram, "transferred", &told->sent_bytes);
	device_number(ram, "dirty-sync-count", &told->passes);
	device_number(ram, "duplicate", &duplicate);
	device_number(ram, "normal", &normal);
	device_number(ram, "page-size", &page);
	device_number(ram, "dirty-pages-rate", &dirty);
	told->has_memory = true;
	told->total_bytes = total;
	told->done_bytes = total - num_min(remaining, total);
	if (!num_mul(dirty, page, &told->dirty_bytes))
		told->dirty_bytes = 0;
	if (num_add(duplicate, normal, &moved) && num_mul(moved, page, &moved))
		told->moved_bytes = moved;
}

void told_read(const json_t *value, struct told *ret_told)
{
	const char *status = json_string_value(json_object_get(value, "status"));

	*ret_told = (struct told){.why = json_string_value(json_object_get(value, "error-desc"))};
	snprintf(ret_told->status, sizeof(ret_told->status), "%s", status ? status : "none");
	device_number(value, "cpu-throttle-percentage", &ret_told->throttle);
	device_number(value, "downtime", &ret_told->downtime_ms);
	device_number(value, "total-time", &ret_told->total_ms);
	told_read_memory(json_object_get(value, "ram"), ret_told);
}

bool told_is_over(const struct told *told)
{
	static const char *const ends[] = {"completed", "failed", "cancelled", "postcopy-paused"};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (!strcmp(told->status, ends[i]))
			return true;
	return false;
}

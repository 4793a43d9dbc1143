/* SPDX-License-Identifier: BSD-3-Clause */
/* What a migration may be told about itself: names, defaults, ranges. See migration.h. */
#include "vmm/migration/params.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

#include "base/err.h"
#include "base/num.h"

const struct migration_params migration_params_default = {
	.throttle_trigger_threshold = 50,
	.cpu_throttle_initial = 20,
	.cpu_throttle_increment = 10,
	.max_cpu_throttle = 99,
	.max_bandwidth = 128 * MIB,
	.downtime_limit_ms = 300,
	.multifd_channels = 2,
	.multifd_compression = MIGRATION_COMPRESSION_NONE,
	.multifd_zstd_level = 1,
	.announce_initial_ms = 50,
	.announce_max_ms = 550,
	.announce_rounds = 5,
	.announce_step_ms = 100,
};

/* A number among the parameters, and what it may be. */
struct param_range {
	const char *name;
	size_t offset, size;
	uint64_t min, max;
};

#define PARAM(name, field, min, max)                                               \
	{                                                                          \
		name, offsetof(struct migration_params, field),                    \
			sizeof(((struct migration_params *)NULL)->field), min, max \
	}

/* 2000 s: a guest that stands still longer than that was not meant to run. */
#define PARAM_DOWNTIME_MAX_MS 2000000u

static const struct param_range param_ranges[] = {
	PARAM("throttle-trigger-threshold", throttle_trigger_threshold, 1, 100),
	PARAM("cpu-throttle-initial", cpu_throttle_initial, 1, 99),
	PARAM("cpu-throttle-increment", cpu_throttle_increment, 1, 99),
	PARAM("max-cpu-throttle", max_cpu_throttle, 1, 99),
	PARAM("max-bandwidth", max_bandwidth, 0, INT64_MAX),
	PARAM("max-postcopy-bandwidth", max_postcopy_bandwidth, 0, INT64_MAX),
	PARAM("downtime-limit", downtime_limit_ms, 0, PARAM_DOWNTIME_MAX_MS),
	PARAM("multifd-channels", multifd_channels, 1, UINT8_MAX),
	PARAM("multifd-zstd-level", multifd_zstd_level, 0, 20),
	PARAM("announce-initial", announce_initial_ms, 0, 100000),
	PARAM("announce-max", announce_max_ms, 0, 100000),
	PARAM("announce-rounds", announce_rounds, 0, 1000),
	PARAM("announce-step", announce_step_ms, 0, 10000),
};

static uint64_t param_value(const struct migration_params *params, const struct param_range *range)
{
	const char *field = (const char *)params + range->offset;

	return range->size == 1 ? *(const uint8_t *)field : *(const uint64_t *)(const void *)field;
}

int migration_params_check(const struct migration_params *params, struct err **err)
{
	for (size_t i = 0; i < ARRAY_SIZE(param_ranges); i++) {
		const struct param_range *r = &param_ranges[i];
		uint64_t value = param_value(params, r);

		if (value < r->min || value > r->max)
			return err_set(err, EINVAL,
				       "Parameter '%s' is %" PRIu64 "; it must be in the range of "
				       "%" PRIu64 " to %" PRIu64,
				       r->name, value, r->min, r->max);
	}
	if (params->max_cpu_throttle < params->cpu_throttle_initial)
		return err_set(err, EINVAL,
			       "Parameter 'max-cpu-throttle' is %u; it must not be less than "
			       "'cpu-throttle-initial', which is %u",
			       params->max_cpu_throttle, params->cpu_throttle_initial);
	return 0;
}

/* ---- capabilities ---- */

static const char *const migration_capability_names[MIGRATION_CAPS] = {
	[MIGRATION_CAP_AUTO_CONVERGE] = "auto-converge",
	[MIGRATION_CAP_ZERO_BLOCKS] = "zero-blocks",
	[MIGRATION_CAP_EVENTS] = "events",
	[MIGRATION_CAP_POSTCOPY_RAM] = "postcopy-ram",
	[MIGRATION_CAP_RELEASE_RAM] = "release-ram",
	[MIGRATION_CAP_RETURN_PATH] = "return-path",
	[MIGRATION_CAP_PAUSE_BEFORE_SWITCHOVER] = "pause-before-switchover",
	[MIGRATION_CAP_MULTIFD] = "multifd",
	[MIGRATION_CAP_LATE_BLOCK_ACTIVATE] = "late-block-activate",
	[MIGRATION_CAP_VALIDATE_UUID] = "validate-uuid",
};

const char *migration_capability_name(enum migration_capability capability)
{
	return migration_capability_names[capability];
}

int migration_capabilities_check(uint32_t capabilities, struct err **err)
{
	if (capabilities >> MIGRATION_CAPS)
		return err_set(err, EINVAL, "there is no such capability");
	if (capabilities & (1u << MIGRATION_CAP_POSTCOPY_RAM) &&
	    capabilities & (1u << MIGRATION_CAP_MULTIFD))
		return err_set(err, EINVAL,
			       "the capabilities 'postcopy-ram' and 'multifd' exclude each other: "
			       "pages that a guest waits for come over one connection");
	return 0;
}

/* ---- status ---- */

const char *migration_status_name(enum migration_status status)
{
	static const char *const names[] = {
		[MIGRATION_NONE] = "none",
		[MIGRATION_SETUP] = "setup",
		[MIGRATION_CANCELLING] = "cancelling",
		[MIGRATION_CANCELLED] = "cancelled",
		[MIGRATION_ACTIVE] = "active",
		[MIGRATION_POSTCOPY_ACTIVE] = "postcopy-active",
		[MIGRATION_POSTCOPY_PAUSED] = "postcopy-paused",
		[MIGRATION_POSTCOPY_RECOVER] = "postcopy-recover",
		[MIGRATION_COMPLETED] = "completed",
		[MIGRATION_FAILED] = "failed",
		[MIGRATION_PRE_SWITCHOVER] = "pre-switchover",
		[MIGRATION_DEVICE] = "device",
	};

	return names[status];
}

bool migration_status_is_active(enum migration_status status)
{
	switch (status) {
	case MIGRATION_NONE:
	case MIGRATION_CANCELLED:
	case MIGRATION_COMPLETED:
	case MIGRATION_FAILED:
		return false;
	default:
		return true;
	}
}

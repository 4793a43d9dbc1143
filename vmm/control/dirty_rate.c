/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast the guest writes to its memory: calc-dirty-rate, query-dirty-rate, and what people type
 * (vmm/migration/dirty_rate.h measures it). Rates are told in whole MiB a second, as elsewhere.
 *
 * Threads: the main loop's only.
 */
#include "vmm/migration/dirty_rate.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/migrate.h"

static const char *const rate_modes[] = {
	[DIRTY_RATE_PAGE_SAMPLING] = "page-sampling",
	[DIRTY_RATE_DIRTY_BITMAP] = "dirty-bitmap",
};

static const char *const rate_statuses[] = {
	[DIRTY_RATE_UNSTARTED] = "unstarted",
	[DIRTY_RATE_MEASURING] = "measuring",
	[DIRTY_RATE_MEASURED] = "measured",
};

static struct migration *rate_migration(struct command_call *call)
{
	const struct control *control = command_ctx(call);

	return control->migrate->migration;
}

static int rate_start(struct migration *migration, const json_t *args, const char *mode,
		      struct err **err)
{
	const json_t *samples = json_object_get(args, "sample-pages");
	int64_t sample_pages = samples ? json_integer_value(samples) : DIRTY_RATE_SAMPLE_PAGES;
	int64_t calc_time_s = json_integer_value(json_object_get(args, "calc-time"));

	for (size_t i = 0; i < ARRAY_SIZE(rate_modes); i++) {
		if (strcmp(rate_modes[i], mode))
			continue;
		if (samples && i != DIRTY_RATE_PAGE_SAMPLING)
			return err_set(err, EINVAL,
				       "Parameter 'sample-pages' is of the mode 'page-sampling' "
				       "only; '%s' counts all pages",
				       mode);
		return migration_dirty_rate_start(migration, (enum dirty_rate_mode)i, calc_time_s,
						  sample_pages, err);
	}
	return err_set(err, EINVAL,
		       "Parameter 'mode' cannot be '%s': there are no rings of written pages in "
		       "this version; allowed: page-sampling, dirty-bitmap",
		       mode);
}

static int rate_calc(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	const char *mode = control_text(args, "mode");

	(void)ret_value;
	return rate_start(rate_migration(call), args,
			  *mode ? mode : rate_modes[DIRTY_RATE_PAGE_SAMPLING], err);
}

static int rate_calc_human(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	enum dirty_rate_mode mode =
		control_flag(args, "bitmap") ? DIRTY_RATE_DIRTY_BITMAP : DIRTY_RATE_PAGE_SAMPLING;
	int ret;

	(void)ret_value;
	ret = rate_start(rate_migration(call), args,
			 control_flag(args, "ring") ? "dirty-ring" : rate_modes[mode], err);
	if (!ret)
		command_printf(call,
			       "'info dirty_rate' tells what was measured, in %" PRIu64 " s\n",
			       control_number(args, "calc-time"));
	return ret;
}

static int rate_query(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	struct dirty_rate_info info;
	json_t *value;

	(void)args;
	migration_dirty_rate_info(rate_migration(call), &info);
	value = json_pack("{s:s, s:I, s:I, s:I, s:s}", "status", rate_statuses[info.status],
			  "start-time", (json_int_t)info.start_time_s, "calc-time",
			  (json_int_t)info.calc_time_s, "sample-pages",
			  (json_int_t)info.sample_pages, "mode", rate_modes[info.mode]);
	if (info.status == DIRTY_RATE_MEASURED)
		control_set(&value, "dirty-rate",
			    json_integer((json_int_t)(info.rate_bytes / MIB)));
	return control_answer(value, ret_value, err);
}

static void rate_print(struct command_call *call, const json_t *value)
{
	command_printf(call, "Status: %s\nStart Time: %" PRIu64 " (ms)\n",
		       control_text(value, "status"), control_number(value, "start-time") * 1000);
	if (!strcmp(control_text(value, "mode"), rate_modes[DIRTY_RATE_PAGE_SAMPLING]))
		command_printf(call, "Sample Pages: %" PRIu64 " (per GB)\n",
			       control_number(value, "sample-pages"));
	command_printf(call, "Period: %" PRIu64 " (sec)\nMode: %s\n",
		       control_number(value, "calc-time"), control_text(value, "mode"));
	if (json_object_get(value, "dirty-rate"))
		command_printf(call, "Dirty rate: %" PRIu64 " (MB/s)\n",
			       control_number(value, "dirty-rate"));
	else
		command_printf(call, "Dirty rate: (not ready)\n");
}

static const struct command rate_commands[] = {
	{
		.name = "calc-dirty-rate",
		.args = "calc-time:int *sample-pages:int *mode:DirtyRateMeasureMode",
		.help = "measure how fast the guest writes to its memory",
		.run = rate_calc,
	},
	{
		.human = "calc_dirty_rate",
		.human_args = "ring:-r,bitmap:-b,calc-time:l,sample-pages:l?",
		.params = "[-b] seconds [sample_pages_per_GB]",
		.help = "measure how fast the guest writes to its memory; with -b by the log of "
			"writes",
		.human_run = rate_calc_human,
	},
	{
		.name = "query-dirty-rate",
		.human = "info dirty_rate",
		.returns = "DirtyRateInfo",
		.help = "show how fast the guest writes to its memory, as it was measured last",
		.run = rate_query,
		.print = rate_print,
	},
	{.name = NULL},
};

static const struct qmp_type rate_types[] = {
	{
		.name = "DirtyRateMeasureMode",
		.kind = QMP_ENUM,
		.members = "page-sampling dirty-ring dirty-bitmap",
	},
	{.name = "DirtyRateStatus", .kind = QMP_ENUM, .members = "unstarted measuring measured"},
	{.name = "DirtyRateVcpu", .kind = QMP_STRUCT, .members = "id:int dirty-rate:int"},
	{
		.name = "DirtyRateInfo",
		.kind = QMP_STRUCT,
		.members = "*dirty-rate:int status:DirtyRateStatus start-time:int calc-time:int "
			   "sample-pages:uint64 mode:DirtyRateMeasureMode "
			   "*vcpu-dirty-rate:[DirtyRateVcpu]",
	},
	{.name = NULL},
};

const struct qmp_module control_dirty_rate_module = {rate_commands, rate_types, NULL};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon (vmm/virtio/balloon.h): how much of boot memory the guest shall keep, how much it has,
 * and the event that tells when that changed. Memory of memory devices does not count here; what the
 * guest says of its memory is a property of the device (qom_rows_device.c).
 *
 * I1  Nothing here waits for a guest: a target is noted, and the guest gives pages up or takes them
 *     back when it likes, or never.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/virtio/balloon.h"

/* At most so often a new size is told. */
#define BALLOON_EVENT_MS 1000

/* NULL and the sentence when there is none. */
static struct balloon *balloon_find(struct command_call *call, struct err **err)
{
	const struct control *control = command_ctx(call);
	struct balloon *balloon = vm_balloon(control->vm);

	if (!balloon)
		err_set(err, ENXIO, "No balloon device has been activated");
	return balloon;
}

static int balloon_run(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	json_int_t target = json_integer_value(json_object_get(args, "value"));
	struct balloon *balloon = balloon_find(call, err);

	(void)ret_value;
	if (!balloon)
		return -ENXIO;
	if (target <= 0)
		return err_set(err, EINVAL, "Parameter 'target' expects a size");
	balloon_set_target(balloon, (uint64_t)target);
	return 0;
}

static int balloon_query(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	struct balloon *balloon = balloon_find(call, err);
	struct balloon_info info;

	(void)args;
	if (!balloon)
		return -ENXIO;
	balloon_info(balloon, &info);
	return control_answer(json_pack("{s:I}", "actual", (json_int_t)info.actual_bytes),
			      ret_value, err);
}

static void balloon_print(struct command_call *call, const json_t *value)
{
	command_printf(call, "balloon: actual=%" PRIu64 "\n",
		       control_number(value, "actual") / MIB);
}

/* ---- the event ---- */

void control_balloon_event(struct control *control, const struct vm_event *event)
{
	if (event->type == VM_EVENT_BALLOON)
		control_emit(control, "BALLOON_CHANGE",
			     json_pack("{s:I}", "actual", (json_int_t)event->actual_bytes));
}

/* ---- the module ---- */

static const struct command balloon_commands[] = {
	{
		.name = "balloon",
		.human = "balloon",
		.args = "value:int",
		.human_args = "value:M",
		.params = "target",
		.help = "ask the guest to do with so much of its boot memory (in MiB)",
		.flags = COMMAND_BARE,
		.run = balloon_run,
	},
	{
		.name = "query-balloon",
		.human = "info balloon",
		.returns = "BalloonInfo",
		.help = "show how much of its boot memory the guest has",
		.flags = COMMAND_BARE,
		.run = balloon_query,
		.print = balloon_print,
	},
	{.name = NULL},
};

static const struct qmp_type balloon_types[] = {
	{.name = "BalloonInfo", .kind = QMP_STRUCT, .members = "actual:int"},
	{.name = NULL},
};

static const struct qmp_event balloon_events[] = {
	{.name = "BALLOON_CHANGE", .data = "actual:int", .rate_ms = BALLOON_EVENT_MS},
	{.name = NULL},
};

const struct qmp_module control_balloon_module = {balloon_commands, balloon_types, balloon_events};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The run state: looking at it, changing it, the events that tell of it.
 *
 * I1  A program that sends quit gets its answer, then the event SHUTDOWN, and then the end of the
 *     connection: the machine ends on the loop's next turn.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/core/loop.h"

static struct vm *run_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

static int run_query_status(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	enum vm_state state = vm_state(run_vm(call));

	(void)args;
	return control_answer(json_pack("{s:b, s:b, s:s}", "running", state == VM_RUNNING,
					"singlestep", 0, "status", vm_state_name(state)),
			      ret_value, err);
}

static void run_print_status(struct command_call *call, const json_t *value)
{
	const char *status = control_text(value, "status");

	if (control_flag(value, "running") || !strcmp(status, "paused"))
		command_printf(call, "VM status: %s\n", status);
	else
		command_printf(call, "VM status: paused (%s)\n", status);
}

static int run_stop(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)args;
	(void)ret_value;
	(void)err;
	vm_stop(run_vm(call));
	return 0;
}

static int run_cont(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)args;
	(void)ret_value;
	return vm_cont(run_vm(call), err);
}

static int run_reset(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	(void)args;
	(void)ret_value;
	return vm_reset(run_vm(call), VM_CAUSE_HOST_QMP_SYSTEM_RESET, err);
}

static int run_powerdown(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	(void)args;
	(void)ret_value;
	return vm_powerdown(run_vm(call), err);
}

static int run_nmi(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err)
{
	(void)args;
	(void)ret_value;
	return vm_inject_nmi(run_vm(call), err);
}

/* ---- quit ---- */

static void run_quit_now(void *opaque)
{
	struct control *control = opaque;

	vm_quit(control->vm, 0, VM_CAUSE_HOST_QMP_QUIT);
}

int control_run_init(struct control *control, struct err **err)
{
	control->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->quit_fd < 0)
		return err_set(err, EIO, "cannot create an event descriptor: %s", strerror(errno));
	control->quit_watch =
		loop_watch_new(control->main, control->quit_fd, run_quit_now, control, err);
	return control->quit_watch ? 0 : -EIO;
}

void control_run_done(struct control *control)
{
	loop_watch_free(control->quit_watch);
	/* Closing -1 is harmless. */
	close(control->quit_fd);
}

static int run_quit(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	struct control *control = command_ctx(call);
	uint64_t one = 1;

	(void)args;
	(void)ret_value;
	(void)err;
	/* Refused only when somebody has asked before. */
	if (write(control->quit_fd, &one, sizeof(one)) != sizeof(one) && errno != EAGAIN)
		run_quit_now(control);
	return 0;
}

/* A person needs no answer, nor a prompt that nothing would follow. */
static int run_quit_human(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	(void)args;
	(void)ret_value;
	(void)err;
	run_quit_now(command_ctx(call));
	return 0;
}

/* ---- set-action ---- */

/* In the order of the enums of vm_action_config. */
static const char *const run_reboot_actions[] = {"reset", "shutdown", NULL};
static const char *const run_shutdown_actions[] = {"poweroff", "pause", NULL};
static const char *const run_panic_actions[] = {"shutdown", "pause", "exit-failure", "none", NULL};
static const char *const run_watchdog_actions[] = {"reset", "shutdown", "poweroff",   "pause",
						   "debug", "none",     "inject-nmi", NULL};

/* The action that @args names, or @now. */
static unsigned int run_action(const json_t *args, const char *name, const char *const *names,
			       unsigned int now)
{
	const char *text = json_string_value(json_object_get(args, name));

	for (unsigned int i = 0; text && names[i]; i++)
		if (!strcmp(names[i], text))
			return i;
	return now;
}

static int run_set_action(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	struct vm_action_config action = *vm_action(run_vm(call));

	(void)ret_value;
	(void)err;
	action.reboot = run_action(args, "reboot", run_reboot_actions, action.reboot);
	action.shutdown = run_action(args, "shutdown", run_shutdown_actions, action.shutdown);
	action.panic = run_action(args, "panic", run_panic_actions, action.panic);
	action.watchdog = run_action(args, "watchdog", run_watchdog_actions, action.watchdog);
	vm_set_action(run_vm(call), &action);
	return 0;
}

/* ---- human-monitor-command ---- */

static int run_human(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	const json_t *cpu = json_object_get(args, "cpu-index");
	unsigned int cpus = vm_config(run_vm(call))->smp.cpus;

	(void)ret_value;
	/* No command here is about one vCPU. */
	if (cpu && !cpus)
		return err_set(err, EINVAL,
			       "Parameter 'cpu-index' is not possible: there is no CPU");
	if (cpu && (json_integer_value(cpu) < 0 || json_integer_value(cpu) >= cpus))
		return err_set(err, EINVAL,
			       "Parameter 'cpu-index' expects a CPU number from 0 to %u", cpus - 1);
	return command_run_human(call, control_text(args, "command-line"));
}

/* ---- events ---- */

static const char *run_panic_action(enum vm_panic_action action)
{
	switch (action) {
	case VM_PANIC_PAUSE:
		return "pause";
	case VM_PANIC_NONE:
		return "run";
	case VM_PANIC_SHUTDOWN:
	case VM_PANIC_EXIT_FAILURE:
		break;
	}
	return "poweroff";
}

static json_t *run_cause(enum vm_cause cause)
{
	return json_pack("{s:b, s:s}", "guest", vm_cause_is_guest(cause), "reason",
			 vm_cause_name(cause));
}

void control_run_event(struct control *control, const struct vm_event *event)
{
	switch (event->type) {
	case VM_EVENT_STOP:
		qmp_emit(control->qmp, "STOP", NULL);
		break;
	case VM_EVENT_RESUME:
		qmp_emit(control->qmp, "RESUME", NULL);
		break;
	case VM_EVENT_RESET:
		control_emit(control, "RESET", run_cause(event->cause));
		break;
	case VM_EVENT_SHUTDOWN:
		control_emit(control, "SHUTDOWN", run_cause(event->cause));
		break;
	case VM_EVENT_POWERDOWN:
		qmp_emit(control->qmp, "POWERDOWN", NULL);
		break;
	case VM_EVENT_GUEST_PANICKED:
		control_emit(control, "GUEST_PANICKED",
			     json_pack("{s:s}", "action", run_panic_action(event->panic)));
		break;
	case VM_EVENT_GUEST_CRASHLOADED:
		control_emit(control, "GUEST_CRASHLOADED", json_pack("{s:s}", "action", "run"));
		break;
	case VM_EVENT_DEVICE_DELETED:
	case VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR:
	case VM_EVENT_VIOLATION:
	case VM_EVENT_MEMORY_DEVICE:
	case VM_EVENT_BALLOON:
		break;
	}
}

/* ---- the module ---- */

static const struct command run_commands[] = {
	{
		.name = "query-status",
		.human = "info status",
		.returns = "StatusInfo",
		.help = "show whether the machine runs",
		.flags = COMMAND_BARE,
		.run = run_query_status,
		.print = run_print_status,
	},
	{
		.name = "stop",
		.human = "stop|s",
		.help = "stop the machine",
		.flags = COMMAND_BARE,
		.run = run_stop,
	},
	{
		.name = "cont",
		.human = "cont|c",
		.help = "let the stopped machine go on",
		.run = run_cont,
	},
	{
		.name = "system_reset",
		.human = "system_reset",
		.help = "reset the machine",
		.run = run_reset,
	},
	{
		.name = "system_powerdown",
		.human = "system_powerdown",
		.help = "press the power button",
		.run = run_powerdown,
	},
	{
		.name = "inject-nmi",
		.human = "nmi",
		.help = "send each vCPU a non-maskable interrupt",
		.run = run_nmi,
	},
	{
		.name = "quit",
		.human = "quit|q",
		.help = "end the machine and the monitor",
		.flags = COMMAND_BARE,
		.run = run_quit,
		.human_run = run_quit_human,
	},
	{
		.name = "set-action",
		.args = "*reboot:RebootAction *shutdown:ShutdownAction *panic:PanicAction "
			"*watchdog:WatchdogAction",
		.help = "choose what follows when the guest reboots, powers off, or panics",
		.flags = COMMAND_BARE,
		.run = run_set_action,
	},
	{
		.name = "human-monitor-command",
		.args = "command-line:str *cpu-index:int",
		.returns = "str",
		.help = "run a line of the human monitor and return what it prints",
		.flags = COMMAND_BARE,
		.run = run_human,
	},
	{.name = NULL},
};

static const struct qmp_type run_types[] = {
	{
		.name = "RunState",
		.kind = QMP_ENUM,
		.members = "debug inmigrate internal-error io-error paused postmigrate prelaunch "
			   "finish-migrate restore-vm running save-vm shutdown suspended watchdog "
			   "guest-panicked colo",
	},
	{
		.name = "StatusInfo",
		.kind = QMP_STRUCT,
		.members = "running:bool singlestep:bool status:RunState",
	},
	{
		.name = "ShutdownCause",
		.kind = QMP_ENUM,
		.members =
			"none host-error host-qmp-quit host-qmp-system-reset host-signal host-ui "
			"guest-shutdown guest-reset guest-panic subsystem-reset snapshot-load",
	},
	{.name = "RebootAction", .kind = QMP_ENUM, .members = "reset shutdown"},
	{.name = "ShutdownAction", .kind = QMP_ENUM, .members = "poweroff pause"},
	{.name = "PanicAction", .kind = QMP_ENUM, .members = "pause shutdown exit-failure none"},
	{
		.name = "WatchdogAction",
		.kind = QMP_ENUM,
		.members = "reset shutdown poweroff pause debug none inject-nmi",
	},
	{.name = "GuestPanicAction", .kind = QMP_ENUM, .members = "pause poweroff run"},
	{.name = NULL},
};

static const struct qmp_event run_events[] = {
	{.name = "STOP"},
	{.name = "RESUME"},
	{.name = "RESET", .data = "guest:bool reason:ShutdownCause"},
	{.name = "SHUTDOWN", .data = "guest:bool reason:ShutdownCause"},
	{.name = "POWERDOWN"},
	{.name = "GUEST_PANICKED", .data = "action:GuestPanicAction"},
	{.name = "GUEST_CRASHLOADED", .data = "action:GuestPanicAction"},
	{.name = NULL},
};

const struct qmp_module control_run_module = {run_commands, run_types, run_events};

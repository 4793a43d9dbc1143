/* SPDX-License-Identifier: BSD-3-Clause */
/* Options with a small table each, and those that are accepted for compatibility. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/cmdline/internal.h"

#define FIELD(field) PROP_FIELD(struct vm_config, field)
#define TABLE(list)                          \
	{                                    \
		NULL, list, ARRAY_SIZE(list) \
	}

static const struct prop name_list[] = {
	{.name = "guest", .type = PROP_STRING, FIELD(name), .help = "name of the guest"},
	{.name = "process",
	 .type = PROP_STRING,
	 FIELD(process),
	 .help = "name of the process in lists of processes"},
	{.name = "debug-threads",
	 .type = PROP_BOOL,
	 FIELD(debug_threads),
	 .help = "name the threads for debuggers"},
};
const struct props cmdline_name_props = TABLE(name_list);

static const struct prop uuid_list[] = {
	{.name = "uuid",
	 .type = PROP_UUID,
	 FIELD(uuid),
	 PROP_GIVEN(struct vm_config, has_uuid),
	 .help = "UUID"},
};
static const struct props uuid_props = TABLE(uuid_list);

static const char *const reboot_actions[] = {"reset", "shutdown", NULL};
static const char *const shutdown_actions[] = {"poweroff", "pause", NULL};
static const char *const panic_actions[] = {"shutdown", "pause", "exit-failure", "none", NULL};
static const char *const watchdog_actions[] = {"reset", "shutdown", "poweroff",   "pause",
					       "debug", "none",     "inject-nmi", NULL};

static const struct prop action_list[] = {
	{.name = "reboot",
	 .type = PROP_ENUM,
	 FIELD(action.reboot),
	 .names = reboot_actions,
	 .help = "when the guest reboots"},
	{.name = "shutdown",
	 .type = PROP_ENUM,
	 FIELD(action.shutdown),
	 .names = shutdown_actions,
	 .help = "when the guest powers off"},
	{.name = "panic",
	 .type = PROP_ENUM,
	 FIELD(action.panic),
	 .names = panic_actions,
	 .help = "when the guest panics"},
	{.name = "watchdog",
	 .type = PROP_ENUM,
	 FIELD(action.watchdog),
	 .names = watchdog_actions,
	 .help = "recorded; there is no watchdog"},
};
const struct props cmdline_action_props = TABLE(action_list);

/* There is one thing to start, and it is always found: the order and what else is tried are moot. */
static const struct prop boot_list[] = {
	{.name = "order",
	 .type = PROP_STRING,
	 .flags = PROP_EMPTY,
	 .help = "accepted; there is only the kernel"},
	{.name = "once", .type = PROP_STRING, .flags = PROP_EMPTY, .help = "likewise"},
	{.name = "strict", .type = PROP_BOOL, .help = "likewise"},
	{.name = "reboot-timeout",
	 .type = PROP_UINT,
	 .max = UINT32_MAX,
	 .help = "accepted; a start never fails for want of something to start"},
	{.name = "menu",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no firmware to show one",
	 .help = "boot menu"},
	{.name = "splash",
	 .type = PROP_STRING,
	 .refused = "*",
	 .why = "there is no firmware to show it",
	 .help = "picture of the boot menu"},
	{.name = "splash-time",
	 .type = PROP_UINT,
	 .max = UINT32_MAX,
	 .help = "ignored without a menu"},
};
const struct props cmdline_boot_props = TABLE(boot_list);

static const struct prop msg_list[] = {
	{.name = "timestamp",
	 .type = PROP_BOOL,
	 FIELD(msg_timestamp),
	 .help = "put the time in front of messages"},
	{.name = "guest-name",
	 .type = PROP_BOOL,
	 FIELD(msg_guest_name),
	 .help = "and the guest's name"},
};
const struct props cmdline_msg_props = TABLE(msg_list);

static const struct prop overcommit_list[] = {
	{.name = "mem-lock",
	 .type = PROP_BOOL,
	 FIELD(mem_lock),
	 .help = "allocate boot memory, and let nothing be swapped out"},
	{.name = "cpu-pm",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "idle CPUs give the host its CPUs back",
	 .help = "let guests idle on the host's CPUs"},
};
const struct props cmdline_overcommit_props = TABLE(overcommit_list);

/* In the order of false and true: see struct vm_sandbox_config. */
static const char *const sandbox_words[] = {"deny", "allow", NULL};
static const char *const sandbox_elevate_words[] = {"allow", "deny", "children", NULL};

static const struct prop sandbox_list[] = {
	{.name = "enable",
	 .type = PROP_BOOL,
	 FIELD(sandbox.enable),
	 .defval = "off",
	 .help = "filter system calls once the machine is set up"},
	{.name = "obsolete",
	 .type = PROP_ENUM,
	 FIELD(sandbox.obsolete),
	 .names = sandbox_words,
	 .defval = "deny",
	 .help = "calls that no program uses any more"},
	{.name = "elevateprivileges",
	 .type = PROP_ENUM,
	 FIELD(sandbox.elevate),
	 .names = sandbox_elevate_words,
	 .defval = "allow",
	 .help = "becoming another user, taking rights; children: but not for these"},
	{.name = "spawn",
	 .type = PROP_ENUM,
	 FIELD(sandbox.spawn),
	 .names = sandbox_words,
	 .defval = "allow",
	 .help = "starting programs: migrations by exec:"},
	{.name = "resourcecontrol",
	 .type = PROP_ENUM,
	 FIELD(sandbox.resource_control),
	 .names = sandbox_words,
	 .defval = "allow",
	 .help = "setting limits, priorities, processors"},
};
const struct props cmdline_sandbox_props = TABLE(sandbox_list);

static const char *const only_none[] = {"none", NULL};

static const struct prop display_list[] = {
	{.name = "type", .type = PROP_ENUM, .names = only_none, .help = "display"},
};
static const struct props display_props = TABLE(display_list);

static const struct prop audiodev_list[] = {
	{.name = "driver", .type = PROP_ENUM, .names = only_none, .help = "sound"},
	{.name = "id", .type = PROP_ID, .help = "ignored"},
};
static const struct props audiodev_props = TABLE(audiodev_list);

int cmdline_name(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_name_props, option, arg, "guest", cl->config, err);
}

/* Set the one property @key from the whole of @arg. */
static int misc_set(const struct props *table, const char *option, const char *key, const char *arg,
		    struct vm_config *config, struct err **err)
{
	json_t *value = json_stringn_nocheck(arg, strlen(arg));
	int ret;

	if (!value)
		return cmdline_oom(err);
	ret = props_set(table, option, key, value, config, err);
	json_decref(value);
	return ret;
}

int cmdline_uuid(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return misc_set(&uuid_props, option, "uuid", arg, cl->config, err);
}

int cmdline_action(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_action_props, option, arg, NULL, cl->config, err);
}

int cmdline_watchdog_action(struct cmdline *cl, const char *option, const char *arg,
			    struct err **err)
{
	return misc_set(&cmdline_action_props, option, "watchdog", arg, cl->config, err);
}

int cmdline_no_reboot(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->action.reboot = VM_REBOOT_SHUTDOWN;
	return 0;
}

int cmdline_no_shutdown(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->action.shutdown = VM_SHUTDOWN_PAUSE;
	return 0;
}

int cmdline_boot(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_boot_props, option, arg, "order", cl->config, err);
}

int cmdline_msg(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_msg_props, option, arg, NULL, cl->config, err);
}

int cmdline_overcommit(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&cmdline_overcommit_props, option, arg, NULL, cl->config, err);
}

int cmdline_sandbox(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	if (!cl->sandbox_given && props_init(&cmdline_sandbox_props, cl->config) < 0)
		return cmdline_oom(err);
	cl->sandbox_given = true;
	return cmdline_apply(&cmdline_sandbox_props, option, arg, "enable", cl->config, err);
}

int cmdline_display(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return cmdline_apply(&display_props, option, arg, "type", cl->config, err);
}

int cmdline_only_none(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)cl;
	if (!strcmp(arg, "none"))
		return 0;
	return err_set(err, EINVAL, "%s: '%s' is not there; allowed: none", option, arg);
}

int cmdline_audiodev(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, "driver", OPTS_JSON, &values, err);
	if (ret < 0)
		return ret;
	ret = props_apply(&audiodev_props, option, values, cl->config, err);
	json_decref(values);
	return ret;
}

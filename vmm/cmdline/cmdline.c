/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line as a whole: see cmdline.h for the contract and internal.h for the parts. */
#include "vmm/cmdline/cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/memdev.h"

static const struct cmdline_option *option_find(const char *name)
{
	for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++) {
		if (o->name && !strcmp(o->name, name))
			return o;
	}
	return NULL;
}

/* The option that @word spells, with one dash or two; NULL with a sentence. */
static const struct cmdline_option *option_parse(const char *word, struct err **err)
{
	const struct cmdline_option *option;
	const char *name = word;
	const char *reason;

	if (*name != '-') {
		err_set(err, EINVAL,
			"'%s' is not an option; options start with '-', and there are no disk "
			"images",
			word);
		return NULL;
	}
	name += name[1] == '-' ? 2 : 1;
	option = option_find(name);
	if (option)
		return option;
	reason = cmdline_missing_reason(name);
	if (reason)
		err_set(err, ENOTSUP, "-%s: %s", name, reason);
	else
		err_set(err, EINVAL, "%s: there is no such option; `ebb -help` lists all", word);
	return NULL;
}

static int cmdline_read(struct cmdline *cl, int argc, char **argv, struct err **err)
{
	const struct cmdline_option *option;
	char name[32] = "-";
	int ret;

	for (int i = 1; i < argc && !cl->config->output; i++) {
		const char *arg = NULL;

		option = option_parse(argv[i], err);
		if (!option)
			return err ? -err_code(*err) : -EINVAL;
		strncpy(name + 1, option->name, sizeof(name) - 2);
		if (option->arg) {
			if (++i >= argc)
				return err_set(err, EINVAL, "%s: its argument is missing", name);
			arg = argv[i];
		}
		if (!cl->needs_machine && !cmdline_option_is_bare(option->name))
			cl->needs_machine = option->name;
		ret = option->handle(cl, name, arg, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

typedef int cmdline_step(struct cmdline *cl, struct err **err);

/* @steps ends with NULL. */
static int cmdline_take_steps(struct cmdline *cl, cmdline_step *const *steps, struct err **err)
{
	int ret = 0;

	for (size_t i = 0; steps[i] && !ret; i++)
		ret = steps[i](cl, err);
	return ret;
}

/* What the options leave open, and what only all of them together can tell. */
static int cmdline_finish(struct cmdline *cl, struct err **err)
{
	static cmdline_step *const all[] = {
		cmdline_smp_finish,
		cmdline_memory_finish,
		memdevs_finish,
		cmdline_numa_finish,
		cmdline_frontends_defaults,
		cmdline_usb_finish,
		cmdline_devices_finish,
		cmdline_monitors_finish,
		cmdline_chardevs_finish,
		cmdline_process_finish,
		NULL,
	};
	static cmdline_step *const bare[] = {
		cmdline_frontends_defaults,
		cmdline_monitors_finish,
		cmdline_chardevs_finish,
		NULL,
	};
	int ret = cmdline_machine_finish(cl, err);

	if (ret)
		return ret;
	return cmdline_take_steps(cl, cl->config->machine.type == VM_MACHINE_NONE ? bare : all,
				  err);
}

static void cmdline_done(struct cmdline *cl)
{
	cmdline_machine_done(cl);
	free(cl->mem_path);
	free(cl->numa.cpus);
}

int cmdline_parse(int argc, char **argv, struct vm_config **ret_config, struct err **err)
{
	struct cmdline cl = {.config = calloc(1, sizeof(struct vm_config))};
	int ret;

	if (!cl.config)
		return cmdline_oom(err);
	ret = cmdline_machine_init(&cl) || cmdline_cpu_init(&cl) ? cmdline_oom(err) : 0;
	if (!ret)
		ret = cmdline_read(&cl, argc, argv, err);
	if (!ret && !cl.config->output)
		ret = cmdline_finish(&cl, err);
	cmdline_done(&cl);
	if (ret < 0)
		vm_config_free(cl.config);
	else
		*ret_config = cl.config;
	return ret;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* What is started and how: kernel, initial RAM disk, and ebb's own process. See internal.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/num.h"
#include "vmm/cmdline/internal.h"

/* Linux takes no longer command line on x86-64. */
#define APPEND_MAX 2047

int cmdline_kernel(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	return cmdline_set_string(&cl->config->kernel, arg, err);
}

int cmdline_initrd(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	return cmdline_set_string(&cl->config->initrd, arg, err);
}

int cmdline_append(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	if (strlen(arg) > APPEND_MAX)
		return err_set(err, E2BIG,
			       "%s: the kernel's command line is too long; allowed: "
			       "%d bytes",
			       option, APPEND_MAX);
	return cmdline_set_string(&cl->config->append, arg, err);
}

int cmdline_pidfile(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	if (!*arg)
		return err_set(err, EINVAL, "%s: the name of the file is empty", option);
	return cmdline_set_string(&cl->config->pidfile, arg, err);
}

static const struct prop metrics_list[] = {
	{.name = "path",
	 .type = PROP_STRING,
	 .flags = PROP_REQUIRED,
	 PROP_FIELD(struct vm_config, metrics_path),
	 .help = "Unix socket to listen on"},
};
static const struct props metrics_props = {NULL, metrics_list, ARRAY_SIZE(metrics_list)};

int cmdline_metrics(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	int ret = cmdline_apply(&metrics_props, option, arg, "path", cl->config, err);

	if (!ret && strlen(cl->config->metrics_path) > room)
		ret = err_set(err, ENAMETOOLONG,
			      "%s: path= is too long for a socket; allowed: %zu bytes", option,
			      room);
	return ret;
}

int cmdline_incoming(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	static const char *const schemes[] = {"tcp:", "unix:", "fd:", "exec:", "file:"};
	bool known = !strcmp(arg, "defer");

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
		known = known || !strncmp(arg, schemes[i], strlen(schemes[i]));
	if (!known)
		return err_set(err, EINVAL,
			       "%s: '%s' is no place to load a machine from; allowed: "
			       "tcp:HOST:PORT, unix:PATH, fd:N, exec:COMMAND, file:PATH, defer",
			       option, arg);
	return cmdline_set_string(&cl->config->incoming, arg, err);
}

int cmdline_only_migratable(struct cmdline *cl, const char *option, const char *arg,
			    struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->only_migratable = true;
	return 0;
}

int cmdline_paused(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->start_paused = true;
	return 0;
}

int cmdline_daemonize(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->config->daemonize = true;
	return 0;
}

int cmdline_nodefaults(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->nodefaults = true;
	return 0;
}

int cmdline_ignored(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)cl;
	(void)option;
	(void)arg;
	(void)err;
	return 0;
}

int cmdline_process_finish(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	char what[CMDLINE_WHAT_MAX];
	int ret;

	if (!config->kernel)
		return err_set(err, EINVAL,
			       "-kernel: is missing; ebb starts a Linux kernel directly (bzImage "
			       "or ELF vmlinux) and has no firmware to start from disks");
	ret = cmdline_check_file("-kernel", config->kernel, err);
	if (!ret && config->initrd)
		ret = cmdline_check_file("-initrd", config->initrd, err);
	if (!ret && !config->append)
		ret = cmdline_set_string(&config->append, "", err);
	if (!ret && config->incoming && !strncmp(config->incoming, "exec:", 5) &&
	    config->sandbox.enable && !config->sandbox.spawn)
		ret = err_set(err, EPERM,
			      "-incoming: -sandbox spawn=deny lets the machine start no command; "
			      "allowed: tcp:, unix:, fd:, file:, defer");
	for (size_t i = 0; i < config->nr_rngs && !ret; i++) {
		if (config->rngs[i]->filename)
			ret = cmdline_check_file(
				cmdline_what(what, "-object", "rng-random", config->rngs[i]->id),
				config->rngs[i]->filename, err);
	}
	return ret;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ebb: from the command line to a running machine and its end.
 *
 * Exit status: 0 when the guest powered off, or reset under -no-reboot, or the monitor or a signal
 * (SIGINT, SIGTERM, SIGHUP) ended it; 1 for a mistake on the command line, a machine that could
 * not be built or loaded, and a panic under -action panic=exit-failure.
 *
 * Signals: until the main loop runs, a signal that ends the process restores the terminal first;
 * so do at any time those that a fault of the process raises, but for guest memory that the host
 * cannot provide (fault.h). From then on SIGINT, SIGTERM and SIGHUP are events of the loop.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/chardev/term.h"
#include "vmm/cmdline/cmdline.h"
#include "vmm/control/control.h"
#include "vmm/core/fault.h"
#include "vmm/core/loop.h"
#include "vmm/main/callers.h"
#include "vmm/main/daemon.h"
#include "vmm/main/sandbox.h"
#include "vmm/migration/migration.h"
#include "vmm/vm/report.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_ram.h"

struct ebb {
	struct vm_config *config;
	struct loop *loop;
	struct vm *vm;
	struct migration *migration;
	struct control *control;
	int daemon_fd;
	char *pidfile; /* absolute; once it is made */
	uv_signal_t signals[3];
};

static const int ebb_end_signals[] = {SIGINT, SIGTERM, SIGHUP};
static const int ebb_fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT};

/* A signal handler can be given nothing: set once, before the handlers, and never changed. */
static struct chr_term *ebb_terminal;

static void ebb_restore_terminal(void)
{
	chr_term_restore(ebb_terminal);
}

static void ebb_die(int sig)
{
	ebb_restore_terminal();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void ebb_catch(const int *signals, size_t count)
{
	struct sigaction action = {.sa_handler = ebb_die, .sa_flags = (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < count; i++)
		sigaction(signals[i], &action, NULL);
}

static void ebb_on_signal(uv_signal_t *handle, int sig)
{
	struct ebb *ebb = handle->data;

	report(ebb->config, "terminating on signal %d", sig);
	vm_quit(ebb->vm, EXIT_SUCCESS, VM_CAUSE_HOST_SIGNAL);
}

static int ebb_take_signals(struct ebb *ebb, struct err **err)
{
	for (size_t i = 0; i < ARRAY_SIZE(ebb_end_signals); i++) {
		uv_signal_t *handle = &ebb->signals[i];
		int ret = uv_signal_init(loop_uv(ebb->loop), handle);

		handle->data = ebb;
		if (!ret)
			ret = uv_signal_start(handle, ebb_on_signal, ebb_end_signals[i]);
		if (ret)
			return err_set(err, -ret, "cannot watch for signals: %s", uv_strerror(ret));
	}
	return 0;
}

static int ebb_start(struct ebb *ebb, struct err **err)
{
	const struct vm_config *c = ebb->config;
	int ret;

	/* the kernel cuts what is longer than it keeps */
	if (c->process)
		prctl(PR_SET_NAME, c->process);
	if (c->daemonize) {
		ret = daemon_start(&ebb->daemon_fd, err);
		if (ret)
			return ret;
	}
	ebb->loop = loop_new_main(err);
	if (!ebb->loop)
		return -EIO;
	if (c->pidfile) {
		ret = daemon_pidfile(c->pidfile, err);
		if (ret)
			return ret;
		/* In the background the process is in another folder when it ends. */
		ebb->pidfile = realpath(c->pidfile, NULL);
	}
	ebb->vm = vm_new(ebb->config, ebb->loop, err);
	if (!ebb->vm)
		return -EIO;
	ebb->migration = migration_new(ebb->vm, ebb->loop, err);
	if (!ebb->migration)
		return -EIO;
	ebb->control = control_new(ebb->vm, ebb->migration, ebb->loop, err);
	if (!ebb->control)
		return -EIO;
	if (c->mem_lock) {
		ret = c->incoming ? vm_check_lock(err) : vm_lock_memory(ebb->vm, err);
		if (ret)
			return ret;
	}
	/* From here on it hears of the guest, of monitors and of a machine that is loaded. */
	if (c->sandbox.enable) {
		ret = sandbox_enter(&c->sandbox, ebb_restore_terminal, err);
		if (ret)
			return ret;
	}
	ret = vm_start(ebb->vm, err);
	if (!ret && c->incoming)
		ret = migration_incoming(ebb->migration, c->incoming, err);
	/* Before anybody is told that it runs: from then on a signal ends it in an orderly way. */
	if (!ret)
		ret = ebb_take_signals(ebb, err);
	if (!ret && c->daemonize)
		ret = daemon_ready(ebb->daemon_fd, err);
	return ret;
}

static void ebb_end(struct ebb *ebb)
{
	control_free(ebb->control);
	migration_free(ebb->migration);
	vm_free(ebb->vm);
	loop_free(ebb->loop);
	if (ebb->pidfile)
		unlink(ebb->pidfile);
	free(ebb->pidfile);
	vm_config_free(ebb->config);
}

static int ebb_fail(const struct vm_config *config, struct err *err)
{
	report(config, "%s", err_message(err));
	err_free(err);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct ebb ebb = {.daemon_fd = -1};
	struct callers callers;
	struct err *err = NULL;
	int status;

	callers_find(&callers);
	if (cmdline_parse(argc, argv, &ebb.config, &err)) {
		status = ebb_fail(NULL, err);
		callers_wait(&callers);
		return status;
	}
	if (ebb.config->output) {
		fputs(ebb.config->output, stdout);
		vm_config_free(ebb.config);
		return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	signal(SIGPIPE, SIG_IGN);
	/* a file that may not grow is an error of who writes it */
	signal(SIGXFSZ, SIG_IGN);
	ebb_terminal = chr_term_new(STDIN_FILENO, STDOUT_FILENO, true);
	ebb_catch(ebb_fault_signals, ARRAY_SIZE(ebb_fault_signals));
	fault_init();
	ebb_catch(ebb_end_signals, ARRAY_SIZE(ebb_end_signals));
	if (ebb_start(&ebb, &err)) {
		status = ebb_fail(ebb.config, err);
		ebb_end(&ebb);
		callers_wait(&callers);
		return status;
	}
	callers_forget(&callers);
	loop_run(ebb.loop);
	status = vm_exit_status(ebb.vm);
	ebb_end(&ebb);
	chr_term_free(ebb_terminal);
	return status;
}

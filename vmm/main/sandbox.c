/* SPDX-License-Identifier: BSD-3-Clause */
/* Making and installing the filter of system calls: see sandbox.h. */
#include "vmm/main/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/cmdline/config.h"
#include "vmm/main/sandbox_calls.h"

#define CALL_NAME_MAX 32
#define CALLS_MAX     128

struct sandbox_name {
	int number;
	char name[CALL_NAME_MAX];
};

/* What the signal handler needs: a handler can be given nothing. Set before it, and never again. */
static struct {
	struct sandbox_name names[CALLS_MAX]; /* of the calls that end the process */
	size_t nr_names;
	void (*before_end)(void);
} sandbox_forbidden;

/* The making of one filter; the first failure is kept, and nothing is added after it. */
struct sandbox {
	scmp_filter_ctx filter;
	int ret;
	bool programs; /* with what commands of migrations need */
};

static void sandbox_write(const char *text)
{
	ssize_t n = write(STDERR_FILENO, text, strlen(text));

	(void)n; /* nobody is left who could be told */
}

/* The call was not carried out. The signal comes again, without a handler, when this one is done. */
static void sandbox_on_forbidden(int sig, siginfo_t *info, void *context)
{
	const char *name = "of a kind that the kernel numbers differently";

	(void)context;
	if (info->si_arch == seccomp_arch_native())
		name = "without a name";
	for (size_t i = 0; i < sandbox_forbidden.nr_names; i++) {
		if (info->si_arch == seccomp_arch_native() &&
		    sandbox_forbidden.names[i].number == info->si_syscall)
			name = sandbox_forbidden.names[i].name;
	}
	if (sandbox_forbidden.before_end)
		sandbox_forbidden.before_end();
	sandbox_write("ebb: -sandbox: a forbidden system call, ");
	sandbox_write(name);
	sandbox_write(": the process ends\n");
	raise(sig);
}

/* -1 where neither the library nor the list knows it. @name is without the number. */
static int sandbox_number(const char *entry, char name[CALL_NAME_MAX])
{
	const char *colon = strchr(entry, ':');
	int number;

	snprintf(name, CALL_NAME_MAX, "%.*s", (int)strcspn(entry, ":"), entry);
	number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR && colon)
		number = atoi(colon + 1);
	return number < 0 ? -1 : number;
}

/* Add a rule unless something failed before; one that is there already is as good as a new one. */
static void sandbox_rule(struct sandbox *s, uint32_t action, int number, unsigned int nr_when,
			 const struct scmp_arg_cmp *when)
{
	int ret;

	if (s->ret || number < 0)
		return;
	ret = seccomp_rule_add_array(s->filter, action, number, nr_when, when);
	if (ret != -EEXIST)
		s->ret = ret;
}

static void sandbox_answer(struct sandbox *s, uint32_t action, const char *const *calls)
{
	char name[CALL_NAME_MAX];

	for (; *calls; calls++)
		sandbox_rule(s, action, sandbox_number(*calls, name), 0, NULL);
}

static bool sandbox_is_in(const char *name, const char *const *calls)
{
	while (*calls && strcmp(*calls, name) != 0)
		calls++;
	return *calls != NULL;
}

/* End the process at a call of this name with arguments as @when says. */
static void sandbox_forbid_call(struct sandbox *s, const char *entry, unsigned int nr_when,
				const struct scmp_arg_cmp *when)
{
	struct sandbox_name *to = &sandbox_forbidden.names[sandbox_forbidden.nr_names];

	if (s->ret || sandbox_is_in(entry, sandbox_calls_sanitizer))
		return;
	if (sandbox_forbidden.nr_names == CALLS_MAX) {
		s->ret = -E2BIG;
		return;
	}
	to->number = sandbox_number(entry, to->name);
	if (to->number < 0)
		return;
	sandbox_forbidden.nr_names++;
	sandbox_rule(s, SCMP_ACT_TRAP, to->number, nr_when, when);
}

/* Let a class of calls through, or end the process at them. */
static void sandbox_class(struct sandbox *s, bool allowed, const char *const *calls)
{
	if (allowed) {
		sandbox_answer(s, SCMP_ACT_ALLOW, calls);
		return;
	}
	for (; *calls; calls++)
		sandbox_forbid_call(s, *calls, 0, NULL);
}

/* Is every argument of @call let through? */
static bool sandbox_takes_all(const struct sandbox *s, const char *call)
{
	return sandbox_is_in(call, sandbox_calls_sanitizer) ||
	       (s->programs && sandbox_is_in(call, sandbox_calls_program_args));
}

static void sandbox_argument(struct sandbox *s, const struct sandbox_rule *rule)
{
	struct scmp_arg_cmp when = SCMP_CMP(rule->arg, SCMP_CMP_MASKED_EQ, rule->mask, rule->value);

	if (!sandbox_takes_all(s, rule->call))
		sandbox_rule(s, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(rule->call), 1, &when);
}

static void sandbox_sockets_of(struct sandbox *s)
{
	const uint32_t type_bits = ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sandbox_takes_all(s, "socket"))
		return;
	for (unsigned int i = 0; i < sandbox_nr_sockets; i++) {
		const struct sandbox_socket *sock = &sandbox_sockets[i];
		struct scmp_arg_cmp when[] = {
			SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)sock->family),
			SCMP_A1(SCMP_CMP_MASKED_EQ, type_bits, (uint32_t)sock->type),
			SCMP_A2(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)sock->protocol),
		};

		sandbox_rule(s, SCMP_ACT_ALLOW, SCMP_SYS(socket),
			     sock->protocol == SANDBOX_ANY ? 2 : 3, when);
	}
}

/* Signals go to this process alone, and the handler of forbidden calls stays. */
static void sandbox_signals(struct sandbox *s)
{
	struct scmp_arg_cmp own = SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)getpid());
	struct scmp_arg_cmp before = SCMP_A0(SCMP_CMP_LT, SIGSYS);

	if (!sandbox_takes_all(s, "tgkill"))
		sandbox_rule(s, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own);
	if (!sandbox_takes_all(s, "rt_sigaction"))
		sandbox_rule(s, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1, &before);
}

/* What the words of the option say. */
static void sandbox_classes(struct sandbox *s, const struct vm_sandbox_config *config)
{
	struct scmp_arg_cmp process = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0);
	struct scmp_arg_cmp sets = SCMP_A2(SCMP_CMP_NE, 0);

	sandbox_class(s, config->obsolete, sandbox_calls_obsolete);
	sandbox_class(s, config->elevate != VM_SANDBOX_ELEVATE_DENY, sandbox_calls_elevate);
	sandbox_class(s, config->spawn, sandbox_calls_spawn);
	sandbox_class(s, config->resource_control, sandbox_calls_resource);
	sandbox_argument(s, config->spawn ? &sandbox_rule_process : &sandbox_rule_thread);
	if (!config->spawn)
		sandbox_forbid_call(s, "clone", 1, &process);
	if (config->resource_control)
		sandbox_rule(s, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 0, NULL);
	else
		sandbox_forbid_call(s, "prlimit64", 1, &sets);
}

static void sandbox_fill(struct sandbox *s, const struct vm_sandbox_config *config)
{
	sandbox_answer(s, SCMP_ACT_ALLOW, sandbox_calls_own);
	sandbox_answer(s, SCMP_ACT_ALLOW, sandbox_calls_sanitizer);
	sandbox_answer(s, SCMP_ACT_ERRNO(ENOSYS), sandbox_calls_absent);
	sandbox_class(s, false, sandbox_calls_never);
	sandbox_classes(s, config);
	for (const struct sandbox_rule *rule = sandbox_rules; rule->call; rule++)
		sandbox_argument(s, rule);
	sandbox_sockets_of(s);
	sandbox_signals(s);
	if (s->programs) {
		sandbox_answer(s, SCMP_ACT_ALLOW, sandbox_calls_programs);
		sandbox_answer(s, SCMP_ACT_ALLOW, sandbox_calls_program_args);
	}
}

/*
 * Without "no new privileges" only the host's administrator may install a filter: who is none gets
 * it whatever the option says, else commands keep what set-user-id programs give them.
 */
static int sandbox_load(struct sandbox *s, const struct vm_sandbox_config *config)
{
	bool keep = config->elevate == VM_SANDBOX_ELEVATE_ALLOW;
	int ret;

	ret = seccomp_attr_set(s->filter, SCMP_FLTATR_CTL_NNP, keep ? 0 : 1);
	if (!ret)
		ret = seccomp_load(s->filter);
	if (ret == -EACCES && keep) {
		ret = seccomp_attr_set(s->filter, SCMP_FLTATR_CTL_NNP, 1);
		if (!ret)
			ret = seccomp_load(s->filter);
	}
	return ret;
}

static int sandbox_catch(void (*before_end)(void))
{
	struct sigaction action = {.sa_sigaction = sandbox_on_forbidden,
				   .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};

	sandbox_forbidden.before_end = before_end;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) ? -errno : 0;
}

int sandbox_enter(const struct vm_sandbox_config *config, void (*before_end)(void),
		  struct err **err)
{
	struct sandbox s = {.programs = config->spawn};

	s.filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!s.filter)
		return err_set(err, ENOMEM, "out of memory");
	sandbox_forbidden.nr_names = 0;
	s.ret = seccomp_attr_set(s.filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!s.ret)
		s.ret = seccomp_attr_set(s.filter, SCMP_FLTATR_CTL_LOG, 1);
	if (!s.ret)
		s.ret = seccomp_attr_set(s.filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!s.ret)
		s.ret = seccomp_attr_set(s.filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (!s.ret)
		s.ret = seccomp_attr_set(s.filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP);
	sandbox_fill(&s, config);
	if (!s.ret)
		s.ret = sandbox_catch(before_end);
	if (!s.ret)
		s.ret = sandbox_load(&s, config);
	seccomp_release(s.filter);
	if (s.ret)
		return err_set(err, -s.ret, "-sandbox on: cannot filter system calls: %s",
			       strerror(-s.ret));
	return 0;
}

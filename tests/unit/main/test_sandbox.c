/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The filter of system calls: each case is a child of its own that shuts itself in and makes one
 * call. What it came to is seen from outside: its exit status or signal, and its last words.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/cmdline/config.h"
#include "vmm/main/sandbox.h"

#define STATUS_NOT_SHUT_IN 125
#define UNKNOWN_IOCTL      0x1234

static const struct vm_sandbox_config tight = {.enable = true, .elevate = VM_SANDBOX_ELEVATE_DENY};
static const struct vm_sandbox_config wide = {
	.enable = true,
	.obsolete = true,
	.elevate = VM_SANDBOX_ELEVATE_ALLOW,
	.spawn = true,
	.resource_control = true,
};

/* What became of a child. */
struct outcome {
	int status;
	char words[256];
};

/* @run gives the child's exit status: 0, or the errno of its call. */
static struct outcome child_run(const struct vm_sandbox_config *config, int (*run)(void))
{
	struct outcome outcome = {.words = ""};
	struct err *err = NULL;
	size_t len = 0;
	ssize_t n;
	int pipes[2];
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		static const struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		dup2(pipes[1], STDERR_FILENO);
		if (sandbox_enter(config, NULL, &err)) {
			dprintf(STDERR_FILENO, "%s", err_message(err));
			_exit(STATUS_NOT_SHUT_IN);
		}
		_exit(run());
	}
	close(pipes[1]);
	while ((n = read(pipes[0], outcome.words + len, sizeof(outcome.words) - 1 - len)) > 0)
		len += (size_t)n;
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &outcome.status, 0), pid);
	return outcome;
}

static int result(long ret)
{
	return ret < 0 ? errno : 0;
}

static void expect(const struct vm_sandbox_config *config, int (*run)(void), int status)
{
	struct outcome outcome = child_run(config, run);

	if (!WIFEXITED(outcome.status) || WEXITSTATUS(outcome.status) != status)
		fail_msg("status %#x instead of %d; %s", outcome.status, status, outcome.words);
}

static void expect_end(const struct vm_sandbox_config *config, int (*run)(void), const char *name)
{
	struct outcome outcome = child_run(config, run);
	char words[128];

	snprintf(words, sizeof(words),
		 "ebb: -sandbox: a forbidden system call, %s: the process ends\n", name);
	assert_string_equal(outcome.words, words);
	assert_true(WIFSIGNALED(outcome.status));
	assert_int_equal(WTERMSIG(outcome.status), SIGSYS);
}

#define CALL(name, ...)                                    \
	static int name(void)                              \
	{                                                  \
		return result(syscall(SYS_##__VA_ARGS__)); \
	}

/* Nobody does these. */
#ifndef SANITIZED /* those use it at their end */
CALL(do_ptrace, ptrace, 0, 0, 0, 0)
#endif
CALL(do_mount, mount, "a", "/", "tmpfs", 0, NULL)
CALL(do_unshare, unshare, 0)
CALL(do_setns, setns, -1, 0)
CALL(do_chroot, chroot, "/")
CALL(do_bpf, bpf, 0, NULL, 0)
CALL(do_kexec, kexec_load, 0, 0, NULL, 0)
CALL(do_module, finit_module, -1, "", 0)
CALL(do_perf, perf_event_open, NULL, 0, -1, -1, 0)
CALL(do_keyctl, keyctl, 0, 0)
CALL(do_personality, personality, 0xffffffff)
CALL(do_process_read, process_vm_readv, 1, NULL, 0, NULL, 0, 0)
/* The classes. */
CALL(do_sysfs, sysfs, 3)
CALL(do_setuid, setuid, 0)
CALL(do_setgroups, setgroups, 0, NULL)
CALL(do_execve, execve, "/nowhere", NULL, NULL)
CALL(do_setpriority, setpriority, PRIO_PROCESS, 0, 0)
CALL(do_affinity, sched_setaffinity, 0, 0, NULL)
/* Some that have another way. */
CALL(do_clone3, clone3, NULL, 0)
CALL(do_uring, io_uring_setup, 0, NULL)
/* On no list. */
CALL(do_chown, chown, "/nowhere", 0, 0)
CALL(do_kill, kill, 1, 0)
CALL(do_move_pages, move_pages, 0, 0, NULL, NULL, NULL, 0)

static int do_fork(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(0);
	return pid < 0 || waitpid(pid, &status, 0) != pid ? errno : status;
}

static int do_set_limit(void)
{
	struct rlimit now;

	if (getrlimit(RLIMIT_NOFILE, &now))
		return errno;
	return result(setrlimit(RLIMIT_NOFILE, &now));
}

static int do_get_limit(void)
{
	struct rlimit now;

	return result(getrlimit(RLIMIT_NOFILE, &now));
}

static int do_map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			       MAP_FAILED
		       ? errno
		       : 0;
}

static int do_make_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return errno;
	return result(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static int do_packet_socket(void)
{
	return result(socket(AF_PACKET, SOCK_DGRAM, 0));
}

static int do_raw_socket(void)
{
	return result(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

/* Protocols beside those that are used: the kernel would load a module for whoever asks. */
static int do_other_stream(void)
{
	return result(socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP));
}

static int do_other_datagrams(void)
{
	return result(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE));
}

static int do_tcp_socket(void)
{
	return result(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
}

static int do_type_into_terminal(void)
{
	return result(ioctl(STDIN_FILENO, TIOCSTI, "x"));
}

static int do_other_ioctl(void)
{
	return result(ioctl(STDIN_FILENO, UNKNOWN_IOCTL, 0));
}

/* Whoever owns a descriptor gets its signals; which one that is may be chosen. */
static int do_set_owner(void)
{
	return result(fcntl(STDERR_FILENO, F_SETOWN, getppid()));
}

static int do_set_signal(void)
{
	return result(fcntl(STDERR_FILENO, F_SETSIG, SIGKILL));
}

static int do_set_flags(void)
{
	return result(fcntl(STDERR_FILENO, F_SETFL, fcntl(STDERR_FILENO, F_GETFL)));
}

/* A machine cannot be made any more, but one that is there can run: the descriptor is what is bad. */
static int do_create_vm(void)
{
	return result(ioctl(-1, KVM_CREATE_VM, 0));
}

static int do_run_vcpu(void)
{
	return result(ioctl(-1, KVM_RUN, 0));
}

#ifndef SANITIZED
static int do_not_dumpable(void)
{
	return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}
#endif

static int do_other_handler(void)
{
	return signal(SIGSYS, SIG_IGN) == SIG_ERR ? errno : 0;
}

static int do_thread_name(void)
{
	return result(prctl(PR_SET_NAME, "x", 0, 0, 0));
}

static int do_look_up(void)
{
	struct addrinfo hints = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int ret = getaddrinfo("localhost", "1", &hints, &list);

	if (list)
		freeaddrinfo(list);
	return ret ? 100 : 0;
}

static void *thread_end(void *arg)
{
	return arg;
}

static int do_thread(void)
{
	pthread_t thread;
	void *value = NULL;
	int ret = pthread_create(&thread, NULL, thread_end, &value);

	return ret ? ret : pthread_join(thread, &value);
}

static int do_command(void)
{
	int status = system("true | cat; ls / >/dev/null");

	return status == -1 ? errno : status;
}

static int do_no_new_privileges(void)
{
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

#undef CALL

static void test_never(void **state)
{
	static const struct {
		int (*run)(void);
		const char *name;
	} cases[] = {
		{do_mount, "mount"},
		{do_unshare, "unshare"},
		{do_setns, "setns"},
		{do_chroot, "chroot"},
		{do_bpf, "bpf"},
		{do_kexec, "kexec_load"},
		{do_module, "finit_module"},
		{do_perf, "perf_event_open"},
		{do_keyctl, "keyctl"},
		{do_personality, "personality"},
		{do_process_read, "process_vm_readv"},
#ifndef SANITIZED
		{do_ptrace, "ptrace"},
#endif
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		expect_end(&tight, cases[i].run, cases[i].name);
		expect_end(&wide, cases[i].run, cases[i].name);
	}
}

/* What each word denies, and that it alone does. */
static void test_classes(void **state)
{
	struct vm_sandbox_config config = wide;

	(void)state;
	expect(&wide, do_setuid, geteuid() ? EPERM : 0);
	expect(&wide, do_execve, ENOENT);
	expect(&wide, do_fork, 0);
	expect(&wide, do_setpriority, 0);
	expect(&wide, do_affinity, EINVAL);
	expect(&wide, do_set_limit, 0);
	config.obsolete = false;
	expect_end(&config, do_sysfs, "sysfs");
	expect(&config, do_fork, 0);
	config = wide;
	config.elevate = VM_SANDBOX_ELEVATE_DENY;
	expect_end(&config, do_setuid, "setuid");
	expect_end(&config, do_setgroups, "setgroups");
	expect(&config, do_fork, 0);
	config = wide;
	config.resource_control = false;
	expect_end(&config, do_setpriority, "setpriority");
	expect_end(&config, do_affinity, "sched_setaffinity");
	expect_end(&config, do_set_limit, "prlimit64");
	expect(&config, do_get_limit, 0);
	config = wide;
	config.spawn = false;
	expect_end(&config, do_execve, "execve");
#ifndef SANITIZED
	expect_end(&config, do_fork, "clone");
#endif
	expect(&config, do_setpriority, 0);
}

static void test_new_privileges(void **state)
{
	struct vm_sandbox_config config = wide;
	bool administrator = geteuid() == 0;

	(void)state;
	expect(&config, do_no_new_privileges, administrator ? 0 : 1);
	config.elevate = VM_SANDBOX_ELEVATE_CHILDREN;
	expect(&config, do_no_new_privileges, 1);
	expect(&config, do_setuid, administrator ? 0 : EPERM);
	expect(&tight, do_get_limit, 0);
}

static void test_on_no_list(void **state)
{
	(void)state;
	expect(&tight, do_chown, EPERM);
	expect(&tight, do_kill, EPERM);
	expect(&tight, do_move_pages, EPERM);
	expect(&tight, do_clone3, ENOSYS);
	expect(&tight, do_uring, ENOSYS);
}

static void test_arguments(void **state)
{
	(void)state;
	expect(&tight, do_map_code, EPERM);
	expect(&tight, do_make_code, EPERM);
	expect(&tight, do_packet_socket, EPERM);
	expect(&tight, do_raw_socket, EPERM);
	expect(&tight, do_other_stream, EPERM);
	expect(&tight, do_other_datagrams, EPERM);
	expect(&tight, do_tcp_socket, 0);
	expect(&tight, do_set_owner, EPERM);
	expect(&tight, do_set_signal, EPERM);
	expect(&tight, do_set_flags, 0);
	expect(&wide, do_set_owner, 0);
	expect(&tight, do_type_into_terminal, EPERM);
	expect(&tight, do_other_ioctl, EPERM);
	expect(&tight, do_create_vm, EPERM);
	expect(&tight, do_run_vcpu, EBADF);
	expect(&tight, do_other_handler, EPERM);
#ifndef SANITIZED
	expect(&tight, do_not_dumpable, EPERM);
#endif
}

static void test_what_is_needed(void **state)
{
	(void)state;
	expect(&tight, do_thread, 0);
	expect(&tight, do_thread_name, 0);
	expect(&tight, do_look_up, 0);
	expect(&wide, do_command, 0);
}

/* ---- threads that were there before ---- */

static int start_fds[2];

static void *thread_mount(void *arg)
{
	char go;

	if (read(start_fds[0], &go, 1) == 1)
		do_mount();
	return arg;
}

/* One that blocks all signals but the one that ends it, as those of vCPUs do. */
static pthread_t thread_start_early(void)
{
	sigset_t all, before;
	pthread_t thread;

	assert_int_equal(pipe2(start_fds, O_CLOEXEC), 0);
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	assert_int_equal(pthread_create(&thread, NULL, thread_mount, NULL), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return thread;
}

static int do_in_early_thread(void)
{
	struct vm_sandbox_config config = tight;
	struct err *err = NULL;
	pthread_t thread = thread_start_early();

	if (sandbox_enter(&config, NULL, &err))
		return STATUS_NOT_SHUT_IN;
	if (write(start_fds[1], "g", 1) != 1)
		return errno;
	pthread_join(thread, NULL);
	return 0;
}

static void test_threads(void **state)
{
	struct outcome outcome;
	int pipes[2], status;
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(pipes[1], STDERR_FILENO);
		_exit(do_in_early_thread());
	}
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	n = read(pipes[0], outcome.words, sizeof(outcome.words) - 1);
	close(pipes[0]);
	assert_true(n > 0);
	outcome.words[n] = '\0';
	assert_non_null(strstr(outcome.words, "a forbidden system call, mount:"));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never),          cmocka_unit_test(test_classes),
		cmocka_unit_test(test_new_privileges), cmocka_unit_test(test_on_no_list),
		cmocka_unit_test(test_arguments),      cmocka_unit_test(test_what_is_needed),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

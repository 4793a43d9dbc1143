/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands at the other end of a channel: see channel.h, I4.
 *
 * They are started without a copy of the address space (posix_spawn): copying it would
 * write-protect all of the guest's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel_internal.h"

#define CHANNEL_PIPE_BYTES (1 << 20)

extern char **environ;

/* @ends: the pipe's, the one to read from first. 0 or a positive errno value, as posix_spawn(). */
static int channel_command_spawn(struct channel_command *command, const char *text,
				 bool writes_to_it, const int ends[2])
{
	char *argv[] = {"sh", "-c", (char *)(uintptr_t)text, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t signals;
	int ret;

	if (posix_spawn_file_actions_init(&actions))
		return ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&actions);
		return ENOMEM;
	}
	if (writes_to_it) {
		/* what it says is for people: standard output may be a monitor, or the guest's */
		ret = posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO) ||
		      posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	} else {
		ret = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
						       O_RDONLY, 0) ||
		      posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	}
	ret = ret || posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1) ||
	      posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	sigemptyset(&signals);
	posix_spawnattr_setsigmask(&attr, &signals);
	sigaddset(&signals, SIGPIPE);
	sigaddset(&signals, SIGXFSZ);
	posix_spawnattr_setsigdefault(&attr, &signals);
	ret = ret ? ENOMEM : posix_spawn(&command->pid, "/bin/sh", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

int channel_command_start(struct channel_command *command, const char *name, const char *text,
			  bool writes_to_it, int *ret_fd, struct err **err)
{
	int ends[2], ret;

	*command = (struct channel_command){.pidfd = -1};
	if (pipe2(ends, O_CLOEXEC))
		return err_set(err, errno, "%s: cannot make a pipe: %s", name, strerror(errno));
	ret = channel_command_spawn(command, text, writes_to_it, ends);
	close(ends[writes_to_it ? 0 : 1]);
	*ret_fd = ends[writes_to_it ? 1 : 0];
	if (!ret) {
		command->pidfd = (int)syscall(SYS_pidfd_open, command->pid, 0);
		ret = command->pidfd < 0 ? errno : 0;
		if (ret)
			channel_command_done(command);
	} else {
		command->pid = 0;
	}
	if (ret) {
		close(*ret_fd);
		return err_set(err, ret, "%s: cannot run /bin/sh: %s", name, strerror(ret));
	}
	/* fewer turns for each; a limit of the host's may say no */
	fcntl(*ret_fd, F_SETPIPE_SZ, CHANNEL_PIPE_BYTES);
	fcntl(*ret_fd, F_SETFL, fcntl(*ret_fd, F_GETFL) | O_NONBLOCK);
	return 0;
}

/* It has ended, or will without fail. */
static void channel_command_reap(struct channel_command *command)
{
	siginfo_t info = {.si_code = 0};
	int ret;

	do {
		ret = waitid(P_PID, (id_t)command->pid, &info, WEXITED);
	} while (ret && errno == EINTR);
	command->ended = !ret;
	command->si_code = info.si_code;
	command->status = info.si_status;
	command->pid = 0;
	close(command->pidfd);
	command->pidfd = -1;
}

int channel_command_wait(struct channel_command *command, const struct cancel *cancel,
			 int64_t deadline_ms)
{
	int ret = cancel_poll(cancel, command->pidfd, POLLIN, deadline_ms);

	if (!ret)
		channel_command_reap(command);
	return ret;
}

void channel_command_tell(const struct channel_command *command, char *buf, size_t size)
{
	if (command->si_code == CLD_EXITED)
		snprintf(buf, size, "ended with status %d", command->status);
	else
		snprintf(buf, size, "was ended by signal %d (%s)", command->status,
			 sigabbrev_np(command->status) ? sigabbrev_np(command->status) : "?");
}

void channel_command_done(struct channel_command *command)
{
	if (!command->pid)
		return;
	/* it is its group's leader, and not waited for yet: the number is no other's */
	kill(-command->pid, SIGKILL);
	if (command->pidfd >= 0) {
		channel_command_reap(command);
	} else {
		while (waitpid(command->pid, NULL, 0) < 0 && errno == EINTR)
			;
		command->pid = 0;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Raw terminals: see terminal.h for the contract. */
#include "ebbctl/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"

struct terminal {
	struct termios saved;
	sigset_t before;
	int signals;
};

static int terminal_raw(struct terminal *term, bool all)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &term->saved))
		return -errno;
	raw = term->saved;
	raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INPCK | ISTRIP | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
	if (all)
		raw.c_oflag &= ~(tcflag_t)OPOST;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) ? -errno : 0;
}

int terminal_open(bool all, struct terminal **ret_term, struct err **err)
{
	struct terminal *term = calloc(1, sizeof(*term));
	sigset_t set;
	int ret;

	if (!term)
		return err_set(err, ENOMEM, "out of memory");
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &term->before);
	term->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	ret = term->signals < 0 ? -errno : terminal_raw(term, all);
	if (ret) {
		if (term->signals >= 0)
			close(term->signals);
		sigprocmask(SIG_SETMASK, &term->before, NULL);
		free(term);
		return err_set(err, -ret, "the terminal cannot be set up: %s", strerror(-ret));
	}
	*ret_term = term;
	return 0;
}

void terminal_close(struct terminal *term)
{
	struct signalfd_siginfo info;

	if (!term)
		return;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &term->saved);
	/* The signal has had its effect. */
	while (read(term->signals, &info, sizeof(info)) == sizeof(info))
		;
	close(term->signals);
	sigprocmask(SIG_SETMASK, &term->before, NULL);
	free(term);
}

int terminal_signal_fd(const struct terminal *term)
{
	return term->signals;
}

size_t terminal_columns(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}

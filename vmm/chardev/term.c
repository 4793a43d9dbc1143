/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The terminal: see term.h for the contract.
 *
 * Everything that chr_term_restore() reads is written before raw mode is entered for the first
 * time, so a signal handler finds it complete.
 */
#include "vmm/chardev/term.h"

#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

struct chr_term {
	int fd, out_fd;
	bool is_tty;
	bool signal;
	struct termios found;
	int flags, out_flags;         /* as found; -1 unknown */
	int our_flags, our_out_flags; /* while we use them */
};

struct chr_term *chr_term_new(int fd, int out_fd, bool signal)
{
	struct chr_term *term = calloc(1, sizeof(*term));

	if (!term)
		return NULL;
	term->fd = fd;
	term->out_fd = out_fd;
	term->signal = signal;
	term->flags = fcntl(fd, F_GETFL);
	term->out_flags = fcntl(out_fd, F_GETFL);
	term->our_flags = term->flags;
	term->our_out_flags = term->out_flags;
	term->is_tty = !tcgetattr(fd, &term->found);
	return term;
}

void chr_term_keep_flags(struct chr_term *term)
{
	term->our_flags = fcntl(term->fd, F_GETFL);
	term->our_out_flags = fcntl(term->out_fd, F_GETFL);
}

static void chr_term_set_flags(int fd, int flags)
{
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags);
}

void chr_term_free(struct chr_term *term)
{
	chr_term_restore(term);
	free(term);
}

/* A descriptor that is no controlling terminal has no foreground group; nobody else wants it. */
bool chr_term_foreground(const struct chr_term *term)
{
	pid_t group;

	if (!term->is_tty)
		return true;
	group = tcgetpgrp(term->fd);
	return group < 0 || group == getpgrp();
}

bool chr_term_raw(struct chr_term *term)
{
	struct termios raw = term->found;

	if (!chr_term_foreground(term))
		return false;
	chr_term_set_flags(term->fd, term->our_flags);
	chr_term_set_flags(term->out_fd, term->our_out_flags);
	if (!term->is_tty)
		return true;
	/* Input as typed, 8 bits; output is still processed, so that "\n" starts a new line. */
	raw.c_iflag &=
		~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_oflag |= OPOST;
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
	if (!term->signal)
		raw.c_lflag &= ~(tcflag_t)ISIG;
	raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
	raw.c_cflag |= CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	return !tcsetattr(term->fd, TCSANOW, &raw);
}

void chr_term_restore(const struct chr_term *term)
{
	if (!term)
		return;
	if (term->is_tty && chr_term_foreground(term))
		tcsetattr(term->fd, TCSANOW, &term->found);
	chr_term_set_flags(term->fd, term->flags);
	chr_term_set_flags(term->out_fd, term->out_flags);
}

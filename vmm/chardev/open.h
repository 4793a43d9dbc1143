/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening what a chardev's configuration names. Messages begin with the chardev's id.
 *
 * Threads: the main loop's.
 */
#ifndef VMM_CHARDEV_OPEN_H
#define VMM_CHARDEV_OPEN_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "vmm/chardev/chardev.h"

/*
 * Standard input and output under descriptors of their own, ready for a stream. What cannot be
 * opened anew is duplicated and made non-blocking itself, which @term (made before) takes back.
 */
int chr_open_stdio(const char *id, int *ret_in, int *ret_out, struct err **err);
int chr_open_file(const struct chr_config *config, int *ret_fd, struct err **err);
/* *ret_watch: an inotify descriptor that tells of opens and closes of the slave. */
int chr_open_pty(const char *id, int *ret_master, char **ret_path, int *ret_watch,
		 struct err **err);

/* The address of a socket chardev, and its listening socket. */
struct chr_socket {
	struct sockaddr_storage addr;
	socklen_t addr_size;
	bool server, nodelay;
	int fd;       /* listening, or the first connection; -1 */
	char *unlink; /* path to remove at the end */
	dev_t dev;    /* and what it must still be */
	ino_t ino;
	char *name; /* "unix:PATH,server=on" */
};

/*
 * Listen, or connect (waits). A client that will try again later (@config->reconnect_s) may fail
 * to connect: fd is -1 then. Takes config->fd.
 */
int chr_socket_open(struct chr_socket *sock, const struct chr_config *config, struct err **err);
/* The next connection; -EAGAIN when there is none. */
int chr_socket_accept(const struct chr_socket *sock);
/* A connection that may still be in progress (non-blocking: wait for POLLOUT), or -errno. */
int chr_socket_connect(const struct chr_socket *sock);
/* Wait until somebody connects. -EINTR after a signal. */
int chr_socket_wait(const struct chr_socket *sock);
void chr_socket_done(struct chr_socket *sock);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the channel share: channel.c moves bytes, channel_open.c makes channels of
 * addresses, channel_listen.c waits for clients, channel_socket.c and channel_lookup.c know
 * sockets, channel_exec.c knows commands. The contract is in channel.h.
 */
#ifndef VMM_MIGRATION_CHANNEL_INTERNAL_H
#define VMM_MIGRATION_CHANNEL_INTERNAL_H

#include <netdb.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "vmm/migration/channel.h"

enum channel_kind {
	CHANNEL_SOCKET,
	CHANNEL_STREAM, /* pipes, terminals and the like */
	CHANNEL_FILE,   /* seekable */
};

/* A shell's, while it runs. */
struct channel_command {
	pid_t pid;   /* 0: none, or it has ended and was waited for */
	int pidfd;   /* -1: none */
	bool ended;  /* @status is known */
	int si_code; /* of siginfo_t: CLD_EXITED ... */
	int status;
};

struct channel {
	char *name;
	enum channel_kind kind;
	bool tcp;
	bool named_pipe; /* that nobody writes to yet is not its end */
	bool by_path;    /* a file by its path: its folder is flushed, too */
	int fd;
	int flags_before; /* status flags to put back; -1: none */
	const struct cancel *cancel;
	atomic_int dead_ms; /* tcp */
	uint64_t base;      /* seekable: see channel.h */
	uint64_t position;
	struct channel_command command;
	atomic_uint_fast64_t bytes_read, bytes_written;
	/* what channel_peek() has taken; its reader's */
	uint8_t first[CHANNEL_FIRST_MAX];
	size_t first_size, first_at;
};

/* ---- channel.c ---- */

/*
 * A channel of @kind on @fd, which is the channel's then; @fd is closed when it fails. NULL when
 * memory is out.
 */
struct channel *channel_new(const char *name, enum channel_kind kind, int fd,
			    const struct cancel *cancel);

/* ---- channel_exec.c ---- */

/* Start @command with a pipe to its input, or from its output. */
int channel_command_start(struct channel_command *command, const char *name, const char *text,
			  bool writes_to_it, int *ret_fd, struct err **err);
/* Wait until it has ended; then its state is known. As cancel_poll(). */
int channel_command_wait(struct channel_command *command, const struct cancel *cancel,
			 int64_t deadline_ms);
/* "ended with status 1"; only when @ended. */
void channel_command_tell(const struct channel_command *command, char *buf, size_t size);
/* Kills it where it has not ended. */
void channel_command_done(struct channel_command *command);

/* ---- channel_lookup.c ---- */

/*
 * getaddrinfo() for a stream, given up when @cancel is raised (NULL: never): 0, -ECANCELED, or a
 * sentence.
 */
int channel_lookup(const struct address *address, bool passive, const struct cancel *cancel,
		   struct addrinfo **ret_list, struct err **err);

/* ---- channel_socket.c ---- */

/* A socket that is connected. */
int channel_socket_connect(const struct address *address, const struct cancel *cancel, int *ret_fd,
			   struct err **err);
/* Quick, and noticing a dead network: of a TCP socket. */
void channel_socket_tune(int fd, int dead_ms);
/* Has nothing that was sent been confirmed for @dead_ms? */
bool channel_socket_dead(int fd, int dead_ms);
bool channel_socket_is_tcp(int fd);

#define CHANNEL_SOCKETS_MAX 16u

/* Sockets that listen; those that were made are non-blocking. */
struct channel_sockets {
	int fds[CHANNEL_SOCKETS_MAX];
	size_t nr;
	char *path; /* of a UNIX socket that was made, to be removed where it is still this one */
	dev_t dev;
	ino_t ino;
};

int channel_sockets_listen(struct channel_sockets *sockets, const struct address *address,
			   struct err **err);
void channel_sockets_done(struct channel_sockets *sockets);

/* ---- channel_open.c ---- */

/* A channel of an address that is no socket to connect to, or to listen on. */
int channel_open(struct address *address, bool to_write, const struct cancel *cancel,
		 struct channel **ret_channel, struct err **err);

#endif

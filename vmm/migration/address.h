/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a machine's state goes to or comes from, as a person writes it:
 *
 *	tcp:HOST:PORT[,ipv4][,ipv6]	HOST may be empty (any, when listening) or [::1]; PORT a
 *					number or the name of a service
 *	unix:PATH
 *	fd:NAME, fd:NUMBER		a descriptor under a name (getfd), or one that the process
 *					was started with
 *	exec:COMMAND			what a shell is given; a space after the colon is none of it
 *	file:PATH[,offset=N]		PATH /dev/fdset/N is a member of a set (add-fd)
 *	defer				not yet known (-incoming)
 *
 * I1  An address never changes but for its descriptor, which has one owner: the address from
 *     address_claim() on, the channel or listener from channel_connect()/channel_listen() on.
 *
 * Threads: none; the caller serialises. A person controls the text.
 */
#ifndef VMM_MIGRATION_ADDRESS_H
#define VMM_MIGRATION_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct fds;

enum address_type {
	ADDRESS_TCP,
	ADDRESS_UNIX,
	ADDRESS_FD,
	ADDRESS_EXEC,
	ADDRESS_FILE,
	ADDRESS_DEFER,
};

struct address {
	enum address_type type;
	char *text;      /* as it was written: the subject of sentences */
	char *host;      /* tcp, without brackets; "" for any */
	char *port;      /* tcp */
	bool ipv4, ipv6; /* tcp: only these, where one is set */
	char *what;      /* path (unix, file), command (exec), name or number (fd) */
	uint64_t offset; /* file: where the state begins */
	int fd; /* fd, file of a set: after address_claim(); -1: none, or it was handed on */
};

/* @uri as above. */
int address_parse(const char *uri, struct address **ret_address, struct err **err);
/* Closes a descriptor that was not handed on. NULL is allowed. */
void address_free(struct address *address);

/*
 * Take the descriptor that "fd:" or "file:/dev/fdset/N" names, out of @fds (NULL: there are no
 * names) or out of those that the process was started with; nothing happens with other addresses.
 * Before channel_connect() and channel_listen(), on the main thread.
 */
int address_claim(struct address *address, struct fds *fds, struct err **err);

/* Can there be several channels to it? Where not, the side that connects has only one. */
bool address_takes_many(const struct address *address);
/* Is it a socket in both directions, as far as the address itself tells? */
bool address_is_socket(const struct address *address);

/* ---- what query-migrate tells of a listening socket ---- */

enum address_socket_type { ADDRESS_SOCKET_INET, ADDRESS_SOCKET_UNIX, ADDRESS_SOCKET_FD };

struct address_socket {
	enum address_socket_type type;
	bool ipv4, ipv6; /* inet: the family, both for a socket of both */
	char host[64];   /* inet, a number */
	char port[8];    /* inet */
	char text[256];  /* unix: the path; fd: name or number */
};

/* Of a socket that is bound; 0 or -errno. */
int address_socket_of(int fd, struct address_socket *ret_socket);

#endif

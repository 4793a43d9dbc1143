/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes to and from the other side of a migration: TCP and UNIX sockets, descriptors that were
 * handed over, commands, files. Reads and writes block their thread and move all they were asked
 * for.
 *
 * I1  Whatever blocks comes back soon after the channel's cancel was raised, and where it is given
 *     a time, after that time, however the other side behaves.
 * I2  A network that is dead is noticed: connections where nothing that was sent has been confirmed
 *     for CHANNEL_DEAD_MS end with -ETIMEDOUT. One whose other side is busy, and so takes nothing
 *     but still confirms, is not dead, however long that lasts.
 * I3  A descriptor that others may share keeps its status flags: changed ones are put back by
 *     channel_close().
 * I4  A command is in a process group of its own, and has no descriptor but its end and standard
 *     error. One that has not ended by itself is killed, with its group, before channel_close()
 *     returns, and none stays a zombie.
 * I5  The first bytes of each client are awaited side by side, so a client that connects and is
 *     silent keeps nobody else from being accepted; it is dropped after CHANNEL_SILENT_MS, or when
 *     there are more than CHANNEL_CLIENTS_MAX, the oldest first.
 * I6  Who writes a file has it locked, who reads it too (flock): a file that is being read, also by
 *     a machine that still runs off it, is not overwritten.
 *
 * Threads: a channel may be read by one thread and written to by another at the same time; its name
 * and kind never change. Listeners: made on the main thread, accepted from by one thread.
 * The other side controls every byte, and when it comes; whoever can connect is the other side.
 */
#ifndef VMM_MIGRATION_CHANNEL_H
#define VMM_MIGRATION_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct address;
struct address_socket;
struct cancel;
struct channel;
struct channel_listener;
struct err;

#define CHANNEL_DEAD_MS     30000
#define CHANNEL_SILENT_MS   10000
#define CHANNEL_CLIENTS_MAX 32u
#define CHANNEL_FIRST_MAX   64u

/* ---- making them ---- */

/*
 * A channel to @address, to be written to (and read from, when it is duplex). Blocks: not on the
 * main thread. Further ones to the same address where address_takes_many().
 */
int channel_connect(struct address *address, struct cancel *cancel, struct channel **ret_channel,
		    struct err **err);

/*
 * Be ready for the other side: sockets listen, commands run, files are open when this returns. A
 * name of a host that is neither a number nor known to this host is asked of the network, which
 * takes as long as it takes; nothing else blocks.
 */
int channel_listen(struct address *address, struct cancel *cancel,
		   struct channel_listener **ret_listener, struct err **err);
/* Ends it and all clients that were not accepted. NULL is allowed. */
void channel_listener_free(struct channel_listener *listener);
/* How long a client may be silent instead of CHANNEL_SILENT_MS: of those that come from now on. */
void channel_listener_set_silent_ms(struct channel_listener *listener, int silent_ms);
/* As a person wrote it. */
const char *channel_listener_name(const struct channel_listener *listener);
/* Sockets that it listens on. */
size_t channel_nr_sockets(const struct channel_listener *listener);
int channel_socket(const struct channel_listener *listener, size_t i,
		   struct address_socket *ret_socket);
/*
 * The next client whose first @first_bytes (CHANNEL_FIRST_MAX at most) are there, or that ended
 * after fewer, but not none, of them; they will be read from the channel as any others. Commands,
 * files and descriptors are the one client, whatever comes from them. -ETIMEDOUT when none came in
 * @timeout_ms (-1: wait forever), -ENODATA when no other can come; no sentence for both of these
 * and -ECANCELED.
 */
int channel_accept(struct channel_listener *listener, size_t first_bytes, int timeout_ms,
		   struct channel **ret_channel, struct err **err);

/*
 * A client that came before its turn: it will be accepted again, after those that are there. Takes
 * it over.
 */
void channel_unaccept(struct channel_listener *listener, struct channel *channel);
/*
 * The first @size bytes (CHANNEL_FIRST_MAX at most), before anything else was read; they stay to be
 * read. *ret_done says how many there are, fewer only when the other side ended. As channel_read().
 */
int channel_peek(struct channel *channel, void *buf, size_t size, int timeout_ms, size_t *ret_done);

/* Closes it; a command that still runs is killed. NULL is allowed. */
void channel_close(struct channel *channel);

/* ---- what they are ---- */

/* For sentences: "tcp:10.0.0.2:4444", "file:/srv/vm.img". */
const char *channel_name(const struct channel *channel);
/* A socket: there is a way back. */
bool channel_is_duplex(const struct channel *channel);
/*
 * A regular file or a block device: of "file:", where positions below count from the offset, or of
 * "fd:", where they count from where the descriptor stood.
 */
bool channel_is_seekable(const struct channel *channel);
/* What a shell runs is at the other end. */
bool channel_is_command(const struct channel *channel);
/* For mmap() and the like; the channel's. */
int channel_fd(const struct channel *channel);
/* The place in the file that position 0 is. */
uint64_t channel_base(const struct channel *channel);
/* Bytes from position 0 to the end. */
int channel_size(const struct channel *channel, uint64_t *ret_bytes);

/* ---- moving bytes ---- */

/*
 * All of @size, in @timeout_ms (-1: no limit). 0, or:
 *	-ENODATA	the other side ended in order before the last byte
 *	-ECONNRESET	the connection was cut, or the reader is gone (also instead of -EPIPE)
 *	-ETIMEDOUT	the time is over, or the network is dead
 *	-ECANCELED
 *	other -errno
 * *ret_done: how many bytes came (NULL allowed). A seekable one is read and written from its
 * position, which starts at 0; the calls with a position leave that alone.
 */
int channel_read(struct channel *channel, void *buf, size_t size, int timeout_ms, size_t *ret_done);
int channel_write(struct channel *channel, const void *buf, size_t size, int timeout_ms);
/* @iov is used up. */
int channel_writev(struct channel *channel, struct iovec *iov, size_t nr, int timeout_ms);
int channel_pread(struct channel *channel, void *buf, size_t size, uint64_t position);
int channel_pwritev(struct channel *channel, struct iovec *iov, size_t nr, uint64_t position);

/* Bytes moved so far; any thread. */
uint64_t channel_bytes_read(const struct channel *channel);
uint64_t channel_bytes_written(const struct channel *channel);

/*
 * All that was written is where it belongs: a file is on the disk (fsync), a command has read it
 * all and ended well, a socket's other side sees the end after it. Nothing can be written
 * afterwards.
 */
int channel_finish(struct channel *channel, int timeout_ms, struct err **err);

/*
 * Make a sentence of what a call above returned: "<name>: cannot <what>: ...", with a command's
 * exit status where that is the reason. Returns @ret.
 */
int channel_fail(struct channel *channel, int ret, const char *what, struct err **err);

/* How long a network may confirm nothing instead of CHANNEL_DEAD_MS. */
void channel_set_dead_ms(struct channel *channel, int dead_ms);

#endif

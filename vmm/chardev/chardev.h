/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Character devices: byte streams between the machine (serial ports, monitors) and the outside
 * (terminal, socket, file, pseudo-terminal, nothing).
 *
 * A chardev is the outer end. A front-end takes hold of it through a port. There are two ways:
 *   chardev_attach()  one port for the life of the device (a serial port); clients of a socket come
 *                     and go one at a time, a further one waits in the listen queue. On a mux
 *                     several front-ends attach and Ctrl-A switches between them.
 *   chardev_serve()   one port per client (a monitor): a listening socket takes several clients at
 *                     once; every other back-end is a single client that is there from the start.
 *
 * I1  chr_port_write() copies into a bounded buffer and never waits. What a back-end cannot take
 *     stays in the buffer; what the buffer cannot take is refused and is the front-end's to keep.
 * I2  While nobody is connected, output is taken and dropped.
 * I3  No more bytes are handed to receive() than can_receive() just allowed. After it allowed none,
 *     reading stops until chr_port_resume().
 * I4  The file status flags of inherited descriptors (stdin, stdout) and the terminal's mode are
 *     given back by chardev_free(), and by chr_term_restore() from a fatal signal's handler.
 * I5  A listening socket's path is removed by chardev_free() if it still is the socket that was
 *     made there.
 *
 * Threads: chr_port_write() and chr_port_resume() from any thread; everything else on the main
 * loop's thread (or before it runs), where also all front-end callbacks are called. Callbacks hold
 * no lock of the chardev, and may write, resume and close ports. A callback may come after a detach
 * from another thread only if that thread broke the rule above. Ownership: a port is the
 * front-end's, ended by chr_port_close(), also after CHR_CLOSED. All ports are closed before
 * chardev_free(). The guest controls the bytes written and their pace; the client the bytes read.
 */
#ifndef VMM_CHARDEV_H
#define VMM_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;
struct chr_port;
struct chr_term;
struct err;
struct loop;

/* Bytes of output that a port holds when its ops say nothing else. */
#define CHR_OUT_LIMIT_BYTES (64 * 1024)
/* Clients that chardev_serve() takes at once; further ones wait in the listen queue. */
#define CHR_CLIENTS_MAX 256
/* Front-ends of one mux. */
#define CHR_MUX_MAX 4

enum chr_backend { CHR_NULL, CHR_STDIO, CHR_SOCKET, CHR_FILE, CHR_PTY };

/* What -chardev says. Start from chr_config_init(). Strings are copied. */
struct chr_config {
	enum chr_backend backend;
	const char *id;   /* required */
	bool mux;         /* several front-ends, Ctrl-A switches */
	bool signal;      /* stdio: Ctrl-C and Ctrl-Z act on the monitor process; default true */
	const char *path; /* socket: unix path; file: the file */
	const char *host; /* socket: TCP when port is given; NULL or "" is every address */
	const char *port; /* socket: number or service name */
	bool ipv4, ipv6;  /* socket, TCP: restrict to one family; both false is no restriction */
	bool server;      /* socket: listen */
	bool wait;        /* socket, server: wait for the first client; default true */
	bool nodelay;     /* socket, TCP */
	unsigned reconnect_s; /* socket, client: try again after so many seconds; 0 never */
	bool append;          /* file */
	/*
	 * socket: already listening (server) or connected; file: already open. -1 is none. The
	 * chardev owns it from chardev_new() on, also when that fails.
	 */
	int fd;
	/* Where a copy of all output goes, the chardev's as fd is; -1 is none. */
	int log_fd;
	/*
	 * The loop runs: nothing is waited for. A client is not waited for, nor that a connection is
	 * made (it is closed again later if it is not); host names are not looked up.
	 */
	bool live;

	/* One line (no newline) for the person: the pty's name, or that a client is waited for. */
	void (*note)(void *opaque, const char *line);
	/* mux: Ctrl-A x was typed. */
	void (*quit)(void *opaque);
	void *opaque;
};

void chr_config_init(struct chr_config *config);

/*
 * Opens the back-end at once (so that errors are seen by who starts the machine) and waits for
 * the first client where config->wait says so. SIGPIPE is ignored from here on.
 */
struct chardev *chardev_new(struct loop *loop, const struct chr_config *config, struct err **err);
/* Writes out what ports left behind, for half a second at most. NULL is allowed. */
void chardev_free(struct chardev *chr);

const char *chardev_id(const struct chardev *chr);
/*
 * As query-chardev names it: "pty:/dev/pts/3", "unix:/run/m.sock,server=on", "null" ...; the caller
 * frees it. "disconnected:" comes first where it applies. NULL when memory is out.
 */
char *chardev_filename(const struct chardev *chr);
/* The slave's path, NULL for what is no pty. */
const char *chardev_pty_path(const struct chardev *chr);
/* A listening socket that is no mux: several clients may come, chardev_serve() takes them. */
bool chardev_listens(const struct chardev *chr);
/* Whether a front-end is attached. */
bool chardev_in_use(const struct chardev *chr);
/* The terminal that this chardev changed, else NULL; see term.h for its use in signal handlers. */
struct chr_term *chardev_terminal(struct chardev *chr);

enum chr_event {
	CHR_OPENED,    /* somebody is at the other end */
	CHR_CLOSED,    /* nobody is any more; for a served client of a socket: for good */
	CHR_BREAK,     /* serial break, from the mux's Ctrl-A b */
	CHR_FOCUS_IN,  /* mux: the keyboard is this front-end's now */
	CHR_FOCUS_OUT, /* mux: it is another's */
};

struct chr_ops {
	/* How many bytes receive() may be given now. */
	size_t (*can_receive)(void *opaque);
	void (*receive)(void *opaque, const uint8_t *buf, size_t size);
	/* The rest may be NULL. */
	void (*event)(void *opaque, enum chr_event event);
	/*
	 * The other end sends no more: will there be answers to what it sent? While there will, the
	 * connection stays for them; chr_port_resume() has this asked again.
	 */
	bool (*busy)(void *opaque);
	/* After a write that was not taken whole: there is room again. */
	void (*writable)(void *opaque);
	/* Output buffer's size; 0 is CHR_OUT_LIMIT_BYTES. Grown as needed up to this. */
	size_t out_limit_bytes;
	/* mux: keep output back while another front-end has the keyboard (monitors). */
	bool hold_unfocused;
};

/*
 * -EBUSY when a front-end is there already (a mux takes CHR_MUX_MAX). If the other end is open,
 * CHR_OPENED is delivered from the loop, not from inside this call. On a mux the front-end that
 * attached first has the focus.
 */
int chardev_attach(struct chardev *chr, const struct chr_ops *ops, void *opaque,
		   struct chr_port **ret_port, struct err **err);
/* mux: give this front-end the keyboard. No-op elsewhere. */
void chr_port_focus(struct chr_port *port);

struct chr_server_ops {
	const struct chr_ops *client;
	/* Returns the new client's opaque; NULL turns the client away. */
	void *(*client_new)(void *opaque, struct chr_port *port);
};

/* The clients' ports are closed by the front-end (on CHR_CLOSED or before). -EBUSY as above. */
int chardev_serve(struct chardev *chr, const struct chr_server_ops *ops, void *opaque,
		  struct err **err);
/* No further clients. Existing ports live on. */
void chardev_unserve(struct chardev *chr);

/* Returns how many bytes were taken (I1, I2). */
size_t chr_port_write(struct chr_port *port, const void *buf, size_t size);
/* Are at most @size bytes of output waiting? If not, writable() is called when it is so. */
bool chr_port_drained(struct chr_port *port, size_t size);
/* Ask can_receive() again. */
void chr_port_resume(struct chr_port *port);
/*
 * A descriptor that the client sent along (SCM_RIGHTS), oldest first; the caller's from now on.
 * -1 when there is none. At most 16 are kept, further ones are closed.
 */
int chr_port_take_fd(struct chr_port *port);
/*
 * End a front-end's hold. A served client is disconnected after what it was written has been sent
 * (or 1 s has passed). NULL is allowed. No callback follows. No other thread may be using the port.
 */
void chr_port_close(struct chr_port *port);

#endif

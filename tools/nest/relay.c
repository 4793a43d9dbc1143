/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay: runs programs and connects to sockets on behalf of a test, over one byte channel.
 *
 * In the emulated host it is the first process and its channel is a virtio-serial port; without
 * nesting it is started by the test itself and its channel is a socket. Either way the test sees
 * the same thing: numbered streams, each a process or a connected socket, with bytes in, bytes
 * out and an end.
 *
 *     relay PATH|fd:N
 *
 * A frame is a type byte, a stream number and a payload length (both 32 bits, little endian),
 * then at most FRAME_MAX bytes of payload. To the relay:
 *     R  run: a flag byte (1: on a terminal of its own), then the arguments, each ended by a NUL
 *     C  connect: a 32-bit time limit in milliseconds, then the path of a unix socket
 *     W  write the payload to the stream       E  end the stream's input
 *     K  send the signal in the payload's byte to the stream's process group; closes a socket
 *     Z  rows and columns (16 bits each) of the stream's terminal
 *     P  ping
 * From the relay:
 *     H  hello, once      S  started: process number, or 0 for a socket
 *     O  output           X  ended: 32-bit status, as a shell would report it
 *     F  failed: 32-bit error number; the stream does not exist any more
 *     P  answer to a ping
 *
 * Invariants:
 * I1. Everything that a process wrote before it ended is sent before its X.
 * I2. A stream number is answered with exactly one X or F, its last frame.
 * I3. No process is waited for in a blocking call: a program that does not read its input only
 *     fills its own queue, up to PENDING_MAX, beyond which its stream ends with F ENOBUFS.
 *
 * Single thread. Writes to the channel block: the test always reads. When the channel ends, the
 * relay kills every process that descends from it; as first process it powers the machine off, so
 * an emulated host never outlives its test. A connect is tried again every RETRY_MS until its
 * limit, because nothing tells when a socket file begins to listen.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STREAMS      64
#define FRAME_MAX    (32 * 1024)
#define HEADER       9
#define ARGS_MAX     256
#define PENDING_MAX  (64u << 20)
#define RETRY_MS     20
#define EVENT_CHUNKS 4  /* read from one stream before the others have their turn */
#define LAST_CHUNKS  64 /* more than a pipe holds */

struct stream {
	bool used;
	uint32_t id;
	pid_t pid;     /* 0: a socket */
	int in;        /* -1: closed */
	int out;       /* -1: closed; the same as in for a socket or a terminal */
	bool end_in;   /* close in when pending is written */
	char *pending; /* input that was not taken yet */
	size_t pending_len;
	bool connecting;
	int64_t deadline_ms;
	struct sockaddr_un addr;
};

struct relay {
	int port;
	int children; /* signalfd of SIGCHLD */
	bool ended;   /* the channel is gone */
	struct stream streams[STREAMS];
	uint8_t frame[HEADER + FRAME_MAX];
	size_t have;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void put_u32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Send one frame whole; a channel that fails is marked ended and nothing more is sent. */
static void relay_send(struct relay *r, char type, uint32_t id, const void *data, size_t len)
{
	uint8_t out[HEADER + FRAME_MAX];
	size_t done = 0;

	out[0] = (uint8_t)type;
	put_u32(out + 1, id);
	put_u32(out + 5, (uint32_t)len);
	if (len)
		memcpy(out + HEADER, data, len);
	while (!r->ended && done < HEADER + len) {
		ssize_t n = write(r->port, out + done, HEADER + len - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			r->ended = true;
	}
}

static void relay_send_u32(struct relay *r, char type, uint32_t id, uint32_t value)
{
	uint8_t data[4];

	put_u32(data, value);
	relay_send(r, type, id, data, sizeof(data));
}

static struct stream *relay_find(struct relay *r, uint32_t id)
{
	for (int i = 0; i < STREAMS; i++)
		if (r->streams[i].used && r->streams[i].id == id)
			return &r->streams[i];
	return NULL;
}

/* A free stream with number ID, or NULL after telling the test why not. */
static struct stream *stream_new(struct relay *r, uint32_t id)
{
	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];

		if (s->used)
			continue;
		memset(s, 0, sizeof(*s));
		s->used = true;
		s->id = id;
		s->in = s->out = -1;
		return s;
	}
	relay_send_u32(r, 'F', id, EMFILE);
	return NULL;
}

static void stream_close_in(struct stream *s)
{
	if (s->in >= 0 && s->in != s->out)
		close(s->in);
	else if (s->in >= 0 && s->pid == 0)
		shutdown(s->in, SHUT_WR);
	s->in = -1;
	free(s->pending);
	s->pending = NULL;
	s->pending_len = 0;
}

static void stream_close_out(struct stream *s)
{
	if (s->out < 0)
		return;
	if (s->in == s->out)
		s->in = -1;
	close(s->out);
	s->out = -1;
}

/* End the stream with its last frame, TYPE X or F. */
static void stream_free(struct relay *r, struct stream *s, char type, uint32_t value)
{
	relay_send_u32(r, type, s->id, value);
	stream_close_in(s);
	stream_close_out(s);
	s->used = false;
}

/* Read what is there, at most CHUNKS times. Returns false when nothing more will come. */
static bool stream_forward(struct relay *r, struct stream *s, int chunks)
{
	uint8_t data[FRAME_MAX];

	while (chunks-- > 0) {
		ssize_t n = read(s->out, data, sizeof(data));

		if (n > 0)
			relay_send(r, 'O', s->id, data, (size_t)n);
		else if (n < 0 && errno == EINTR)
			continue;
		else
			return n < 0 && errno == EAGAIN;
	}
	return true;
}

/* Write as much of the pending input as is taken now; what cannot ever be taken is dropped. */
static void stream_flush(struct stream *s)
{
	while (s->in >= 0 && s->pending_len) {
		ssize_t n = write(s->in, s->pending, s->pending_len);

		if (n > 0) {
			s->pending_len -= (size_t)n;
			memmove(s->pending, s->pending + n, s->pending_len);
		} else if (n < 0 && errno == EAGAIN) {
			return;
		} else if (n < 0 && errno != EINTR) {
			stream_close_in(s);
			return;
		}
	}
	if (s->in >= 0 && s->end_in)
		stream_close_in(s);
}

static void stream_write(struct relay *r, struct stream *s, const uint8_t *data, size_t len)
{
	char *grown;

	if ((s->in < 0 && !s->connecting) || s->end_in || len == 0)
		return;
	grown = s->pending_len + len <= PENDING_MAX ? realloc(s->pending, s->pending_len + len)
						    : NULL;
	if (!grown) {
		if (s->pid)
			kill(-s->pid, SIGKILL);
		stream_free(r, s, 'F', ENOBUFS);
		return;
	}
	memcpy(grown + s->pending_len, data, len);
	s->pending = grown;
	s->pending_len += len;
	stream_flush(s);
}

/* In the child: take the descriptor FD as standard input, output and error as told, and run. */
static _Noreturn void child_run(int in, int out, bool terminal, char **argv)
{
	sigset_t none;

	setsid();
	if (terminal)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Make the descriptors of a new process: mine[] for the relay, theirs[] for it. 0 or -errno. */
static int make_pipes(bool terminal, int mine[2], int theirs[2])
{
	int in[2], out[2];

	if (terminal) {
		int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
		int slave = -1;

		if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0)
			slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (slave < 0) {
			int err = errno;

			if (master >= 0)
				close(master);
			return -err;
		}
		mine[0] = mine[1] = master;
		theirs[0] = theirs[1] = slave;
		return 0;
	}
	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0) {
		int err = errno;

		close(in[0]);
		close(in[1]);
		return -err;
	}
	mine[0] = in[1];
	mine[1] = out[0];
	theirs[0] = in[0];
	theirs[1] = out[1];
	return 0;
}

static void relay_run(struct relay *r, uint32_t id, char *data, size_t len)
{
	struct stream *s = stream_new(r, id);
	char *argv[ARGS_MAX + 1];
	int mine[2] = {-1, -1}, theirs[2] = {-1, -1};
	int argc = 0, err;
	bool terminal;

	if (!s)
		return;
	if (len < 2 || data[len - 1] != '\0') {
		stream_free(r, s, 'F', EINVAL);
		return;
	}
	terminal = data[0] & 1;
	for (size_t at = 1; at < len && argc < ARGS_MAX; at += strlen(data + at) + 1)
		argv[argc++] = data + at;
	argv[argc] = NULL;
	err = make_pipes(terminal, mine, theirs);
	if (err) {
		stream_free(r, s, 'F', (uint32_t)-err);
		return;
	}
	s->in = mine[0];
	s->out = mine[1];
	fcntl(s->in, F_SETFL, O_NONBLOCK);
	fcntl(s->out, F_SETFL, O_NONBLOCK);
	s->pid = fork();
	if (s->pid == 0)
		child_run(theirs[0], theirs[1], terminal, argv);
	err = errno;
	close(theirs[0]);
	if (theirs[1] != theirs[0])
		close(theirs[1]);
	if (s->pid < 0) {
		s->pid = 0;
		stream_free(r, s, 'F', (uint32_t)err);
		return;
	}
	relay_send_u32(r, 'S', id, (uint32_t)s->pid);
}

/* Try to connect once; ends the stream when its time limit is over. */
static void stream_connect(struct relay *r, struct stream *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&s->addr, sizeof(s->addr)) < 0)
		err = errno;
	if (err) {
		if (fd >= 0)
			close(fd);
		if ((err != ENOENT && err != ECONNREFUSED) || now_ms() >= s->deadline_ms)
			stream_free(r, s, 'F', (uint32_t)err);
		return;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	s->connecting = false;
	s->in = s->out = fd;
	relay_send_u32(r, 'S', s->id, 0);
	stream_flush(s);
}

static void relay_connect(struct relay *r, uint32_t id, const uint8_t *data, size_t len)
{
	struct stream *s = stream_new(r, id);

	if (!s)
		return;
	if (len <= 4 || len - 4 >= sizeof(s->addr.sun_path)) {
		stream_free(r, s, 'F', ENAMETOOLONG);
		return;
	}
	s->connecting = true;
	s->deadline_ms = now_ms() + get_u32(data);
	s->addr.sun_family = AF_UNIX;
	memcpy(s->addr.sun_path, data + 4, len - 4);
	stream_connect(r, s);
}

static void stream_kill(struct relay *r, struct stream *s, int signo)
{
	if (!s->pid)
		stream_free(r, s, 'X', 0);
	else if (kill(-s->pid, signo) < 0)
		kill(s->pid, signo); /* it has not made its session yet */
}

/* Carry out the frame at the start of r->frame, whose payload is complete. */
static void relay_dispatch(struct relay *r, size_t len)
{
	char type = (char)r->frame[0];
	uint32_t id = get_u32(r->frame + 1);
	uint8_t *data = r->frame + HEADER;
	struct stream *s = relay_find(r, id);

	if (type == 'P') {
		relay_send(r, 'P', id, NULL, 0);
	} else if (type == 'R' && !s) {
		relay_run(r, id, (char *)data, len);
	} else if (type == 'C' && !s) {
		relay_connect(r, id, data, len);
	} else if (type == 'W' && s) {
		stream_write(r, s, data, len);
	} else if (type == 'E' && s) {
		s->end_in = true;
		stream_flush(s);
	} else if (type == 'K' && s && len == 1) {
		stream_kill(r, s, data[0]);
	} else if (type == 'Z' && s && s->pid && len == 4) {
		struct winsize size = {.ws_row = (unsigned short)(data[0] | data[1] << 8),
				       .ws_col = (unsigned short)(data[2] | data[3] << 8)};

		ioctl(s->out, TIOCSWINSZ, &size);
	}
}

/* Read from the channel and carry out every whole frame. */
static void relay_receive(struct relay *r)
{
	ssize_t n = read(r->port, r->frame + r->have, sizeof(r->frame) - r->have);

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		r->ended = true;
		return;
	}
	r->have += (size_t)n;
	while (r->have >= HEADER) {
		size_t len = get_u32(r->frame + 5);

		if (len > FRAME_MAX) {
			r->ended = true;
			return;
		}
		if (r->have < HEADER + len)
			return;
		relay_dispatch(r, len);
		r->have -= HEADER + len;
		memmove(r->frame, r->frame + HEADER + len, r->have);
	}
}

/* Collect every child that ended, ours or an orphan that came to us. */
static void relay_reap(struct relay *r)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(r->children, &info, sizeof(info)) == sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < STREAMS; i++) {
			struct stream *s = &r->streams[i];

			if (!s->used || s->pid != pid)
				continue;
			if (s->out >= 0)
				stream_forward(r, s, LAST_CHUNKS);
			stream_free(r, s, 'X',
				    (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status)
								 : 128 + WTERMSIG(status)));
		}
	}
}

/* A stream's output or the room in its input changed. */
static void stream_event(struct relay *r, struct stream *s, short revents)
{
	if (revents & POLLOUT)
		stream_flush(s);
	if (s->out < 0 || !(revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	if (stream_forward(r, s, EVENT_CHUNKS))
		return;
	if (s->pid)
		stream_close_out(s);
	else
		stream_free(r, s, 'X', 0);
}

/* Wait for the next events and carry them out. */
static void relay_step(struct relay *r)
{
	struct pollfd fds[2 + 2 * STREAMS];
	struct stream *owner[2 + 2 * STREAMS];
	nfds_t count = 2;
	int timeout = -1;

	fds[0] = (struct pollfd){.fd = r->port, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = r->children, .events = POLLIN};
	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];

		if (!s->used)
			continue;
		if (s->connecting)
			timeout = RETRY_MS;
		if (s->out >= 0) {
			owner[count] = s;
			fds[count++] = (struct pollfd){.fd = s->out, .events = POLLIN};
		}
		if (s->in >= 0 && s->pending_len) {
			owner[count] = s;
			fds[count++] = (struct pollfd){.fd = s->in, .events = POLLOUT};
		}
	}
	if (poll(fds, count, timeout) < 0)
		return;
	for (nfds_t i = 2; i < count; i++)
		if (owner[i]->used && fds[i].revents)
			stream_event(r, owner[i], fds[i].revents);
	for (int i = 0; i < STREAMS; i++)
		if (r->streams[i].used && r->streams[i].connecting)
			stream_connect(r, &r->streams[i]);
	if (fds[1].revents)
		relay_reap(r);
	if (fds[0].revents)
		relay_receive(r);
}

/* Open the channel, waiting for its device file when it is not there yet. -1: it cannot be. */
static int open_port(const char *name)
{
	char events[4096];
	int watch, fd;

	if (strncmp(name, "fd:", 3) == 0)
		return atoi(name + 3);
	watch = inotify_init1(IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE) < 0)
		return -1;
	while ((fd = open(name, O_RDWR | O_CLOEXEC)) < 0 && errno == ENOENT)
		if (read(watch, events, sizeof(events)) < 0)
			break;
	close(watch);
	return fd;
}

/* Kill every process that descends from us: whoever loses its parent becomes our child. */
static void kill_children(void)
{
	do {
		FILE *list = fopen("/proc/thread-self/children", "re");
		int pid;

		if (!list)
			return;
		while (fscanf(list, "%d", &pid) == 1)
			kill(pid, SIGKILL);
		fclose(list);
	} while (waitpid(-1, NULL, 0) > 0);
}

int main(int argc, char **argv)
{
	struct relay r = {0};
	sigset_t chld;

	if (argc != 2) {
		fprintf(stderr, "usage: relay PATH|fd:N\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	r.children = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
	r.port = open_port(argv[1]);
	if (r.port < 0 || r.children < 0) {
		fprintf(stderr, "relay: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	fcntl(r.port, F_SETFD, FD_CLOEXEC);
	relay_send(&r, 'H', 0, NULL, 0);
	while (!r.ended)
		relay_step(&r);
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	kill_children();
	return 0;
}

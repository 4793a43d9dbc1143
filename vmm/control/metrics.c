/* SPDX-License-Identifier: BSD-3-Clause */
/* The endpoint for scrapers: see metrics.h for the contract. */
#include "vmm/control/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"
#include "vmm/control/held.h"
#include "vmm/control/internal.h"
#include "vmm/control/metrics_http.h"
#include "vmm/control/metrics_text.h"
#include "vmm/control/migrate.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem.h"

/* Memory is counted for so long at a time, and so often at most: a tenth of a processor. */
#define METRICS_COUNT_MS    100
#define METRICS_INTERVAL_MS 1000
#define METRICS_BACKLOG     128

/* What a device holds; the counting thread's while metrics.counting. */
struct metrics_held {
	const void *memory;
	uint64_t size;
	struct held *held;
	bool used; /* by a device that there is */
};

enum client_state { CLIENT_READING, CLIENT_WAITING, CLIENT_ANSWERING, CLIENT_CLOSING };

struct client {
	struct metrics *metrics;
	enum client_state state;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned int handles; /* open ones; 0: nobody is here */
	uv_write_t write;
	bool head_only;
	char head[METRICS_HEAD_MAX];
	char *text;
	size_t request_bytes;
	char request[METRICS_REQUEST_BYTES];
};

struct metrics {
	struct control *control; /* NULL: it is to be freed */
	uv_pipe_t listener;
	bool listening; /* the handle is open */
	char *path;     /* to be removed; absolute */
	dev_t dev;
	ino_t ino;
	struct client clients[METRICS_CLIENTS_MAX]; /* here, so that accepting never fails */
	size_t nr_clients;
	bool full; /* somebody waits in the queue for one to be gone */
	/* counting */
	uv_work_t work;
	bool counting;
	uint64_t counted_ms; /* when the last count ended */
	struct metrics_held **held;
	size_t nr_held, next_held;
};

static uint64_t metrics_now_ms(void)
{
	return uv_hrtime() / 1000000;
}

/* ---- life and end ---- */

/* Once nothing of libuv refers to it any more. */
static void metrics_free_idle(struct metrics *m)
{
	if (m->control || m->listening || m->nr_clients || m->counting)
		return;
	for (size_t i = 0; i < m->nr_held; i++) {
		held_free(m->held[i]->held);
		free(m->held[i]);
	}
	free(m->held);
	free(m->path);
	free(m);
}

static void metrics_connected(uv_stream_t *listener, int status);

static void client_closed(uv_handle_t *handle)
{
	struct client *c = handle->data;
	struct metrics *m = c->metrics;

	if (--c->handles)
		return;
	m->nr_clients--;
	free(c->text);
	if (m->full && m->control) {
		m->full = false;
		metrics_connected((uv_stream_t *)&m->listener, 0);
	}
	metrics_free_idle(m);
}

static void client_drop(struct client *c)
{
	if (c->state == CLIENT_CLOSING)
		return;
	c->state = CLIENT_CLOSING;
	uv_close((uv_handle_t *)&c->timer, client_closed);
	uv_close((uv_handle_t *)&c->pipe, client_closed);
}

static void client_timeout(uv_timer_t *timer)
{
	client_drop(timer->data);
}

/* ---- answers ---- */

static void client_written(uv_write_t *write, int status)
{
	(void)status;
	client_drop(write->data);
}

/* @text is taken over; NULL: none but the head. */
static void client_answer(struct client *c, int status, char *text, size_t size)
{
	uv_buf_t bufs[2];

	c->text = text;
	c->state = CLIENT_ANSWERING;
	metrics_http_head(c->head, status, text ? METRICS_CONTENT_TYPE : NULL, size);
	bufs[0] = uv_buf_init(c->head, (unsigned int)strlen(c->head));
	bufs[1] = uv_buf_init(text, (unsigned int)size);
	c->write.data = c;
	if (uv_write(&c->write, (uv_stream_t *)&c->pipe, bufs, text && !c->head_only ? 2 : 1,
		     client_written))
		client_drop(c);
}

/* Of this process; 0 where that cannot be known. */
static uint64_t metrics_resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	uint64_t pages = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%*u %" SCNu64, &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static const struct held *metrics_find_held(const struct metrics *m,
					    const struct vm_memory_device *d)
{
	const void *memory;
	uint64_t size;

	virtio_mem_memory(d->mem, &memory, &size);
	for (size_t i = 0; i < m->nr_held; i++)
		if (m->held[i]->memory == memory && m->held[i]->size == size)
			return m->held[i]->held;
	return NULL;
}

static void metrics_sample_device(const struct metrics *m, const struct vm_memory_device *d,
				  struct metrics_device *ret, char *name, size_t name_size)
{
	const struct held *held = metrics_find_held(m, d);
	uint64_t age_ms = held ? held_age_ms(held, metrics_now_ms()) : UINT64_MAX;

	/* No id can look like that. */
	snprintf(name, name_size, "%s%s", d->id ? "" : "memdev:", d->id ? d->id : d->memdev_id);
	*ret = (struct metrics_device){
		.name = name,
		.node = d->node,
		.driven = virtio_mem_driven(d->mem),
		.progress = virtio_mem_progress(d->mem),
		.held_known = age_ms != UINT64_MAX,
		.held_bytes = held ? held_bytes(held) : 0,
		.held_age_ms = age_ms,
	};
	control_mem_sample(d, &ret->sample);
}

#define METRICS_NAME_MAX 256

static int metrics_make_text(const struct metrics *m, char **ret_text, size_t *ret_size)
{
	const struct vm *vm = m->control->vm;
	const struct vm_config *config = vm_config(vm);
	size_t nr = vm_nr_memory_devices(vm);
	struct migration_info migration;
	struct metrics_device *devices = calloc(nr + 1, sizeof(*devices));
	char(*names)[METRICS_NAME_MAX] = calloc(nr + 1, sizeof(*names));
	struct metrics_world world = {
		.version = EBB_VERSION,
		.guest_name = config->name,
		.state = vm_state(vm),
		.nr_cpus = config->smp.cpus,
		.nr_nodes = config->numa.nr_nodes,
		.resident_bytes = metrics_resident_bytes(),
		.migration = &migration,
		.devices = devices,
		.nr_devices = nr,
	};
	struct metrics_balloon balloon;
	int ret = -ENOMEM;

	if (vm_balloon(vm)) {
		balloon_info(vm_balloon(vm), &balloon.info);
		balloon_stats(vm_balloon(vm), &balloon.stats);
		world.balloon = &balloon;
	}
	migration_info(m->control->migrate->migration, &migration);
	for (unsigned int n = 0; n < config->numa.nr_nodes; n++)
		world.node_boot_bytes[n] = config->numa.nodes[n].mem_bytes;
	for (size_t i = 0; devices && names && i < nr; i++)
		metrics_sample_device(m, vm_memory_device(vm, i), &devices[i], names[i],
				      sizeof(names[i]));
	if (devices && names)
		ret = metrics_text(&world, ret_text, ret_size);
	free(devices);
	free(names);
	return ret;
}

static void client_tell(struct client *c)
{
	char *text;
	size_t size;

	if (metrics_make_text(c->metrics, &text, &size))
		client_answer(c, 503, NULL, 0);
	else
		client_answer(c, 200, text, size);
}

/* ---- counting ---- */

/* On a thread of libuv's. */
static void metrics_count(uv_work_t *work)
{
	struct metrics *m = work->data;
	uint64_t deadline_ms = metrics_now_ms() + METRICS_COUNT_MS;

	/* Each gets a step; in what is left of the time the first gets on, another each time. */
	for (size_t i = 0; i < m->nr_held; i++)
		held_count(m->held[(m->next_held + i) % m->nr_held]->held, metrics_now_ms,
			   deadline_ms);
	m->next_held++;
}

static void metrics_counted(uv_work_t *work, int status)
{
	struct metrics *m = work->data;

	(void)status;
	m->counting = false;
	m->counted_ms = metrics_now_ms();
	for (size_t i = 0; m->control && i < METRICS_CLIENTS_MAX; i++)
		if (m->clients[i].handles && m->clients[i].state == CLIENT_WAITING)
			client_tell(&m->clients[i]);
	metrics_free_idle(m);
}

static void metrics_add_held(struct metrics *m, const struct vm_memory_device *d)
{
	uint64_t bytes[HELD_CELLS_MAX], cell_size, size;
	struct metrics_held *h = NULL;
	const void *memory;
	size_t nr;

	virtio_mem_memory(d->mem, &memory, &size);
	for (size_t i = 0; i < m->nr_held && !h; i++)
		if (m->held[i]->memory == memory && m->held[i]->size == size)
			h = m->held[i];
	if (!h) {
		h = calloc(1, sizeof(*h));
		if (h)
			h->held = held_new(memory, size);
		if (!h || !h->held || ptrs_add(&m->held, &m->nr_held, h)) {
			if (h)
				held_free(h->held);
			free(h);
			return;
		}
		h->memory = memory;
		h->size = size;
	}
	h->used = true;
	nr = virtio_mem_cells(d->mem, bytes, HELD_CELLS_MAX, &cell_size);
	held_set_plugged(h->held, bytes, nr, cell_size);
}

/* What is to be counted: the devices that there are. */
static void metrics_update_held(struct metrics *m)
{
	const struct vm *vm = m->control->vm;

	for (size_t i = 0; i < m->nr_held; i++)
		m->held[i]->used = false;
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++)
		metrics_add_held(m, vm_memory_device(vm, i));
	for (size_t i = 0; i < m->nr_held;) {
		struct metrics_held *h = m->held[i];

		if (h->used) {
			i++;
			continue;
		}
		ptrs_remove(&m->held, &m->nr_held, h);
		held_free(h->held);
		free(h);
	}
}

/* Have the client answered after a count, unless there was one just now. */
static void client_ask(struct client *c)
{
	struct metrics *m = c->metrics;

	c->state = CLIENT_WAITING;
	if (m->counting)
		return;
	if (!m->counted_ms || metrics_now_ms() - m->counted_ms >= METRICS_INTERVAL_MS) {
		metrics_update_held(m);
		m->work.data = m;
		m->counting = !uv_queue_work(loop_uv(m->control->main), &m->work, metrics_count,
					     metrics_counted);
	}
	if (!m->counting)
		client_tell(c);
}

/* ---- requests ---- */

static void client_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct client *c = handle->data;

	(void)size;
	/* 0 at the end, which read ends with UV_ENOBUFS. */
	*buf = uv_buf_init(c->request + c->request_bytes,
			   (unsigned int)(sizeof(c->request) - c->request_bytes));
}

static void client_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
	struct client *c = stream->data;
	int status;

	(void)buf;
	if (size < 0 && size != UV_ENOBUFS) {
		client_drop(c);
		return;
	}
	if (size > 0)
		c->request_bytes += (size_t)size;
	status = metrics_http_parse(c->request, c->request_bytes, &c->head_only);
	if (!status && c->request_bytes == sizeof(c->request))
		status = 431;
	if (!status)
		return;
	uv_read_stop(stream);
	if (status == 200)
		client_ask(c);
	else
		client_answer(c, status, NULL, 0);
}

static void metrics_connected(uv_stream_t *listener, int status)
{
	struct metrics *m = listener->data;
	struct client *c;

	if (status)
		return;
	/* Not accepted: libuv asks for no more until that is done. */
	m->full = m->nr_clients >= METRICS_CLIENTS_MAX;
	if (m->full)
		return;
	for (c = m->clients; c->handles; c++)
		continue;
	memset(c, 0, sizeof(*c));
	m->nr_clients++;
	c->metrics = m;
	c->handles = 2;
	uv_pipe_init(listener->loop, &c->pipe, 0);
	uv_timer_init(listener->loop, &c->timer);
	c->pipe.data = c->timer.data = c;
	if (uv_accept(listener, (uv_stream_t *)&c->pipe) ||
	    uv_read_start((uv_stream_t *)&c->pipe, client_alloc, client_read) ||
	    uv_timer_start(&c->timer, client_timeout, METRICS_CLIENT_MS, 0))
		client_drop(c);
}

/* ---- the socket ---- */

/* A socket of a process that ended is in the way; one that somebody listens on is not ours. */
static int metrics_clear(const struct sockaddr_un *addr, struct err **err)
{
	struct stat st;
	int fd, ret;

	if (lstat(addr->sun_path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "-metrics: '%s' exists and is not a socket",
			       addr->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "-metrics: cannot create a socket: %s", strerror(errno));
	ret = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
	if (ret && errno == ECONNREFUSED)
		ret = unlink(addr->sun_path);
	else
		ret = err_set(err, EADDRINUSE, "-metrics: another process listens on '%s'",
			      addr->sun_path);
	close(fd);
	return ret ? -EADDRINUSE : 0;
}

static int metrics_bind(struct metrics *m, const char *path, int *ret_fd, struct err **err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, ret;

	/* The command line refuses longer ones. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	ret = metrics_clear(&addr, err);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr))) {
		ret = err_set(err, errno, "-metrics: cannot make the socket '%s': %s", path,
			      strerror(errno));
		close(fd);
		return ret;
	}
	if (!lstat(path, &st)) {
		/* Absolute: the process may be in another folder when the path is removed. */
		m->path = realpath(path, NULL);
		m->dev = st.st_dev;
		m->ino = st.st_ino;
	}
	*ret_fd = fd;
	return 0;
}

int control_metrics_init(struct control *control, struct err **err)
{
	const char *path = vm_config(control->vm)->metrics_path;
	struct metrics *m;
	int fd, ret;

	if (!path)
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, ENOMEM, "out of memory");
	m->control = control;
	control->metrics = m;
	ret = metrics_bind(m, path, &fd, err);
	if (ret)
		return ret;
	uv_pipe_init(loop_uv(control->main), &m->listener, 0);
	m->listener.data = m;
	m->listening = true;
	ret = uv_pipe_open(&m->listener, fd);
	if (ret)
		close(fd);
	else
		ret = uv_listen((uv_stream_t *)&m->listener, METRICS_BACKLOG, metrics_connected);
	return ret ? err_set(err, -ret, "-metrics: cannot listen on '%s': %s", path,
			     uv_strerror(ret))
		   : 0;
}

static void metrics_listener_closed(uv_handle_t *handle)
{
	struct metrics *m = handle->data;

	m->listening = false;
	metrics_free_idle(m);
}

void control_metrics_done(struct control *control)
{
	struct metrics *m = control->metrics;
	struct stat st;

	if (!m)
		return;
	control->metrics = NULL;
	m->control = NULL;
	/* Not one that somebody else put there meanwhile. */
	if (m->path && !lstat(m->path, &st) && st.st_dev == m->dev && st.st_ino == m->ino)
		unlink(m->path);
	for (size_t i = 0; i < METRICS_CLIENTS_MAX; i++)
		if (m->clients[i].handles)
			client_drop(&m->clients[i]);
	if (m->listening)
		uv_close((uv_handle_t *)&m->listener, metrics_listener_closed);
	else
		metrics_free_idle(m);
}

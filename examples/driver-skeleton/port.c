/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The skeleton: the core's ops by a kernel's functions, and the worker that calls the core.
 *
 * I1  Every call of the core is made with the port's lock held, but vmem_driver_config_changed(). The ops
 *     add() and remove() give the lock up while the kernel works.
 * I2  Requests are waited for in submit(), with the lock held: nothing that the kernel calls while a
 *     device works may need it. A kernel that cannot wait returns VMEM_DRIVER_PENDING instead: see
 *     driver/bare/.
 *
 * The device controls: configuration and answers, which the core checks.
 */
#include "port.h"

#include <vmem/driver.h>

#define AVAILABLE_INTERVAL_MS 1000u

struct port {
	struct kernel_virtio *virtio;
	struct kernel_mutex *lock;
	struct kernel_event *event;
	struct vmem_driver *driver; /* guarded by lock */
	void *arena;
	bool sizes; /* the device takes size requests */
};

/* ---- the core's ops ---- */

static int port_result(int ret)
{
	switch (ret) {
	case 0:
		return VMEM_DRIVER_OK;
	case KERNEL_ENOMEM:
		return VMEM_DRIVER_NOMEM;
	case KERNEL_ERANGE:
		return VMEM_DRIVER_NEVER;
	default:
		return VMEM_DRIVER_BUSY;
	}
}

static int port_op_config_read(void *os, struct vmem_config *ret_config)
{
	const struct port *port = os;

	return kernel_virtio_config(port->virtio, ret_config, sizeof(*ret_config))
		       ? VMEM_DRIVER_OK
		       : VMEM_DRIVER_GONE;
}

static int port_op_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	const struct port *port = os;

	return kernel_virtio_exchange(port->virtio, VMEM_QUEUE_REQUEST, req, sizeof(*req), ret_resp,
				      sizeof(*ret_resp))
		       ? VMEM_DRIVER_OK
		       : VMEM_DRIVER_GONE;
}

static int port_op_submit_size(void *os, const struct vmem_size_req *req,
			       struct vmem_size_resp *ret_resp)
{
	const struct port *port = os;

	return kernel_virtio_exchange(port->virtio, VMEM_QUEUE_SIZE, req, sizeof(*req), ret_resp,
				      sizeof(*ret_resp))
		       ? VMEM_DRIVER_OK
		       : VMEM_DRIVER_GONE;
}

static int port_op_add(void *os, uint64_t addr, uint64_t size)
{
	struct port *port = os;
	int ret;

	kernel_mutex_unlock(port->lock);
	ret = kernel_section_add(addr, size, port);
	kernel_mutex_lock(port->lock);
	return port_result(ret);
}

static int port_op_remove(void *os, uint64_t addr, uint64_t size)
{
	struct port *port = os;
	int ret;

	kernel_mutex_unlock(port->lock);
	ret = kernel_section_remove(addr, size);
	kernel_mutex_lock(port->lock);
	return port_result(ret);
}

static int port_op_take(void *os, uint64_t addr, uint64_t size)
{
	(void)os;
	return port_result(kernel_pages_isolate(addr, size));
}

static void port_op_give(void *os, uint64_t addr, uint64_t size)
{
	(void)os;
	kernel_pages_release(addr, size);
}

static uint64_t port_op_used(void *os, uint64_t addr, uint64_t size)
{
	(void)os;
	return kernel_pages_in_use(addr, size);
}

static void port_op_note(void *os, const struct vmem_driver_note *note)
{
	(void)os;
	kernel_log(vmem_driver_note_name(note->kind), note->addr, note->size, note->result);
}

static const struct vmem_driver_ops port_ops = {
	.config_read = port_op_config_read,
	.submit = port_op_submit,
	.submit_size = port_op_submit_size,
	.add = port_op_add,
	.remove = port_op_remove,
	.take = port_op_take,
	.give = port_op_give,
	.used = port_op_used,
	.note = port_op_note,
};

/* ---- life ---- */

static void port_config(const struct port *port, struct vmem_driver_config *ret_config)
{
	*ret_config = (struct vmem_driver_config){
		.unit_bytes = KERNEL_SECTION_BYTES,
		.chunk_bytes = KERNEL_PAGE_RUN,
		.run_max_bytes = 8 * KERNEL_SECTION_BYTES,
		.addr_max = KERNEL_ADDR_MAX,
		.offline_max_bytes = 8 * KERNEL_SECTION_BYTES,
		.size_policy =
			{
				.on = port->sizes,
				.low_bytes = UINT64_C(64) << 20,
				.target_bytes = UINT64_C(256) << 20,
				.high_bytes = UINT64_C(512) << 20,
				.idle_ms = 30000,
			},
	};
}

static bool port_init(struct port *port)
{
	struct vmem_driver_config config;
	struct vmem_config device;
	size_t bytes;

	port->sizes = kernel_virtio_has_feature(port->virtio, VMEM_F_SIZE_REQUEST);
	port_config(port, &config);
	if (!kernel_virtio_config(port->virtio, &device, sizeof(device)))
		return false;
	bytes = vmem_driver_arena_bytes(&config, &device);
	if (bytes == 0)
		return false;
	port->lock = kernel_mutex_new();
	port->event = kernel_event_new();
	port->arena = kernel_alloc(bytes);
	return port->lock && port->event && port->arena &&
	       vmem_driver_init(port->arena, bytes, &config, &port_ops, port, &port->driver) ==
		       VMEM_DRIVER_OK;
}

static void port_done(struct port *port)
{
	kernel_free(port->arena);
	if (port->event)
		kernel_event_free(port->event);
	if (port->lock)
		kernel_mutex_free(port->lock);
	kernel_free(port);
}

struct port *port_new(struct kernel_virtio *virtio)
{
	struct port *port = kernel_alloc(sizeof(*port));

	if (!port)
		return NULL;
	*port = (struct port){.virtio = virtio};
	if (port_init(port))
		return port;
	port_done(port);
	return NULL;
}

/* Tell the core how memory is, as often as it wants to know. */
static void port_tell_available(struct port *port, uint64_t now_ms)
{
	bool waiting;
	uint64_t available = kernel_memory_available(&waiting);

	(void)vmem_driver_available(port->driver, now_ms, available,
				    waiting ? VMEM_SIZE_URGENCY_HIGH : VMEM_SIZE_URGENCY_NORMAL,
				    VMEM_SIZE_REASON_PRESSURE);
}

void port_worker(struct port *port)
{
	struct vmem_driver_info info;
	uint64_t wait_ms, now_ms;

	for (;;) {
		now_ms = kernel_clock_ms();
		kernel_mutex_lock(port->lock);
		if (port->sizes)
			port_tell_available(port, now_ms);
		wait_ms = vmem_driver_run(port->driver, now_ms);
		vmem_driver_info(port->driver, &info);
		kernel_mutex_unlock(port->lock);
		if (info.status == VMEM_DRIVER_LEFT || info.status == VMEM_DRIVER_ENDED)
			return;
		if (port->sizes && wait_ms > AVAILABLE_INTERVAL_MS)
			wait_ms = AVAILABLE_INTERVAL_MS;
		if (wait_ms != VMEM_DRIVER_NOW)
			kernel_event_wait(port->event, wait_ms);
	}
}

void port_stop(struct port *port)
{
	kernel_mutex_lock(port->lock);
	vmem_driver_leave(port->driver);
	kernel_mutex_unlock(port->lock);
	kernel_event_set(port->event);
}

bool port_free(struct port *port)
{
	struct vmem_driver_info info;

	vmem_driver_info(port->driver, &info);
	if (info.plugged_size != 0)
		return false;
	port_done(port);
	return true;
}

/* ---- what the kernel tells ---- */

void port_config_interrupt(struct port *port)
{
	vmem_driver_config_changed(port->driver);
	kernel_event_set(port->event);
}

void port_onlined(struct port *port, uint64_t addr, uint64_t size, bool movable)
{
	kernel_mutex_lock(port->lock);
	vmem_driver_onlined(port->driver, addr, size,
			    movable ? VMEM_DRIVER_MOVABLE : VMEM_DRIVER_IMMOVABLE);
	kernel_mutex_unlock(port->lock);
	kernel_event_set(port->event);
}

void port_offlined(struct port *port, uint64_t addr, uint64_t size)
{
	kernel_mutex_lock(port->lock);
	vmem_driver_offlined(port->driver, addr, size);
	kernel_mutex_unlock(port->lock);
	kernel_event_set(port->event);
}

bool port_usable(struct port *port, uint64_t addr, uint64_t size)
{
	bool usable;

	kernel_mutex_lock(port->lock);
	usable = vmem_driver_usable(port->driver, addr, size);
	kernel_mutex_unlock(port->lock);
	return usable;
}

void port_memory_freed(struct port *port)
{
	kernel_mutex_lock(port->lock);
	vmem_driver_retry(port->driver);
	kernel_mutex_unlock(port->lock);
	kernel_event_set(port->event);
}

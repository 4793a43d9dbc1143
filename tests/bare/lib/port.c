/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver/bare over lib/virtio. Requests lie where lib/vmem.c has them: at the end and the start of pages.
 */
#include <stddef.h>

#include "boot.h"
#include "check.h"
#include "cpu.h"
#include "mem.h"
#include "port.h"
#include "power.h"
#include "text.h"

#define PORT_UNIT_MAX (128ull << 20)
/* A unit that is plugged in part is looked at block by block. */
#define PORT_UNIT_BLOCKS 512u
#define PORT_RUN_MAX     (1ull << 40)
#define PORT_ADDR_MAX    ((1ull << 47) - 1) /* what mem_map() reaches */

/* requested_size within the port's limits, for a driver that has @plugged. */
static uint64_t port_goal(const struct port *port, uint64_t requested, uint64_t plugged)
{
	uint64_t kept = port->keep < plugged ? port->keep : plugged, goal = requested;

	if (goal > port->most)
		goal = port->most;
	if (goal < kept)
		goal = kept;
	if (goal > plugged && goal - plugged > port->step)
		goal = plugged + port->step;
	else if (goal < plugged && plugged - goal > port->step)
		goal = plugged - port->step;
	return goal & ~(port->vmem->block_size - 1);
}

uint64_t port_plugged(const struct port *port)
{
	struct vmem_driver_info info;

	vmem_driver_info(vmem_bare_driver(port->bare), &info);
	return info.plugged_size;
}

static bool port_config_read(void *kernel, struct vmem_config *ret_config)
{
	struct port *port = kernel;

	virtio_config_copy(&port->vmem->virtio, ret_config, sizeof(*ret_config));
	port->requested = ret_config->requested_size;
	ret_config->requested_size =
		port_goal(port, ret_config->requested_size,
			  port->bare != NULL ? port_plugged(port) : ret_config->plugged_size);
	return true;
}

static bool port_send(void *kernel, unsigned int queue, const void *req, uint32_t req_bytes,
		      uint32_t answer_bytes)
{
	struct port *port = kernel;
	struct virtio *virtio = &port->vmem->virtio;
	bool sizes = queue == VMEM_QUEUE_SIZE;
	void *to = sizes ? (void *)port->size_req : (void *)port->vmem->req;
	void *answer = sizes ? (void *)port->size_resp : (void *)port->vmem->resp;
	struct vring *ring = sizes ? &virtio->queue1 : &virtio->queue;
	const struct vring_segment segments[] = {
		{(uint64_t)to, req_bytes, false},
		{(uint64_t)answer, answer_bytes, true},
	};

	if (!sizes)
		memcpy(&port->req, req, sizeof(port->req));
	memcpy(to, req, req_bytes);
	memset(answer, 0xff, answer_bytes);
	if (!vring_add(ring, segments, 2))
		power_die("port: a ring is full");
	if (!vring_kick_needed(ring))
		return true;
	if (sizes)
		virtio_notify1(virtio);
	else
		virtio_notify(virtio);
	return true;
}

static bool port_receive(void *kernel, unsigned int queue, void *answer, uint32_t answer_bytes,
			 uint32_t *ret_bytes)
{
	struct port *port = kernel;
	struct virtio *virtio = &port->vmem->virtio;
	bool sizes = queue == VMEM_QUEUE_SIZE;

	if (!vring_get(sizes ? &virtio->queue1 : &virtio->queue, ret_bytes))
		return false;
	memcpy(answer, sizes ? (void *)port->size_resp : (void *)port->vmem->resp, answer_bytes);
	if (!sizes && port->events != NULL && port->events->answered != NULL)
		port->events->answered(port->arg, &port->req, ((struct vmem_resp *)answer)->type);
	return true;
}

static bool port_map(void *kernel, uint64_t addr, uint64_t size)
{
	(void)kernel;
	mem_map(addr, size);
	return true;
}

static void port_unmap(void *kernel, uint64_t addr, uint64_t size)
{
	const struct port *port = kernel;

	if (port->unmap)
		mem_unmap(addr, size);
}

static void port_came(void *kernel, uint64_t addr, uint64_t size)
{
	const struct port *port = kernel;

	if (port->events != NULL && port->events->came != NULL)
		port->events->came(port->arg, addr, size);
}

static void port_goes(void *kernel, uint64_t addr, uint64_t size)
{
	const struct port *port = kernel;

	if (port->events != NULL && port->events->goes != NULL)
		port->events->goes(port->arg, addr, size);
}

/* What may not happen on a device that works. */
static void port_note(void *kernel, const struct vmem_driver_note *note)
{
	(void)kernel;
	if (note->kind == VMEM_DRIVER_NOTE_REFUSED || note->kind == VMEM_DRIVER_NOTE_BAD_CONFIG ||
	    note->kind == VMEM_DRIVER_NOTE_GONE)
		check(false, "port", "%s: request %u of 0x%lx bytes at 0x%lx, result %d",
		      vmem_driver_note_name(note->kind), note->request, note->size, note->addr,
		      note->result);
}

static const struct vmem_bare_ops port_ops = {
	.config_read = port_config_read,
	.send = port_send,
	.receive = port_receive,
	.map = port_map,
	.unmap = port_unmap,
	.came = port_came,
	.goes = port_goes,
	.note = port_note,
};

void port_config_init(struct vmem_bare_config *config, const struct vmem *vmem)
{
	uint32_t retry_ms = (uint32_t)arg_number("retry", 300000);
	uint64_t places = vmem->addr | vmem->region_size | PORT_UNIT_MAX |
			  vmem->block_size * PORT_UNIT_BLOCKS;

	*config = (struct vmem_bare_config){
		.page_bytes = MEM_PAGE_BYTES,
		.unit_bytes = places & (0 - places),
		.run_max_bytes = PORT_RUN_MAX,
		.addr_max = PORT_ADDR_MAX,
		.retry_min_ms = retry_ms,
		.retry_max_ms = retry_ms,
	};
}

bool port_init(struct port *port, const struct vmem_bare_config *config)
{
	struct vmem_config device;
	uint64_t pages, count;
	size_t bytes;
	int result;

	if (port->size_req == NULL && port->vmem->virtio.second) {
		pages = (uint64_t)mem_pages(2) + MEM_PAGE_BYTES;
		port->size_req = (struct vmem_size_req *)(pages - sizeof(struct vmem_size_req));
		port->size_resp = (struct vmem_size_resp *)pages;
	}
	virtio_config_copy(&port->vmem->virtio, &device, sizeof(device));
	bytes = vmem_bare_bytes(config, &device);
	if (!check(bytes != 0, "port-bytes", "the driver cannot drive this device"))
		return false;
	if (bytes > port->memory_bytes) {
		count = MEM_ALIGN(bytes, MEM_PAGE_BYTES) / MEM_PAGE_BYTES;
		port->memory = mem_pages(count);
		port->memory_bytes = count * MEM_PAGE_BYTES;
	}
	port->bare = NULL;
	port->work = true;
	result = vmem_bare_init(port->memory, port->memory_bytes, config, &port_ops, port,
				&port->bare);
	return check(result == VMEM_DRIVER_OK, "port-init", "result %d", result);
}

bool port_due(const struct port *port)
{
	const struct virtio *v = &port->vmem->virtio;

	return port->work || v->irq == VIRTIO_POLL || port->seen_config != v->config_interrupts ||
	       port->seen_queue != v->queue_interrupts || virtio_now_ms() >= port->next_ms;
}

void port_work(struct port *port)
{
	const struct virtio *v = &port->vmem->virtio;
	uint64_t wait_ms, now_ms;

	port->work = false;
	if (v->irq == VIRTIO_POLL)
		vmem_bare_config_changed(port->bare);
	do {
		uint64_t config = v->config_interrupts;

		now_ms = virtio_now_ms();
		port->seen_queue = v->queue_interrupts;
		if (config != port->seen_config)
			vmem_bare_config_changed(port->bare);
		port->seen_config = config;
		wait_ms = vmem_bare_turn(port->bare, now_ms);
	} while (wait_ms == VMEM_DRIVER_NOW);
	port->next_ms = wait_ms == VMEM_DRIVER_IDLE ? UINT64_MAX : now_ms + wait_ms;
}

bool port_rests(const struct port *port)
{
	struct vmem_driver_info info;

	vmem_driver_info(vmem_bare_driver(port->bare), &info);
	return !port->work && !vmem_bare_waits(port->bare) && info.status != VMEM_DRIVER_STARTING &&
	       info.status != VMEM_DRIVER_WORKING && info.status != VMEM_DRIVER_LEAVING;
}

bool port_more(const struct port *port)
{
	struct vmem_driver_info info;

	vmem_driver_info(vmem_bare_driver(port->bare), &info);
	return info.status == VMEM_DRIVER_THERE &&
	       port_goal(port, port->requested, info.plugged_size) != info.plugged_size;
}

void port_finish(struct port *port)
{
	uint64_t start = cpu_ticks();

	while (vmem_bare_waits(port->bare)) {
		if (cpu_ticks() - start > CPU_PATIENCE)
			power_die("port: no answer");
		if (port_due(port))
			port_work(port);
		else
			virtio_idle(&port->vmem->virtio);
	}
}

void port_limits_changed(struct port *port)
{
	vmem_bare_config_changed(port->bare);
	port->work = true;
}

void port_kick(struct port *port)
{
	port->work = true;
}

void port_restarted(struct port *port)
{
	vmem_bare_restarted(port->bare);
	port->work = true;
}

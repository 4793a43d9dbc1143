/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The core's ops over an allocator of page runs (pages.h) and a kernel's virtio code (struct
 * vmem_bare_ops). VIRTIO 1.3, 5.15.
 *
 * A unit is used from the moment in which it is mapped: add() brings it online itself, so no unit is
 * ever offline. Requests are PENDING; vmem_bare_turn() looks for answers.
 *
 * Memory: struct vmem_bare, the allocator's bits, the core's arena, in this order.
 *
 * The device controls: the bytes of configuration and answers, and their number; both go to the core as
 * they are, which checks them. An answer that is too short is a device that does not work.
 */
#include "driver/bare/bare.h"

#include "driver/bare/pages.h"

#define BARE_ALIGN        16u
#define BARE_QUEUES       VMEM_QUEUE_COUNT
#define BARE_AVAILABLE_MS 1000u /* how often the core is told what is available */

struct vmem_bare {
	const struct vmem_bare_ops *ops;
	void *kernel;
	struct vmem_driver *driver;
	struct vmem_pages pages;
	uint64_t unit_bytes, chunk_bytes;
	uint64_t told_ms; /* when the core was told last what is available */
	bool mapped, size_policy;
	bool due[BARE_QUEUES]; /* an answer */
	bool paused;           /* the core tries again later: what is freed may let it go on */
};

/* A field of the device's configuration: little-endian, whatever the machine is. */
static uint64_t bare_le64(const uint64_t *field)
{
	const uint8_t *bytes = (const uint8_t *)field;
	uint64_t value = 0;

	for (unsigned int i = 8; i-- > 0;)
		value = value << 8 | bytes[i];
	return value;
}

static bool bare_is_pow2(uint64_t x)
{
	return x != 0 && (x & (x - 1)) == 0;
}

static void bare_driver_config(const struct vmem_bare_config *config,
			       struct vmem_driver_config *ret)
{
	*ret = (struct vmem_driver_config){
		.unit_bytes = config->unit_bytes,
		.run_max_bytes = config->run_max_bytes,
		.addr_min = config->addr_min,
		.addr_max = config->addr_max,
		.resume = config->resume,
		.retry_min_ms = config->retry_min_ms,
		.retry_max_ms = config->retry_max_ms,
		.size_policy = config->size_policy,
	};
}

static size_t bare_round(size_t bytes)
{
	return (bytes + BARE_ALIGN - 1) & ~(size_t)(BARE_ALIGN - 1);
}

/* ---- the core's ops ---- */

static int bare_config_read(void *os, struct vmem_config *ret_config)
{
	struct vmem_bare *bare = os;

	return bare->ops->config_read(bare->kernel, ret_config) ? VMEM_DRIVER_OK : VMEM_DRIVER_GONE;
}

static int bare_send(struct vmem_bare *bare, unsigned int queue, const void *req, size_t req_bytes,
		     size_t answer_bytes)
{
	bare->due[queue] = true;
	if (bare->ops->send(bare->kernel, queue, req, (uint32_t)req_bytes, (uint32_t)answer_bytes))
		return VMEM_DRIVER_PENDING;
	bare->due[queue] = false;
	return VMEM_DRIVER_GONE;
}

static int bare_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	return bare_send(os, VMEM_QUEUE_REQUEST, req, sizeof(*req), sizeof(*ret_resp));
}

static int bare_submit_size(void *os, const struct vmem_size_req *req,
			    struct vmem_size_resp *ret_resp)
{
	return bare_send(os, VMEM_QUEUE_SIZE, req, sizeof(*req), sizeof(*ret_resp));
}

static void bare_put(struct vmem_bare *bare, uint64_t addr, uint64_t size)
{
	vmem_pages_put(&bare->pages, addr, size);
	if (bare->ops->came != NULL)
		bare->ops->came(bare->kernel, addr, size);
}

static void bare_put_chunks(struct vmem_bare *bare, uint64_t addr, uint64_t size)
{
	for (uint64_t end = addr + size; addr != end; addr += bare->chunk_bytes)
		if (vmem_driver_usable(bare->driver, addr, bare->chunk_bytes))
			bare_put(bare, addr, bare->chunk_bytes);
}

/* All that may be used of whole units; mostly that is all of them. */
static void bare_put_units(struct vmem_bare *bare, uint64_t addr, uint64_t size)
{
	if (vmem_driver_usable(bare->driver, addr, size)) {
		bare_put(bare, addr, size);
		return;
	}
	for (uint64_t end = addr + size; addr != end; addr += bare->unit_bytes) {
		if (vmem_driver_usable(bare->driver, addr, bare->unit_bytes))
			bare_put(bare, addr, bare->unit_bytes);
		else
			bare_put_chunks(bare, addr, bare->unit_bytes);
	}
}

static int bare_add(void *os, uint64_t addr, uint64_t size)
{
	struct vmem_bare *bare = os;

	if (bare->mapped && !bare->ops->map(bare->kernel, addr, size))
		return VMEM_DRIVER_NOMEM;
	vmem_driver_onlined(bare->driver, addr, size, VMEM_DRIVER_IMMOVABLE);
	bare_put_units(bare, addr, size);
	return VMEM_DRIVER_OK;
}

static int bare_remove(void *os, uint64_t addr, uint64_t size)
{
	struct vmem_bare *bare = os;

	if (!vmem_pages_take_there(&bare->pages, addr, size))
		return VMEM_DRIVER_BUSY;
	if (bare->ops->goes != NULL)
		bare->ops->goes(bare->kernel, addr, size);
	if (bare->mapped)
		bare->ops->unmap(bare->kernel, addr, size);
	return VMEM_DRIVER_OK;
}

static int bare_take(void *os, uint64_t addr, uint64_t size)
{
	struct vmem_bare *bare = os;

	if (!vmem_pages_take(&bare->pages, addr, size))
		return VMEM_DRIVER_BUSY;
	if (bare->ops->goes != NULL)
		bare->ops->goes(bare->kernel, addr, size);
	return VMEM_DRIVER_OK;
}

static void bare_give(void *os, uint64_t addr, uint64_t size)
{
	bare_put(os, addr, size);
}

static uint64_t bare_used(void *os, uint64_t addr, uint64_t size)
{
	const struct vmem_bare *bare = os;

	return vmem_pages_used(&bare->pages, addr, size);
}

static void bare_note(void *os, const struct vmem_driver_note *note)
{
	const struct vmem_bare *bare = os;

	if (bare->ops->note != NULL)
		bare->ops->note(bare->kernel, note);
}

static const struct vmem_driver_ops bare_driver_ops = {
	.config_read = bare_config_read,
	.submit = bare_submit,
	.submit_size = bare_submit_size,
	.add = bare_add,
	.remove = bare_remove,
	.take = bare_take,
	.give = bare_give,
	.used = bare_used,
	.note = bare_note,
};

/* ---- life ---- */

size_t vmem_bare_bytes(const struct vmem_bare_config *config, const struct vmem_config *device)
{
	uint64_t region_size = bare_le64(&device->region_size);
	struct vmem_driver_config driver_config;
	size_t arena;

	bare_driver_config(config, &driver_config);
	arena = vmem_driver_arena_bytes(&driver_config, device);
	if (arena == 0 || !bare_is_pow2(config->page_bytes) ||
	    config->page_bytes > bare_le64(&device->block_size))
		return 0;
	return bare_round(sizeof(struct vmem_bare)) +
	       vmem_pages_bytes(region_size, config->page_bytes) + arena;
}

int vmem_bare_init(void *memory, size_t bytes, const struct vmem_bare_config *config,
		   const struct vmem_bare_ops *ops, void *kernel, struct vmem_bare **ret_bare)
{
	struct vmem_bare *bare = memory;
	uint8_t *next = (uint8_t *)memory + bare_round(sizeof(*bare));
	struct vmem_driver_config driver_config;
	struct vmem_driver_info info;
	struct vmem_config device;
	uint64_t region_size;
	int result;

	if (!ops->config_read(kernel, &device))
		return VMEM_DRIVER_GONE;
	if (vmem_bare_bytes(config, &device) == 0)
		return VMEM_DRIVER_INVALID;
	if (vmem_bare_bytes(config, &device) > bytes)
		return VMEM_DRIVER_NOMEM;
	*bare = (struct vmem_bare){
		.ops = ops,
		.kernel = kernel,
		.mapped = config->unit_bytes != 0 && ops->map != NULL && ops->unmap != NULL,
		.size_policy = config->size_policy.on,
	};
	region_size = bare_le64(&device.region_size);
	vmem_pages_init(&bare->pages, bare_le64(&device.addr), region_size, config->page_bytes,
			next);
	next += vmem_pages_bytes(region_size, config->page_bytes);
	bare_driver_config(config, &driver_config);
	result = vmem_driver_init(next, bytes - (size_t)(next - (uint8_t *)memory), &driver_config,
				  &bare_driver_ops, bare, &bare->driver);
	if (result != VMEM_DRIVER_OK)
		return result;
	vmem_driver_info(bare->driver, &info);
	bare->unit_bytes = info.unit_bytes;
	bare->chunk_bytes = info.chunk_bytes;
	*ret_bare = bare;
	return VMEM_DRIVER_OK;
}

static void bare_receive(struct vmem_bare *bare)
{
	struct vmem_size_resp size_resp;
	struct vmem_resp resp;
	uint32_t bytes = 0;

	if (bare->due[VMEM_QUEUE_REQUEST] &&
	    bare->ops->receive(bare->kernel, VMEM_QUEUE_REQUEST, &resp, sizeof(resp), &bytes)) {
		bare->due[VMEM_QUEUE_REQUEST] = false;
		vmem_driver_answered(bare->driver, bytes < sizeof(resp) ? NULL : &resp);
	}
	if (bare->due[VMEM_QUEUE_SIZE] &&
	    bare->ops->receive(bare->kernel, VMEM_QUEUE_SIZE, &size_resp, sizeof(size_resp),
			       &bytes)) {
		bare->due[VMEM_QUEUE_SIZE] = false;
		vmem_driver_size_answered(bare->driver,
					  bytes < sizeof(size_resp) ? NULL : &size_resp);
	}
}

uint64_t vmem_bare_turn(struct vmem_bare *bare, uint64_t now_ms)
{
	uint64_t wait_ms;

	bare_receive(bare);
	if (bare->size_policy && now_ms - bare->told_ms >= BARE_AVAILABLE_MS) {
		bare->told_ms = now_ms;
		(void)vmem_driver_available(bare->driver, now_ms, bare->pages.free_bytes,
					    VMEM_SIZE_URGENCY_NORMAL, VMEM_SIZE_REASON_PRESSURE);
	}
	wait_ms = vmem_driver_run(bare->driver, now_ms);
	bare->paused = wait_ms != VMEM_DRIVER_NOW && wait_ms != VMEM_DRIVER_IDLE;
	if (bare->size_policy && wait_ms > BARE_AVAILABLE_MS)
		wait_ms = BARE_AVAILABLE_MS;
	return wait_ms;
}

void vmem_bare_config_changed(struct vmem_bare *bare)
{
	vmem_driver_config_changed(bare->driver);
}

bool vmem_bare_waits(const struct vmem_bare *bare)
{
	return bare->due[VMEM_QUEUE_REQUEST] || bare->due[VMEM_QUEUE_SIZE];
}

void vmem_bare_restarted(struct vmem_bare *bare)
{
	for (unsigned int queue = 0; queue < BARE_QUEUES; queue++)
		bare->due[queue] = false;
	vmem_driver_restarted(bare->driver);
}

/* ---- memory ---- */

uint64_t vmem_bare_alloc(struct vmem_bare *bare, uint64_t size)
{
	return vmem_pages_alloc(&bare->pages, size);
}

bool vmem_bare_free(struct vmem_bare *bare, uint64_t addr, uint64_t size)
{
	if (!vmem_pages_free(&bare->pages, addr, size) || !bare->paused)
		return false;
	bare->paused = false;
	vmem_driver_retry(bare->driver);
	return true;
}

bool vmem_bare_need(struct vmem_bare *bare, uint64_t now_ms, uint64_t size, uint16_t urgency)
{
	uint64_t free = bare->pages.free_bytes;

	if (!bare->size_policy)
		return false;
	bare->told_ms = now_ms;
	return vmem_driver_available(bare->driver, now_ms, free > size ? free - size : 0, urgency,
				     VMEM_SIZE_REASON_ALLOCATION);
}

uint64_t vmem_bare_free_bytes(const struct vmem_bare *bare)
{
	return bare->pages.free_bytes;
}

uint64_t vmem_bare_used_bytes(const struct vmem_bare *bare)
{
	return bare->pages.there_bytes - bare->pages.free_bytes;
}

struct vmem_driver *vmem_bare_driver(struct vmem_bare *bare)
{
	return bare->driver;
}

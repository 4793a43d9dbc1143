/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver/bare: its allocator beside an array that says the same, and the port as a whole with the device
 * engine behind it, with an allocator that is used while sizes change at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <vmem/device.h>

#include "driver/bare/bare.h"
#include "driver/bare/pages.h"

#define ADDR   UINT64_C(0x140000000)
#define PAGE   4096u
#define PAGES  700u
#define BLOCK  (16u * PAGE)
#define BLOCKS 64u
#define PIECES 64u
#define STEPS  20000u
#define CALM   20000u

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t end)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % end;
}

/* ---- the allocator ---- */

enum page { PAGE_GONE, PAGE_FREE, PAGE_USED };

static bool all_are(const enum page *pages, uint32_t first, uint32_t nr, enum page what)
{
	for (uint32_t i = first; i < first + nr; i++)
		if (pages[i] != what)
			return false;
	return true;
}

static void set_all(enum page *pages, uint32_t first, uint32_t nr, enum page what)
{
	for (uint32_t i = first; i < first + nr; i++)
		pages[i] = what;
}

/* The lowest run of free pages; PAGES when there is none. */
static uint32_t lowest(const enum page *pages, uint32_t nr)
{
	for (uint32_t i = 0; i + nr <= PAGES; i++)
		if (all_are(pages, i, nr, PAGE_FREE))
			return i;
	return PAGES;
}

static uint64_t count(const enum page *pages, uint32_t first, uint32_t nr, enum page what)
{
	uint64_t sum = 0;

	for (uint32_t i = first; i < first + nr; i++)
		sum += pages[i] == what;
	return sum;
}

static void pages_step(struct vmem_pages *p, enum page *pages)
{
	uint32_t nr = 1 + random_below(random_below(4) ? 8 : 200),
		 first = random_below(PAGES - 200);
	uint64_t addr = ADDR + (uint64_t)first * PAGE, size = (uint64_t)nr * PAGE;
	uint32_t place = lowest(pages, nr);

	switch (random_below(5)) {
	case 0:
		if (!all_are(pages, first, nr, PAGE_GONE))
			break;
		vmem_pages_put(p, addr, size);
		set_all(pages, first, nr, PAGE_FREE);
		break;
	case 1:
		assert_int_equal(vmem_pages_take(p, addr, size),
				 all_are(pages, first, nr, PAGE_FREE));
		if (all_are(pages, first, nr, PAGE_FREE))
			set_all(pages, first, nr, PAGE_GONE);
		break;
	case 2:
		assert_int_equal(vmem_pages_take_there(p, addr, size),
				 count(pages, first, nr, PAGE_USED) == 0);
		if (count(pages, first, nr, PAGE_USED) == 0)
			set_all(pages, first, nr, PAGE_GONE);
		break;
	case 3:
		addr = vmem_pages_alloc(p, size - random_below(PAGE));
		assert_int_equal(addr, place == PAGES ? 0 : ADDR + (uint64_t)place * PAGE);
		if (place != PAGES)
			set_all(pages, place, nr, PAGE_USED);
		break;
	default:
		assert_int_equal(vmem_pages_free(p, addr, size),
				 all_are(pages, first, nr, PAGE_USED));
		if (all_are(pages, first, nr, PAGE_USED))
			set_all(pages, first, nr, PAGE_FREE);
		break;
	}
	assert_int_equal(vmem_pages_used(p, ADDR + (uint64_t)first * PAGE, size),
			 count(pages, first, nr, PAGE_USED) * PAGE);
	assert_int_equal(p->free_bytes, count(pages, 0, PAGES, PAGE_FREE) * PAGE);
	assert_int_equal(p->there_bytes, p->free_bytes + count(pages, 0, PAGES, PAGE_USED) * PAGE);
}

static void test_pages(void **state)
{
	static enum page pages[PAGES];
	void *memory = malloc(vmem_pages_bytes(PAGES * PAGE, PAGE));
	struct vmem_pages p;

	(void)state;
	vmem_pages_init(&p, ADDR, PAGES * PAGE, PAGE, memory);
	for (uint32_t i = 0; i < STEPS; i++)
		pages_step(&p, pages);
	/* what is no run of the region */
	assert_false(vmem_pages_take_there(&p, ADDR - PAGE, PAGE));
	assert_false(vmem_pages_take_there(&p, ADDR + PAGES * PAGE, PAGE));
	assert_false(vmem_pages_take_there(&p, ADDR, (PAGES + 1) * PAGE));
	assert_false(vmem_pages_free(&p, ADDR + 1, PAGE));
	assert_false(vmem_pages_free(&p, ADDR, UINT64_MAX));
	assert_int_equal(vmem_pages_alloc(&p, UINT64_MAX), 0);
	assert_int_equal(vmem_pages_alloc(&p, 0), 0);
	free(memory);
}

/* ---- the port ---- */

struct kernel {
	struct vmem_device *device;
	struct vmem_bare *bare;
	struct vmem_req req; /* under way */
	bool waits, short_answers;
	bool mapped[BLOCKS];
	bool gone;
	unsigned int map_failures; /* of the next calls */
	uint64_t pieces[PIECES];   /* of a few pages each */
	uint64_t now_ms;
};

static int host_ok(void *host, uint64_t offset, uint64_t size)
{
	(void)host;
	(void)offset;
	(void)size;
	return 0;
}

static void host_config_changed(void *host)
{
	struct kernel *k = host;

	if (k->bare)
		vmem_bare_config_changed(k->bare);
}

static const struct vmem_host_ops host_ops = {
	.grant = host_ok,
	.revoke = host_ok,
	.discard = host_ok,
	.config_changed = host_config_changed,
};

static bool kernel_config_read(void *kernel, struct vmem_config *ret_config)
{
	struct kernel *k = kernel;

	vmem_device_config_read(k->device, ret_config);
	return !k->gone;
}

static bool kernel_send(void *kernel, unsigned int queue, const void *req, uint32_t req_bytes,
			uint32_t answer_bytes)
{
	struct kernel *k = kernel;

	assert_int_equal(queue, VMEM_QUEUE_REQUEST);
	assert_int_equal(req_bytes, sizeof(k->req));
	assert_int_equal(answer_bytes, sizeof(struct vmem_resp));
	assert_false(k->waits);
	if (k->gone)
		return false;
	memcpy(&k->req, req, sizeof(k->req));
	k->waits = true;
	return true;
}

/* The device takes its time. */
static bool kernel_receive(void *kernel, unsigned int queue, void *answer, uint32_t answer_bytes,
			   uint32_t *ret_bytes)
{
	struct kernel *k = kernel;

	(void)queue;
	if (!k->waits || random_below(3) == 0)
		return false;
	k->waits = false;
	vmem_device_request(k->device, &k->req, answer);
	*ret_bytes = k->short_answers ? answer_bytes - 1 : answer_bytes;
	return true;
}

static void kernel_mark(struct kernel *k, uint64_t addr, uint64_t size, bool mapped)
{
	for (uint64_t block = (addr - ADDR) / BLOCK; block < (addr + size - ADDR) / BLOCK;
	     block++) {
		assert_int_equal(k->mapped[block], !mapped);
		k->mapped[block] = mapped;
	}
}

static bool kernel_map(void *kernel, uint64_t addr, uint64_t size)
{
	struct kernel *k = kernel;

	if (k->map_failures != 0) {
		k->map_failures--;
		return false;
	}
	kernel_mark(k, addr, size, true);
	return true;
}

static void kernel_unmap(void *kernel, uint64_t addr, uint64_t size)
{
	kernel_mark(kernel, addr, size, false);
}

static const struct vmem_bare_ops kernel_ops = {
	.config_read = kernel_config_read,
	.send = kernel_send,
	.receive = kernel_receive,
	.map = kernel_map,
	.unmap = kernel_unmap,
};

static void *kernel_init(struct kernel *k, uint64_t unit_bytes)
{
	const struct vmem_device_config device = {
		.addr = ADDR, .region_size = BLOCKS * BLOCK, .block_size = BLOCK};
	const struct vmem_bare_config config = {
		.page_bytes = PAGE,
		.unit_bytes = unit_bytes,
		.run_max_bytes = 4 * unit_bytes,
		.addr_max = UINT64_MAX,
		.retry_min_ms = 10,
		.retry_max_ms = 100,
	};
	struct vmem_config space;
	void *memory;
	size_t bytes;

	*k = (struct kernel){0};
	assert_int_equal(vmem_device_new(&device, &host_ops, k, &k->device), 0);
	vmem_device_config_read(k->device, &space);
	bytes = vmem_bare_bytes(&config, &space);
	assert_int_not_equal(bytes, 0);
	memory = aligned_alloc(16, bytes + 16);
	assert_int_equal(vmem_bare_init(memory, bytes - 1, &config, &kernel_ops, k, &k->bare),
			 VMEM_DRIVER_NOMEM);
	assert_int_equal(vmem_bare_init(memory, bytes, &config, &kernel_ops, k, &k->bare),
			 VMEM_DRIVER_OK);
	return memory;
}

static uint64_t kernel_plugged(const struct kernel *k)
{
	struct vmem_device_info info;

	vmem_device_info(k->device, &info);
	return info.plugged_size;
}

/* What is allocated is plugged, whatever happens, and mapped if that is done at all. */
static void kernel_check(const struct kernel *k, bool maps)
{
	for (unsigned int i = 0; i < PIECES; i++) {
		if (k->pieces[i] == 0)
			continue;
		assert_true(vmem_device_plugged(k->device, k->pieces[i], 3 * PAGE));
		assert_true(!maps || (k->mapped[(k->pieces[i] - ADDR) / BLOCK] &&
				      k->mapped[(k->pieces[i] + 3 * PAGE - 1 - ADDR) / BLOCK]));
	}
	assert_true(vmem_bare_free_bytes(k->bare) + vmem_bare_used_bytes(k->bare) <=
		    kernel_plugged(k));
}

static void kernel_step(struct kernel *k)
{
	uint64_t *piece = &k->pieces[random_below(PIECES)];
	uint64_t wait_ms;

	switch (random_below(8)) {
	case 0:
		assert_int_equal(
			vmem_device_resize(k->device, (uint64_t)random_below(BLOCKS + 1) * BLOCK),
			0);
		break;
	case 1:
	case 2:
		if (*piece == 0)
			*piece = vmem_bare_alloc(k->bare, 3 * PAGE);
		break;
	case 3:
		if (*piece != 0)
			vmem_bare_free(k->bare, *piece, 3 * PAGE);
		*piece = 0;
		break;
	case 4:
		if (random_below(20) == 0)
			k->map_failures = random_below(4);
		break;
	default:
		wait_ms = vmem_bare_turn(k->bare, k->now_ms);
		if (wait_ms != VMEM_DRIVER_NOW)
			k->now_ms += wait_ms == VMEM_DRIVER_IDLE ? 1 : wait_ms;
		break;
	}
}

/* Turn until the device has what it asks for; as many as that may take. */
static void kernel_calm(struct kernel *k, uint64_t size)
{
	struct vmem_driver_info info;

	k->map_failures = 0;
	assert_int_equal(vmem_device_resize(k->device, size), 0);
	for (unsigned int i = 0; i < CALM && (kernel_plugged(k) != size || k->waits); i++) {
		uint64_t wait_ms = vmem_bare_turn(k->bare, k->now_ms);

		if (wait_ms != VMEM_DRIVER_NOW)
			k->now_ms += wait_ms == VMEM_DRIVER_IDLE ? 1 : wait_ms;
	}
	assert_int_equal(kernel_plugged(k), size);
	vmem_driver_info(vmem_bare_driver(k->bare), &info);
	assert_int_equal(info.offline_size, 0);
}

static void port_story(uint64_t unit_bytes)
{
	struct kernel k;
	void *memory = kernel_init(&k, unit_bytes);

	for (unsigned int i = 0; i < STEPS; i++) {
		kernel_step(&k);
		kernel_check(&k, unit_bytes != 0);
	}
	/* in use, it stays; freed, all of it goes */
	kernel_calm(&k, BLOCKS * BLOCK);
	for (unsigned int i = 0; i < PIECES; i++) {
		if (k.pieces[i] != 0)
			vmem_bare_free(k.bare, k.pieces[i], 3 * PAGE);
		k.pieces[i] = 0;
	}
	kernel_calm(&k, 0);
	assert_int_equal(vmem_bare_free_bytes(k.bare) + vmem_bare_used_bytes(k.bare), 0);
	vmem_device_free(k.device);
	free(memory);
}

static void test_units(void **state)
{
	(void)state;
	port_story(4 * BLOCK);
	port_story(BLOCK);
}

static void test_accounting(void **state)
{
	(void)state;
	port_story(0);
}

/* What was allocated stays with a device that does not answer, or not with all of its words. */
static void test_broken(void **state)
{
	struct vmem_driver_info info;

	(void)state;
	for (unsigned int kind = 0; kind < 2; kind++) {
		struct kernel k;
		void *memory = kernel_init(&k, BLOCK);
		uint64_t used;

		kernel_calm(&k, 8 * BLOCK);
		for (unsigned int i = 0; i < 4; i++)
			vmem_bare_turn(k.bare, k.now_ms);
		used = vmem_bare_alloc(k.bare, 5 * BLOCK);
		assert_int_not_equal(used, 0);
		k.gone = kind == 0;
		k.short_answers = kind == 1;
		assert_int_equal(vmem_device_resize(k.device, BLOCKS * BLOCK), 0);
		for (unsigned int i = 0; i < 100; i++)
			vmem_bare_turn(k.bare, k.now_ms);
		vmem_driver_info(vmem_bare_driver(k.bare), &info);
		assert_int_equal(info.status, VMEM_DRIVER_ENDED);
		assert_int_equal(vmem_bare_used_bytes(k.bare), 5 * BLOCK);
		assert_true(vmem_device_plugged(k.device, used, 5 * BLOCK));
		/* and goes on when it works again */
		k.gone = k.short_answers = k.waits = false;
		vmem_bare_restarted(k.bare);
		kernel_calm(&k, BLOCKS * BLOCK);
		vmem_device_free(k.device);
		free(memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_accounting),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

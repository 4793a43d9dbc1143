/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern: a guest whose memory changes all the time and which knows what must be in it: each page
 * holds a number made of its address and of how often it was written. It allocates all that the driver
 * has, and where the device asks for less it frees blocks in no order, which the driver then gives back.
 * It checks each page before it writes it again, each block before it frees it, and that a block is
 * empty when it was plugged. So whatever happens to the machine's memory on the way (a move to another
 * host, a file) is noticed.
 *
 *	devices=N	memory devices (1), of PATTERN_BLOCKS blocks at most
 *	arena=SIZE	boot memory that is written, from PATTERN_ARENA on (8M)
 *	fill=1		all of it is written once before the guest is ready
 *	rate=N		pages written a turn (16); 0: it rests, and only follows
 *	step=N		blocks that are taken into use or freed in a row (4)
 *	retry=MS	how long the driver waits before it tries again what was refused (300000)
 *
 * Processors but the first write the arena, each its own pages; the first one the devices' memory.
 * It prints "pattern: ready". Orders, one a line:
 *	report		"pattern turns=N written=N others=N wrong=N plugged=BYTES requested=BYTES": what
 *			was written by this and by other processors, what was found wrong
 *	check		look at all of it: "checked pages=N wrong=N"
 *	rate N		"rates N"
 *	quit		end the test
 * What is wrong is told as it is found: "WRONG at=GPA is=VALUE should=VALUE".
 */
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/port.h"
#include "lib/power.h"
#include "lib/smp.h"
#include "lib/text.h"
#include "lib/trap.h"
#include "tests.h"

#define LINES_VECTOR   0x28u
#define PATTERN_ARENA  0x2000000ull
#define PATTERN_PAGES  0x40000u /* of all there is: 1 GiB */
#define PATTERN_BLOCKS 512u     /* of a device */
#define PATTERN_LAST   (MEM_PAGE_BYTES - 8)
#define PATTERN_TOLD   20u /* wrong pages that are printed */

/* A run of pages whose numbers of writes are at times[first]. */
struct area {
	uint64_t gpa;
	uint32_t first, pages;
};

struct source {
	struct port port;
	struct area area;
	uint64_t block_size;
	uint32_t block_pages, blocks, used;
	bool present[PATTERN_BLOCKS]; /* in use */
};

static struct vmem devices[VMEM_MAX];
static struct source sources[VMEM_MAX];
static struct area arena;
static uint32_t times[PATTERN_PAGES];
static uint64_t wrong, others_written;
static volatile uint64_t rate;
static uint64_t step;
static volatile bool over;

/* ---- pages ---- */

static uint64_t pattern_of(uint64_t gpa, uint64_t time)
{
	uint64_t x = gpa ^ time * 0x9e3779b97f4a7c15ull;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return time == 0 ? 0 : x ^ x >> 32;
}

static uint64_t pattern_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void pattern_expect(uint64_t gpa, uint64_t should)
{
	uint64_t is = cpu_load64(gpa);

	if (is == should)
		return;
	if (__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED) <= PATTERN_TOLD)
		console_printf("WRONG at=0x%lx is=0x%lx should=0x%lx\n", gpa, is, should);
}

static void pattern_check(const struct area *a, uint32_t page)
{
	uint64_t gpa = a->gpa + (uint64_t)page * MEM_PAGE_BYTES;
	uint64_t should = pattern_of(gpa, times[a->first + page]);

	pattern_expect(gpa, should);
	pattern_expect(gpa + PATTERN_LAST, should);
}

static void pattern_write(const struct area *a, uint32_t page)
{
	uint64_t gpa = a->gpa + (uint64_t)page * MEM_PAGE_BYTES, value;

	pattern_check(a, page);
	value = pattern_of(gpa, ++times[a->first + page]);
	cpu_store64(gpa, value);
	cpu_store64(gpa + PATTERN_LAST, value);
}

/* ---- blocks ---- */

/* A block that is in use, the next one from somewhere on; there is one. */
static uint32_t pattern_find(const struct source *s, uint64_t *seed)
{
	uint32_t block = (uint32_t)(pattern_random(seed) % s->blocks);

	while (!s->present[block])
		block = (block + 1) % s->blocks;
	return block;
}

/* What a request that was answered did to the content of blocks. */
static void pattern_answered(void *arg, const struct vmem_req *req, uint16_t answer)
{
	struct source *s = arg;
	uint64_t page = (req->addr - s->area.gpa) / MEM_PAGE_BYTES;
	uint64_t pages = (uint64_t)req->nb_blocks * s->block_pages;
	bool lost = req->type == VMEM_REQ_UNPLUG && answer == VMEM_RESP_BUSY;

	if (!lost && (req->type != VMEM_REQ_PLUG || answer != VMEM_RESP_ACK))
		return;
	if (page + pages > s->area.pages)
		power_die("pattern: a block beyond those that it has numbers for");
	for (uint64_t i = page; i < page + pages; i++) {
		uint64_t gpa = s->area.gpa + i * MEM_PAGE_BYTES;

		times[s->area.first + i] = 0;
		if (lost) {
			cpu_store64(gpa, 0);
			cpu_store64(gpa + PATTERN_LAST, 0);
		}
	}
}

static const struct port_events pattern_events = {.answered = pattern_answered};

/* The lowest block that is free; false when there is none. */
static bool pattern_take(struct source *s)
{
	uint64_t gpa = vmem_bare_alloc(s->port.bare, s->block_size);
	uint32_t block = (uint32_t)((gpa - s->area.gpa) / s->block_size);

	if (gpa == 0)
		return false;
	if (block >= s->blocks || s->present[block])
		power_die("pattern: a block that it cannot have");
	s->present[block] = true;
	s->used++;
	for (uint32_t i = 0; i < s->block_pages; i++)
		pattern_write(&s->area, block * s->block_pages + i);
	return true;
}

static void pattern_free(struct source *s, uint32_t block)
{
	for (uint32_t i = 0; i < s->block_pages; i++)
		pattern_check(&s->area, block * s->block_pages + i);
	s->present[block] = false;
	s->used--;
	if (vmem_bare_free(s->port.bare, s->area.gpa + (uint64_t)block * s->block_size,
			   s->block_size))
		port_kick(&s->port);
}

/* What it is to have, as last read. */
static uint32_t pattern_goal(const struct source *s)
{
	uint64_t goal = s->port.requested / s->block_size;

	return goal < s->blocks ? (uint32_t)goal : s->blocks;
}

/* A few blocks towards what is asked for; whether there is more to do. */
static bool pattern_follow(struct source *s, uint64_t *seed)
{
	uint32_t goal;

	if (port_due(&s->port))
		port_work(&s->port);
	goal = pattern_goal(s);
	for (uint64_t i = 0; i < step && s->used != goal; i++) {
		if (s->used > goal)
			pattern_free(s, pattern_find(s, seed));
		else if (!pattern_take(s))
			break;
	}
	/* the next step follows when this one is there */
	if (port_rests(&s->port) && port_more(&s->port))
		port_limits_changed(&s->port);
	return port_due(&s->port) || s->used > goal ||
	       (s->used < goal && vmem_bare_free_bytes(s->port.bare) != 0);
}

static bool pattern_due(unsigned int count)
{
	for (unsigned int d = 0; d < count; d++)
		if (port_due(&sources[d].port))
			return true;
	return false;
}

/* ---- processors ---- */

static void pattern_pages(const struct area *a, uint64_t count, uint64_t share, uint64_t shares,
			  uint64_t *seed)
{
	uint64_t own = (a->pages + shares - 1 - share) / shares;

	for (uint64_t i = 0; i < count && own != 0; i++)
		pattern_write(a, (uint32_t)(pattern_random(seed) % own * shares + share));
}

static void pattern_other(void *arg, unsigned int cpu)
{
	uint64_t seed = 88172645463325252ull + cpu;

	(void)arg;
	while (!over) {
		uint64_t count = rate;

		pattern_pages(&arena, count, cpu - 1, smp_count() - 1, &seed);
		__atomic_add_fetch(&others_written, count, __ATOMIC_RELAXED);
		if (count == 0)
			cpu_relax();
	}
}

/* One turn of the first processor; how many pages it wrote, and whether blocks are still to move. */
static uint64_t pattern_turn(unsigned int count, uint64_t *seed, bool *ret_more)
{
	uint64_t written = 0;

	*ret_more = false;
	for (unsigned int d = 0; d < count; d++) {
		struct source *s = &sources[d];

		*ret_more = pattern_follow(s, seed) || *ret_more;
		for (uint64_t i = 0; i < rate && s->used != 0; i++, written++)
			pattern_write(&s->area,
				      pattern_find(s, seed) * s->block_pages +
					      (uint32_t)(pattern_random(seed) % s->block_pages));
	}
	if (smp_count() == 1) {
		pattern_pages(&arena, rate, 0, 1, seed);
		written += rate;
	}
	return written;
}

/* ---- orders ---- */

/*
 * With the other processors at rest, or pages would change while they are looked at; and when what was
 * asked for is there.
 */
static void pattern_check_all(unsigned int count, uint64_t *seed)
{
	uint64_t before = wrong, pages = arena.pages;

	over = true;
	check(smp_count() == 1 || smp_end(), "pattern-rest", "a processor does not rest");
	for (uint32_t i = 0; i < arena.pages; i++)
		pattern_check(&arena, i);
	for (unsigned int d = 0; d < count; d++) {
		struct source *s = &sources[d];

		do {
			port_finish(&s->port);
		} while (pattern_follow(s, seed));
		for (uint32_t i = 0; i < s->blocks * s->block_pages; i++) {
			if (!s->present[i / s->block_pages])
				continue;
			pattern_check(&s->area, i);
			pages++;
		}
	}
	console_printf("checked pages=%lu wrong=%lu\n", pages, wrong - before);
	over = false;
	if (smp_count() > 1)
		smp_begin(pattern_other, NULL);
}

static void pattern_report(unsigned int count, uint64_t turns, uint64_t written)
{
	uint64_t plugged = 0, requested = 0;

	for (unsigned int d = 0; d < count; d++) {
		port_finish(&sources[d].port);
		plugged += port_plugged(&sources[d].port);
		requested += vmem_requested(&devices[d]);
	}
	console_printf("pattern turns=%lu written=%lu others=%lu wrong=%lu plugged=%lu "
		       "requested=%lu\n",
		       turns, written, others_written, wrong, plugged, requested);
}

/* False when the test is to end. */
static bool pattern_orders(unsigned int count, uint64_t turns, uint64_t written, uint64_t *seed)
{
	char line[LINES_MAX];
	uint64_t number;

	while (lines_get(line)) {
		if (strcmp(line, "quit") == 0)
			return false;
		if (strcmp(line, "report") == 0) {
			pattern_report(count, turns, written);
		} else if (strcmp(line, "check") == 0) {
			pattern_check_all(count, seed);
		} else if (text_has_prefix(line, "rate ") && text_number(line + 5, &number)) {
			rate = number;
			console_printf("rates %lu\n", number);
		} else {
			console_printf("order not understood: %s\n", line);
		}
	}
	return true;
}

/* ---- the test ---- */

static void pattern_area(struct area *a, uint64_t gpa, uint64_t size, uint32_t *used)
{
	*a = (struct area){gpa, *used, (uint32_t)(size / MEM_PAGE_BYTES)};
	if (size / MEM_PAGE_BYTES > PATTERN_PAGES - *used)
		power_die("pattern: more memory than it has numbers for");
	*used += a->pages;
}

/* Units of one block, so that what is freed can go whatever is beside it. */
static bool pattern_source(struct source *s, struct vmem *vmem, uint32_t *used)
{
	struct vmem_bare_config config;

	s->block_size = vmem->block_size;
	s->block_pages = (uint32_t)(vmem->block_size / MEM_PAGE_BYTES);
	s->blocks = PATTERN_BLOCKS;
	if (vmem->region_size / vmem->block_size < PATTERN_BLOCKS)
		s->blocks = (uint32_t)(vmem->region_size / vmem->block_size);
	pattern_area(&s->area, vmem->addr, s->blocks * vmem->block_size, used);
	if (!check_equal(vmem_plugged(vmem), 0, "pattern-clean"))
		return false;
	s->port = (struct port){
		.vmem = vmem,
		.events = &pattern_events,
		.arg = s,
		.most = s->blocks * vmem->block_size,
		.step = step * vmem->block_size,
	};
	port_config_init(&config, vmem);
	config.page_bytes = config.unit_bytes = vmem->block_size;
	return port_init(&s->port, &config);
}

static bool pattern_init(unsigned int count)
{
	uint64_t size = arg_number("arena", 0x800000);
	uint32_t used = 0;

	step = arg_number("step", 4);
	if (!check(boot_is_ram(PATTERN_ARENA, size), "pattern-arena", "0x%lx bytes are not there",
		   size))
		return false;
	pattern_area(&arena, PATTERN_ARENA, size, &used);
	for (unsigned int d = 0; d < count; d++) {
		struct source *s = &sources[d];

		if (!pattern_source(s, &devices[d], &used))
			return false;
	}
	/* a machine that was reset keeps what was there */
	for (uint32_t i = 0; i < arena.pages; i++) {
		uint64_t gpa = arena.gpa + (uint64_t)i * MEM_PAGE_BYTES;

		cpu_store64(gpa, 0);
		cpu_store64(gpa + PATTERN_LAST, 0);
	}
	if (arg_number("fill", 0) != 0)
		for (uint32_t i = 0; i < arena.pages; i++)
			pattern_write(&arena, i);
	rate = arg_number("rate", 16);
	return true;
}

void test_pattern(void)
{
	unsigned int count = vmem_open_all(devices, VMEM_MAX);
	uint64_t seed = 0x2545f4914f6cdd1dull, turns = 0, written = 0;
	bool more;

	if (!check_equal(count, arg_number("devices", 1), "pattern-devices") ||
	    !pattern_init(count))
		return;
	smp_start();
	lines_init(LINES_VECTOR);
	if (smp_count() > 1)
		smp_begin(pattern_other, NULL);
	console_printf("pattern: ready\n");
	cpu_interrupts_off();
	while (pattern_orders(count, turns, written, &seed)) {
		cpu_interrupts_on();
		written += pattern_turn(count, &seed, &more);
		turns++;
		cpu_interrupts_off();
		if (rate == 0 && !more && !pattern_due(count))
			cpu_sleep();
	}
	over = true;
	check(smp_count() == 1 || smp_end(), "pattern-end", "a processor does not end");
	check_equal(wrong, 0, "pattern-wrong");
}

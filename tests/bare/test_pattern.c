/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern: a guest whose memory changes all the time and which knows what must be in it: each page
 * holds a number made of its address and of how often it was written. It follows what its memory
 * devices ask for, block by block in no order, and checks each page before it writes it again, each
 * block before it gives it up, and that a block is empty when it gets it. So whatever happens to the
 * machine's memory on the way (a move to another host, a file) is noticed.
 *
 *	devices=N	memory devices (1), of PATTERN_BLOCKS blocks at most
 *	arena=SIZE	boot memory that is written, from PATTERN_ARENA on (8M)
 *	fill=1		all of it is written once before the guest is ready
 *	rate=N		pages written a turn (16); 0: it rests, and only follows
 *	step=N		blocks that come or go in a row (4)
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
#include "lib/power.h"
#include "lib/smp.h"
#include "lib/text.h"
#include "lib/trap.h"
#include "lib/vmem.h"
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
	struct vmem *vmem;
	struct area area;
	uint32_t block_pages, blocks, plugged;
	bool present[PATTERN_BLOCKS];
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

/* A block that is (not) plugged, the next one from somewhere on; there is one. */
static uint32_t pattern_find(const struct source *s, bool present, uint64_t *seed)
{
	uint32_t block = (uint32_t)(pattern_random(seed) % s->blocks);

	while (s->present[block] != present)
		block = (block + 1) % s->blocks;
	return block;
}

static void pattern_plug(struct source *s, uint32_t block)
{
	uint64_t gpa = s->area.gpa + (uint64_t)block * s->vmem->block_size;
	uint16_t type = vmem_plug(s->vmem, gpa, 1);

	if (type == VMEM_RESP_NACK || type == VMEM_RESP_BUSY)
		return;
	if (type != VMEM_RESP_ACK) {
		check(false, "pattern-plug", "answer %u for 0x%lx", type, gpa);
		return;
	}
	mem_map(gpa, s->vmem->block_size);
	s->present[block] = true;
	s->plugged++;
	for (uint32_t i = 0; i < s->block_pages; i++) {
		times[s->area.first + block * s->block_pages + i] = 0;
		pattern_write(&s->area, block * s->block_pages + i);
	}
}

static void pattern_unplug(struct source *s, uint32_t block)
{
	uint64_t gpa = s->area.gpa + (uint64_t)block * s->vmem->block_size;
	uint16_t type;

	for (uint32_t i = 0; i < s->block_pages; i++)
		pattern_check(&s->area, block * s->block_pages + i);
	type = vmem_unplug(s->vmem, gpa, 1);
	if (type == VMEM_RESP_BUSY) {
		/* its content may be lost, as the driver had given it up */
		for (uint32_t i = 0; i < s->block_pages; i++) {
			uint64_t page = gpa + (uint64_t)i * MEM_PAGE_BYTES;

			times[s->area.first + block * s->block_pages + i] = 0;
			cpu_store64(page, 0);
			cpu_store64(page + PATTERN_LAST, 0);
		}
		return;
	}
	if (type != VMEM_RESP_ACK) {
		check(false, "pattern-unplug", "answer %u for 0x%lx", type, gpa);
		return;
	}
	s->present[block] = false;
	s->plugged--;
}

/* A few blocks towards what is asked for; whether there is more to do. */
static bool pattern_follow(struct source *s, uint64_t *seed)
{
	uint32_t goal = (uint32_t)(vmem_requested(s->vmem) / s->vmem->block_size);

	if (goal > s->blocks)
		goal = s->blocks;
	for (uint64_t i = 0; i < step && s->plugged != goal; i++) {
		if (s->plugged < goal)
			pattern_plug(s, pattern_find(s, false, seed));
		else
			pattern_unplug(s, pattern_find(s, true, seed));
	}
	return s->plugged != goal;
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
		for (uint64_t i = 0; i < rate && s->plugged != 0; i++, written++)
			pattern_write(&s->area,
				      pattern_find(s, true, seed) * s->block_pages +
					      (uint32_t)(pattern_random(seed) % s->block_pages));
	}
	if (smp_count() == 1) {
		pattern_pages(&arena, rate, 0, 1, seed);
		written += rate;
	}
	return written;
}

/* ---- orders ---- */

/* With the other processors at rest, or pages would change while they are looked at. */
static void pattern_check_all(unsigned int count)
{
	uint64_t before = wrong, pages = arena.pages;

	over = true;
	check(smp_count() == 1 || smp_end(), "pattern-rest", "a processor does not rest");
	for (uint32_t i = 0; i < arena.pages; i++)
		pattern_check(&arena, i);
	for (unsigned int d = 0; d < count; d++) {
		const struct source *s = &sources[d];

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
		plugged += sources[d].plugged * sources[d].vmem->block_size;
		requested += vmem_requested(sources[d].vmem);
	}
	console_printf("pattern turns=%lu written=%lu others=%lu wrong=%lu plugged=%lu "
		       "requested=%lu\n",
		       turns, written, others_written, wrong, plugged, requested);
}

/* False when the test is to end. */
static bool pattern_orders(unsigned int count, uint64_t turns, uint64_t written)
{
	char line[LINES_MAX];
	uint64_t number;

	while (lines_get(line)) {
		if (strcmp(line, "quit") == 0)
			return false;
		if (strcmp(line, "report") == 0) {
			pattern_report(count, turns, written);
		} else if (strcmp(line, "check") == 0) {
			pattern_check_all(count);
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

static bool pattern_init(unsigned int count)
{
	uint64_t size = arg_number("arena", 0x800000);
	uint32_t used = 0;

	if (!check(boot_is_ram(PATTERN_ARENA, size), "pattern-arena", "0x%lx bytes are not there",
		   size))
		return false;
	pattern_area(&arena, PATTERN_ARENA, size, &used);
	for (unsigned int d = 0; d < count; d++) {
		struct source *s = &sources[d];

		s->vmem = &devices[d];
		s->block_pages = (uint32_t)(s->vmem->block_size / MEM_PAGE_BYTES);
		s->blocks = (uint32_t)(s->vmem->region_size / s->vmem->block_size);
		if (s->blocks > PATTERN_BLOCKS)
			s->blocks = PATTERN_BLOCKS;
		pattern_area(&s->area, s->vmem->addr, s->blocks * s->vmem->block_size, &used);
		if (!check_equal(vmem_plugged(s->vmem), 0, "pattern-clean"))
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
	step = arg_number("step", 4);
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
	while (pattern_orders(count, turns, written)) {
		written += pattern_turn(count, &seed, &more);
		turns++;
		if (rate == 0 && !more)
			cpu_sleep();
		cpu_interrupts_on();
		cpu_relax();
		cpu_interrupts_off();
	}
	over = true;
	check(smp_count() == 1 || smp_end(), "pattern-end", "a processor does not end");
	check_equal(wrong, 0, "pattern-wrong");
}

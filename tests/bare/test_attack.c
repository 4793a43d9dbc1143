/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * attack: a guest that tries to use memory that it gave up, one order from the console at a time,
 * so that the host can look at its own memory in between. The victim is the first memory device, as
 * far as its requested size goes. Prints "attack: ready block=BYTES blocks=N cpus=N", then for each
 * order one line that begins with its verb.
 *
 *	lay LAYOUT	unplug all, then make each block as its letter says: P plugged and filled; X
 *			plugged, filled and unplugged; U never plugged. A number before a letter repeats
 *			it, "|" is for the reader only: "lay answer=0 plugged=BYTES"
 *	plug FIRST COUNT, unplug FIRST COUNT, unplug-all
 *			"plug answer=TYPE" and so on; nothing is filled
 *	checker FIRST COUNT
 *			unplug all, then plug and fill every second block: "checker answer=0"
 *	fill FIRST COUNT	content into open blocks
 *	check		all open blocks' content: "check blocks=N wrong=N"
 *	zeros STRIDE FIRST COUNT
 *			read the closed ones of these blocks in such steps: "zeros blocks=N wrong=N"
 *	mark BLOCK WORD	put WORD at the start of an open block: "mark"
 *	quit		end the test
 *
 * More in attack_cpu.c, attack_walk.c, attack_device.c and attack_race.c.
 */
#include "attack.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/smp.h"
#include "lib/text.h"
#include "tests.h"

#define LINES_VECTOR 0x28u
#define WORDS_MAX    512u /* of a block's content, so that blocks of any size are filled as fast */
#define WORDS_LARGE  16u  /* of one larger than this: each may cost the host a huge page */
#define BLOCK_LARGE  (64ull << 20)
#define MAPPED_MAX   (16ull << 30)
#define PATTERN      0x9e3779b97f4a7c15ull

static struct attack attack;
static struct vmem devices[VMEM_MAX];
static struct virtio rng;

static uint64_t attack_pattern(uint64_t gpa)
{
	return (gpa * PATTERN) | 1;
}

bool attack_is_closed(const struct attack *a, uint64_t gpa)
{
	uint64_t block = (gpa - a->vmem->addr) / a->vmem->block_size;

	return gpa >= a->vmem->addr && block < a->blocks && !a->open[block];
}

void attack_fill_edges(const struct attack *a, unsigned int block)
{
	uint64_t start = attack_gpa(a, block), end = start + a->vmem->block_size;

	for (uint64_t o = 0; o < ATTACK_EDGE; o += 8) {
		cpu_store64(start + o, attack_pattern(start + o));
		cpu_store64(end - ATTACK_EDGE + o, attack_pattern(end - ATTACK_EDGE + o));
	}
}

void attack_fill(const struct attack *a, unsigned int block)
{
	uint64_t start = attack_gpa(a, block), end = start + a->vmem->block_size;

	for (uint64_t gpa = start; gpa < end; gpa += a->stride)
		cpu_store64(gpa, attack_pattern(gpa));
	attack_fill_edges(a, block);
}

unsigned int attack_check(const struct attack *a, unsigned int block)
{
	uint64_t start = attack_gpa(a, block), end = start + a->vmem->block_size;
	unsigned int wrong = 0;

	for (uint64_t gpa = start; gpa < end; gpa += a->stride)
		wrong += cpu_load64(gpa) != attack_pattern(gpa);
	for (uint64_t o = 0; o < ATTACK_EDGE; o += 8) {
		uint64_t last = end - ATTACK_EDGE + o;

		wrong += cpu_load64(start + o) != attack_pattern(start + o);
		wrong += cpu_load64(last) != attack_pattern(last);
	}
	return wrong;
}

uint16_t attack_plug(struct attack *a, unsigned int first, unsigned int count)
{
	uint64_t bs = a->vmem->block_size;
	uint16_t type = vmem_plug_bytes(a->vmem, first * bs, count * bs);

	for (unsigned int i = 0; type == VMEM_RESP_ACK && i < count; i++)
		a->open[first + i] = true;
	return type;
}

uint16_t attack_unplug(struct attack *a, unsigned int first, unsigned int count)
{
	uint64_t bs = a->vmem->block_size;
	uint16_t type = vmem_unplug_bytes(a->vmem, first * bs, count * bs);

	for (unsigned int i = 0; type == VMEM_RESP_ACK && i < count; i++)
		a->open[first + i] = false;
	return type;
}

static uint16_t attack_unplug_all(struct attack *a)
{
	uint16_t type = vmem_unplug_all(a->vmem);

	if (type == VMEM_RESP_ACK)
		memset(a->open, 0, sizeof(a->open));
	return type;
}

/* One request for each run of blocks whose letter is in @letters. */
static uint16_t
attack_lay_runs(struct attack *a, const char *layout, unsigned int count, const char *letters,
		uint16_t (*fn)(struct attack *a, unsigned int first, unsigned int count))
{
	uint16_t type = VMEM_RESP_ACK;
	unsigned int first = 0;

	for (unsigned int i = 0; i <= count && type == VMEM_RESP_ACK; i++) {
		bool in = i < count && (layout[i] == letters[0] || layout[i] == letters[1]);

		if (in)
			continue;
		if (i > first)
			type = fn(a, first, i - first);
		first = i + 1;
	}
	return type;
}

/* Writes out repetitions; how many blocks, UINT32_MAX when there are not so many. */
static unsigned int attack_parse_layout(const struct attack *a, const char *text, char *layout)
{
	unsigned int count = 0, repeat = 0;

	for (; *text != '\0' && *text != ' '; text++) {
		if (*text >= '0' && *text <= '9') {
			repeat = repeat * 10 + (unsigned int)(*text - '0');
			continue;
		}
		if (*text == '|')
			continue;
		if (repeat == 0)
			repeat = 1;
		if (repeat > a->blocks - count)
			return UINT32_MAX;
		for (; repeat > 0; repeat--)
			layout[count++] = *text;
	}
	return count;
}

static void attack_lay(struct attack *a, const char *text)
{
	static char layout[ATTACK_BLOCKS];
	unsigned int count = attack_parse_layout(a, text, layout);
	uint16_t type = count != UINT32_MAX ? attack_unplug_all(a) : VMEM_NO_RESP;

	if (type == VMEM_RESP_ACK)
		type = attack_lay_runs(a, layout, count, "PX", attack_plug);
	for (unsigned int i = 0; type == VMEM_RESP_ACK && i < count; i++)
		if (a->open[i])
			attack_fill(a, i);
	if (type == VMEM_RESP_ACK)
		type = attack_lay_runs(a, layout, count, "XX", attack_unplug);
	console_printf("lay answer=%u plugged=%lu\n", type, vmem_plugged(a->vmem));
}

static void attack_checker(struct attack *a, uint64_t first, uint64_t count)
{
	uint16_t type = attack_unplug_all(a);

	for (uint64_t i = first; i < first + count && i < a->blocks && type == 0; i += 2) {
		type = attack_plug(a, (unsigned int)i, 1);
		if (type == VMEM_RESP_ACK)
			attack_fill(a, (unsigned int)i);
	}
	console_printf("checker answer=%u\n", type);
}

static void attack_check_all(const struct attack *a)
{
	unsigned int blocks = 0, wrong = 0;

	for (unsigned int i = 0; i < a->blocks; i++) {
		if (!a->open[i])
			continue;
		blocks++;
		wrong += attack_check(a, i);
	}
	console_printf("check blocks=%u wrong=%u\n", blocks, wrong);
}

static void attack_zeros(const struct attack *a, uint64_t stride, uint64_t first, uint64_t count)
{
	uint64_t bs = a->vmem->block_size, wrong = 0;
	unsigned int blocks = 0;

	for (unsigned int i = (unsigned int)first; i < first + count && i < a->blocks; i++) {
		if (a->open[i])
			continue;
		blocks++;
		for (uint64_t o = 0; o < bs; o += stride)
			wrong += cpu_load64(attack_gpa(a, i) + o) != 0;
		wrong += cpu_load64(attack_gpa(a, i) + bs - 8) != 0;
	}
	console_printf("zeros blocks=%u wrong=%lu\n", blocks, wrong);
}

static bool attack_memory_order(struct attack *a, const struct attack_order *o)
{
	const char *verb = o->verb;
	uint64_t first = o->value[0], count = o->value[1];

	if (strcmp(verb, "lay") == 0 && o->name != NULL) {
		attack_lay(a, o->name);
	} else if (strcmp(verb, "check") == 0) {
		attack_check_all(a);
	} else if (strcmp(verb, "zeros") == 0 && first >= 8) {
		attack_zeros(a, first, count, o->value[2]);
	} else if (strcmp(verb, "unplug-all") == 0) {
		console_printf("unplug-all answer=%u\n", attack_unplug_all(a));
	} else if (strcmp(verb, "mark") == 0 && first < a->blocks) {
		cpu_store64(attack_gpa(a, (unsigned int)first), o->value[1]);
		console_printf("mark\n");
	} else if (first >= a->blocks || count > a->blocks - first) {
		return false;
	} else if (strcmp(verb, "plug") == 0) {
		console_printf("plug answer=%u\n",
			       attack_plug(a, (unsigned int)first, (unsigned int)count));
	} else if (strcmp(verb, "unplug") == 0) {
		console_printf("unplug answer=%u\n",
			       attack_unplug(a, (unsigned int)first, (unsigned int)count));
	} else if (strcmp(verb, "checker") == 0) {
		attack_checker(a, first, count);
	} else if (strcmp(verb, "fill") == 0) {
		for (uint64_t i = first; i < first + count; i++)
			attack_fill(a, (unsigned int)i);
		console_printf("fill\n");
	} else {
		return false;
	}
	return true;
}

/* Cuts @line into words: a verb, then numbers, of which the first may be a name instead. */
static struct attack_order attack_parse(char *line)
{
	struct attack_order order = {.verb = line};

	for (unsigned int words = 0; *line != '\0'; line++) {
		uint64_t value;

		if (*line != ' ')
			continue;
		*line = '\0';
		if (order.nr_values < 4 && text_number(line + 1, &value))
			order.value[order.nr_values++] = value;
		else if (words == 0)
			order.name = line + 1;
		words++;
	}
	return order;
}

void attack_wait_line(char line[LINES_MAX])
{
	cpu_interrupts_off();
	while (!lines_get(line))
		cpu_sleep();
}

static bool attack_open(struct attack *a)
{
	unsigned int count = vmem_open_all(devices, VMEM_MAX);
	uint64_t bytes;

	if (!check(count > 0, "attack-device", "no memory device"))
		return false;
	a->vmem = &devices[0];
	bytes = a->vmem->region_size < MAPPED_MAX ? a->vmem->region_size : MAPPED_MAX;
	if (bytes > vmem_requested(a->vmem))
		bytes = vmem_requested(a->vmem);
	a->blocks = (unsigned int)(bytes / a->vmem->block_size);
	if (a->blocks > ATTACK_BLOCKS)
		a->blocks = ATTACK_BLOCKS;
	a->stride =
		a->vmem->block_size / (a->vmem->block_size > BLOCK_LARGE ? WORDS_LARGE : WORDS_MAX);
	if (a->stride < MEM_PAGE_BYTES)
		a->stride = MEM_PAGE_BYTES;
	mem_map(a->vmem->addr, a->blocks * a->vmem->block_size);
	if (virtio_open(&rng, VIRTIO_ID_ENTROPY, 0))
		a->rng = &rng;
	return check_equal(attack_unplug_all(a), VMEM_RESP_ACK, "attack-clean");
}

void test_attack(void)
{
	struct attack *a = &attack;
	char line[LINES_MAX];

	if (!attack_open(a))
		return;
	lines_init(LINES_VECTOR);
	console_printf("attack: ready block=%lu blocks=%u cpus=%u\n", a->vmem->block_size,
		       a->blocks, smp_start());
	for (;;) {
		struct attack_order order;

		attack_wait_line(line);
		order = attack_parse(line);
		if (strcmp(order.verb, "quit") == 0)
			return;
		if (!attack_memory_order(a, &order) && !attack_cpu_order(a, &order) &&
		    !attack_walk_order(a, &order) && !attack_device_order(a, &order) &&
		    !attack_race_order(a, &order))
			console_printf("attack: order not understood: %s\n", order.verb);
	}
}

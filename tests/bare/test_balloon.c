/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * balloon: a guest with a small driver of the memory balloon (VIRTIO 1.3, 5.5). Its arena of boot
 * memory is pages that are in use, whose content it knows and checks; free, whose content does not
 * matter; in the balloon; or hinted. It follows num_pages with what is free and answers each call for
 * statistics and for hints. Memory of a memory device, if there is one, is handled by raw orders.
 *
 *	arena=SIZE	boot memory, from BALLOON_ARENA on (16M), all in use at first
 *	features=BITS	what it accepts of the device's own features (all that is offered)
 *	poison=VALUE	poison_val (0)
 *	compact=1	queues are numbered without gaps, as Linux did up to 6.10
 *
 * It prints "balloon: ready features=BITS". Orders, one a line:
 *	state		"state used=N free=N balloon=N hinted=N wrong=N stats=N rounds=N reused=N": pages,
 *			answers for statistics, commands of hints, hinted pages used before the end
 *	check		look at what is in use: "checked pages=N wrong=N zero=N"
 *	free N, use N	pages, from the last one on: "freed N", "used N"
 *	rate N		pages a turn that are written, freed or used again: "rates N"
 *	follow 0/1	whether num_pages is followed (1): "follows N"
 *	report		all that is free, in runs: "reported pages=N"
 *	fill A N, verify A N	write N pages of memory at A, look at them: "filled N",
 *			"verified wrong=N zero=N"; zero: of the wrong ones those that are empty
 *	raw Q A N	tell queue Q (0 inflate, 1 deflate, 4 report) of them: "raw answered=N"
 *	plug O S, unplug O S	bytes of the memory device from an offset on: "answer TYPE"
 *	race N		N times: the device's first block is plugged, reported, put into the balloon
 *			and unplugged before either is answered: "raced wrong=N"
 *	attack N	N chains of anything into any queue, and a new start: "attacked broken=N"
 *	quit		end the test
 * What is wrong in the arena is told as it is found: "WRONG at=GPA is=VALUE should=VALUE".
 */
#include "lib/balloon.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/lines.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/vmem.h"
#include "tests.h"

#define LINES_VECTOR  0x28u
#define BALLOON_ARENA 0x2000000ull
#define BALLOON_ARGS  3u
#define ATTACK_BATCH  16u /* page numbers */
#define FEATURES_ALL  0x3full

static struct balloon balloon;
static struct vmem memory;
static bool has_memory;
static uint64_t rate, seed = 88172645463325252ull;

static uint64_t random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed >> 11;
}

/* ---- what anybody could send ---- */

/* Anything but memory outside of the arena that is there: the guest needs that. */
static uint64_t attack_gpa(const struct balloon *b)
{
	switch (random() % 6) {
	case 0:
		return balloon_gpa(b, (uint32_t)(random() % b->pages));
	case 1:
		return balloon_gpa(b, (uint32_t)(random() % b->pages)) + random() % MEM_PAGE_BYTES;
	case 2:
		return UINT64_MAX - random() % 0x10000;
	case 3:
		return b->virtio.common + random() % 0x10000;
	case 4:
		return 1ull << (40 + random() % 24);
	default:
		return balloon_gpa(b, b->pages) - random() % (2 * MEM_PAGE_BYTES);
	}
}

static void attack_segment(const struct balloon *b, struct vring_segment *s)
{
	static const uint32_t sizes[] = {0,    1,    3,    4,       7,          10,
					 4095, 4096, 8192, 0x10000, 0xfffff000, 0xffffffff};

	s->gpa = random() % 3 == 0 ? (uint64_t)b->numbers : attack_gpa(b);
	s->size = sizes[random() % (sizeof(sizes) / sizeof(sizes[0]))];
	s->write = random() % 2 == 0;
	/* the page of numbers is the driver's own */
	if (s->gpa == (uint64_t)b->numbers) {
		s->write = false;
		if (s->size > MEM_PAGE_BYTES)
			s->size = MEM_PAGE_BYTES;
	}
}

/* How often the device wanted to be reset; UINT32_MAX: it did not start again. */
static uint32_t balloon_attack(struct balloon *b, uint64_t chains)
{
	struct vring_segment segments[4];
	uint32_t broken = 0;
	bool bad;

	for (uint64_t i = 0; i < chains; i++) {
		unsigned int q = (unsigned int)(random() % BALLOON_QUEUES);
		unsigned int count = 1 + (unsigned int)(random() % 4);

		for (unsigned int n = 0; n < ATTACK_BATCH; n++)
			b->numbers[n] = (uint32_t)(attack_gpa(b) / MEM_PAGE_BYTES);
		for (unsigned int s = 0; s < count; s++)
			attack_segment(b, &segments[s]);
		if (random() % 16 == 0)
			balloon_config(b, BALLOON_C_ACTUAL, (uint32_t)random());
		/* what does not fit is left out */
		if (b->present[q])
			balloon_add(b, q, segments, count);
		bad = (virtio_status(&b->virtio) & VIRTIO_NEEDS_RESET) != 0;
		broken += bad;
		if ((bad || i % 32 == 31) && !balloon_start(b, b->virtio.features))
			return UINT32_MAX;
	}
	/* what was in the arena may be lost */
	for (uint32_t page = 0; page < b->pages; page++) {
		balloon_set(b, page, PAGE_FREE);
		balloon_use_page(b, page);
	}
	return balloon_restart(b) ? broken : UINT32_MAX;
}

/* ---- load ---- */

static void load_page(struct balloon *b, uint32_t page)
{
	if (b->states[page] == PAGE_IN_BALLOON)
		return;
	if (b->states[page] != PAGE_USED) {
		balloon_use_page(b, page);
		return;
	}
	balloon_check_page(b, page);
	if (random() % 4 == 0 && b->counts[PAGE_FREE] < b->pages / 2)
		balloon_set(b, page, PAGE_FREE);
	else
		balloon_use_page(b, page);
}

/* One turn; whether there is more to do. */
static bool balloon_turn(struct balloon *b)
{
	bool more = balloon_follow(b);

	more |= balloon_hint(b);
	balloon_tell_stats(b);
	for (uint64_t i = 0; i < rate; i++)
		load_page(b, (uint32_t)(random() % b->pages));
	return more || rate != 0;
}

/* ---- orders ---- */

/* The numbers behind the first word. */
static unsigned int order_numbers(const char *line, uint64_t args[BALLOON_ARGS])
{
	unsigned int count = 0;

	while (count < BALLOON_ARGS) {
		while (*line != '\0' && *line != ' ')
			line++;
		if (*line == '\0' || !text_number(++line, &args[count]))
			break;
		count++;
	}
	return count;
}

static void order_move(struct balloon *b, uint64_t count, enum page_state from, enum page_state to)
{
	uint32_t moved = 0;

	for (uint32_t page = b->pages; page-- != 0 && moved < count;) {
		if (b->states[page] != from)
			continue;
		moved++;
		if (to == PAGE_USED)
			balloon_use_page(b, page);
		else
			balloon_set(b, page, to);
	}
	console_printf("%s %u\n", to == PAGE_USED ? "used" : "freed", moved);
}

static void order_check(struct balloon *b)
{
	uint64_t before = b->wrong, before_empty = b->empty;

	for (uint32_t page = 0; page < b->pages; page++)
		balloon_check_page(b, page);
	console_printf("checked pages=%u wrong=%lu zero=%lu\n", b->counts[PAGE_USED],
		       b->wrong - before, b->empty - before_empty);
}

static void order_verify(uint64_t gpa, uint64_t count)
{
	uint64_t bad = 0, zeros = 0;
	bool zero;

	for (uint64_t i = 0; i < count; i++) {
		if (balloon_read_page(gpa + i * MEM_PAGE_BYTES, 1, &zero))
			continue;
		bad++;
		zeros += zero;
	}
	console_printf("verified wrong=%lu zero=%lu\n", bad, zeros);
}

static void order_raw(struct balloon *b, uint64_t q, uint64_t gpa, uint64_t count)
{
	struct vring_segment segment = {gpa, (uint32_t)(count * MEM_PAGE_BYTES), true};
	uint64_t done = 0;

	if (q == BALLOON_REPORTS) {
		done = balloon_do(b, BALLOON_REPORTS, &segment, 1);
	} else {
		for (uint64_t i = 0, n = 0; i < count; i++) {
			b->numbers[n++] = (uint32_t)(gpa / MEM_PAGE_BYTES + i);
			if (n < ATTACK_BATCH && i + 1 < count)
				continue;
			done += balloon_numbers(b, (unsigned int)q, (uint32_t)n);
			n = 0;
		}
	}
	console_printf("raw answered=%lu\n", done);
}

/* The block goes while the balloon works on it; whether everything was as it should be. */
static bool race_once(struct balloon *b)
{
	uint64_t size = memory.block_size, last = memory.addr + size - MEM_PAGE_BYTES;
	struct vring_segment report = {memory.addr, (uint32_t)size, true};
	struct vring_segment inflate = {(uint64_t)b->numbers, 0, false};
	bool zero, good = vmem_plug_bytes(&memory, 0, size) == VMEM_RESP_ACK;

	balloon_read_page(memory.addr, 1, &zero);
	good = good && zero;
	balloon_read_page(last, 1, &zero);
	good = good && zero;
	balloon_write_page(memory.addr, 1);
	balloon_write_page(last, 1);
	for (uint32_t n = 0; n < size / MEM_PAGE_BYTES && n < MEM_PAGE_BYTES / 4; n++) {
		b->numbers[n] = (uint32_t)(memory.addr / MEM_PAGE_BYTES + n);
		inflate.size += (uint32_t)sizeof(*b->numbers);
	}
	good = balloon_add(b, BALLOON_REPORTS, &report, 1) && good;
	good = balloon_add(b, BALLOON_INFLATE, &inflate, 1) && good;
	good = vmem_unplug_bytes(&memory, 0, size) == VMEM_RESP_ACK && good;
	good = balloon_settle(b, BALLOON_REPORTS) && good;
	return balloon_settle(b, BALLOON_INFLATE) && good;
}

static void order_race(struct balloon *b, uint64_t rounds)
{
	uint64_t bad = 0;

	for (uint64_t i = 0; i < rounds; i++)
		bad += !race_once(b);
	console_printf("raced wrong=%lu\n", bad);
}

static void order_state(const struct balloon *b)
{
	console_printf("state used=%u free=%u balloon=%u hinted=%u wrong=%lu stats=%lu rounds=%lu "
		       "reused=%lu\n",
		       b->counts[PAGE_USED], b->counts[PAGE_FREE], b->counts[PAGE_IN_BALLOON],
		       b->counts[PAGE_HINTED], b->wrong, b->stats_answers, b->rounds, b->reused);
}

/* Orders about the memory device; false for others. */
static bool order_memory(const char *line, const uint64_t args[BALLOON_ARGS], unsigned int count)
{
	if (!has_memory || count != 2)
		return false;
	if (text_has_prefix(line, "plug "))
		console_printf("answer %u\n", vmem_plug_bytes(&memory, args[0], args[1]));
	else if (text_has_prefix(line, "unplug "))
		console_printf("answer %u\n", vmem_unplug_bytes(&memory, args[0], args[1]));
	else
		return false;
	return true;
}

/* Orders with two numbers and more; false for others. */
static bool order_raw_memory(struct balloon *b, const char *line, const uint64_t args[BALLOON_ARGS],
			     unsigned int count)
{
	if (count == 2 && text_has_prefix(line, "fill ")) {
		for (uint64_t i = 0; i < args[1]; i++)
			balloon_write_page(args[0] + i * MEM_PAGE_BYTES, 1);
		console_printf("filled %lu\n", args[1]);
	} else if (count == 2 && text_has_prefix(line, "verify ")) {
		order_verify(args[0], args[1]);
	} else if (count == 3 && text_has_prefix(line, "raw ") && args[0] < BALLOON_QUEUES &&
		   b->present[args[0]]) {
		order_raw(b, args[0], args[1], args[2]);
	} else {
		return order_memory(line, args, count);
	}
	return true;
}

static void order(struct balloon *b, const char *line)
{
	uint64_t args[BALLOON_ARGS] = {0};
	unsigned int count = order_numbers(line, args);

	if (strcmp(line, "state") == 0) {
		order_state(b);
	} else if (strcmp(line, "check") == 0) {
		order_check(b);
	} else if (strcmp(line, "report") == 0) {
		console_printf("reported pages=%u\n", balloon_report(b));
	} else if (count == 1 && text_has_prefix(line, "free ")) {
		order_move(b, args[0], PAGE_USED, PAGE_FREE);
	} else if (count == 1 && text_has_prefix(line, "use ")) {
		order_move(b, args[0], PAGE_FREE, PAGE_USED);
	} else if (count == 1 && text_has_prefix(line, "rate ")) {
		rate = args[0];
		console_printf("rates %lu\n", rate);
	} else if (count == 1 && text_has_prefix(line, "follow ")) {
		b->follows = args[0] != 0;
		console_printf("follows %lu\n", args[0]);
	} else if (count == 1 && text_has_prefix(line, "attack ")) {
		console_printf("attacked broken=%u\n", balloon_attack(b, args[0]));
	} else if (count == 1 && has_memory && text_has_prefix(line, "race ")) {
		order_race(b, args[0]);
	} else if (!order_raw_memory(b, line, args, count)) {
		console_printf("order not understood: %s\n", line);
	}
}

/* ---- the test ---- */

static bool balloon_init(struct balloon *b)
{
	uint64_t size = arg_number("arena", 0x1000000);

	if (!check(boot_is_ram(BALLOON_ARENA, size) && size / MEM_PAGE_BYTES <= BALLOON_PAGES,
		   "balloon-arena", "0x%lx bytes are not there", size))
		return false;
	has_memory = vmem_open(&memory, 0);
	if (has_memory)
		mem_map(memory.addr, memory.region_size);
	return check(balloon_open(b, BALLOON_ARENA, size), "balloon-device", "there is none") &&
	       check(balloon_start(b, virtio_offered(&b->virtio) &
					      arg_number("features", FEATURES_ALL)),
		     "balloon-start", "features are refused");
}

void test_balloon(void)
{
	struct balloon *b = &balloon;
	char line[LINES_MAX];
	bool more = false;

	if (!balloon_init(b))
		return;
	lines_init(LINES_VECTOR);
	console_printf("balloon: ready features=0x%lx\n", b->virtio.features);
	cpu_interrupts_off();
	for (;;) {
		while (lines_get(line)) {
			if (strcmp(line, "quit") == 0) {
				check_equal(b->wrong, 0, "balloon-wrong");
				return;
			}
			order(b, line);
		}
		cpu_interrupts_on();
		more = balloon_turn(b);
		cpu_interrupts_off();
		if (!more)
			cpu_sleep();
	}
}

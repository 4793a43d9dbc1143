/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small driver of the memory balloon.
 */
#include "balloon.h"
#include "boot.h"
#include "console.h"
#include "cpu.h"

#define BALLOON_LAST  (MEM_PAGE_BYTES - 8)
#define BALLOON_TOLD  20u
#define BALLOON_BATCH (MEM_PAGE_BYTES / sizeof(uint32_t)) /* page numbers of a request */
#define BALLOON_RUN   16u                                 /* pages of a hint or a report at most */

#define CONFIG_NUM_PAGES 0u
#define CONFIG_HINT_ID   8u
#define CONFIG_POISON    12u
#define HINT_STOP        0u
#define HINT_DONE        1u

#define FEATURE_POISON (1ull << 4)

/* Without which a queue is not there. */
static const uint64_t queue_feature[BALLOON_QUEUES] = {0, 0, 1 << 1, 1 << 3, 1 << 5};

struct balloon_stat {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

/* ---- pages ---- */

uint64_t balloon_gpa(const struct balloon *b, uint32_t page)
{
	return b->arena + (uint64_t)page * MEM_PAGE_BYTES;
}

static uint64_t content_of(uint64_t gpa, uint64_t time)
{
	uint64_t x = gpa ^ time * 0x9e3779b97f4a7c15ull;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

void balloon_write_page(uint64_t gpa, uint64_t time)
{
	cpu_store64(gpa, content_of(gpa, time));
	cpu_store64(gpa + BALLOON_LAST, content_of(gpa, time));
}

bool balloon_read_page(uint64_t gpa, uint64_t time, bool *ret_zero)
{
	uint64_t first = cpu_load64(gpa), last = cpu_load64(gpa + BALLOON_LAST);

	*ret_zero = first == 0 && last == 0;
	return first == content_of(gpa, time) && last == content_of(gpa, time);
}

void balloon_set(struct balloon *b, uint32_t page, enum page_state state)
{
	b->counts[b->states[page]]--;
	b->states[page] = (uint8_t)state;
	b->counts[state]++;
}

void balloon_check_page(struct balloon *b, uint32_t page)
{
	uint64_t gpa = balloon_gpa(b, page);
	bool zero;

	if (b->states[page] != PAGE_USED || balloon_read_page(gpa, b->times[page], &zero))
		return;
	b->empty += zero;
	if (++b->wrong <= BALLOON_TOLD)
		console_printf("WRONG at=0x%lx is=0x%lx should=0x%lx\n", gpa, cpu_load64(gpa),
			       content_of(gpa, b->times[page]));
}

void balloon_use_page(struct balloon *b, uint32_t page)
{
	if (b->states[page] == PAGE_HINTED)
		b->reused++;
	balloon_set(b, page, PAGE_USED);
	balloon_write_page(balloon_gpa(b, page), ++b->times[page]);
}

uint32_t balloon_find(const struct balloon *b, uint32_t page, enum page_state state)
{
	while (page < b->pages && b->states[page] != state)
		page++;
	return page;
}

/* ---- queues ---- */

bool balloon_add(struct balloon *b, unsigned int q, const struct vring_segment *segments,
		 unsigned int count)
{
	if (!vring_add(&b->rings[q], segments, count))
		return false;
	if (vring_kick_needed(&b->rings[q]))
		mmio_write16(b->doorbells[q], b->indices[q]);
	return true;
}

bool balloon_settle(struct balloon *b, unsigned int q)
{
	uint64_t start = cpu_ticks();
	uint32_t len;

	while (b->rings[q].outstanding != 0) {
		while (vring_get(&b->rings[q], &len))
			;
		if (cpu_ticks() - start > CPU_PATIENCE) {
			console_printf("balloon: no answer from queue %u, status 0x%x\n", q,
				       virtio_status(&b->virtio));
			return false;
		}
		cpu_relax();
	}
	return true;
}

bool balloon_do(struct balloon *b, unsigned int q, const struct vring_segment *segments,
		unsigned int count)
{
	return balloon_add(b, q, segments, count) && balloon_settle(b, q);
}

bool balloon_numbers(struct balloon *b, unsigned int q, uint32_t count)
{
	struct vring_segment segment = {(uint64_t)b->numbers, count * (uint32_t)sizeof(*b->numbers),
					false};

	return count == 0 || balloon_do(b, q, &segment, 1);
}

/* ---- statistics ---- */

static void stats_give(struct balloon *b)
{
	struct balloon_stat *stats = (struct balloon_stat *)b->stats;
	const struct {
		uint16_t tag;
		uint64_t value;
	} values[] = {
		{4, (uint64_t)b->counts[PAGE_FREE] * MEM_PAGE_BYTES},
		{5, (uint64_t)(b->pages - b->counts[PAGE_IN_BALLOON]) * MEM_PAGE_BYTES},
		{0, b->stats_answers},
		{0xfff0, 1}, /* no such tag */
		{2, b->rounds},
	};
	unsigned int count = sizeof(values) / sizeof(values[0]);
	struct vring_segment segment = {(uint64_t)b->stats, count * (uint32_t)sizeof(*stats),
					false};

	for (unsigned int i = 0; i < count; i++)
		stats[i] = (struct balloon_stat){values[i].tag, values[i].value};
	balloon_add(b, BALLOON_STATS, &segment, 1);
}

void balloon_tell_stats(struct balloon *b)
{
	uint32_t len;

	if (!b->present[BALLOON_STATS] || !vring_get(&b->rings[BALLOON_STATS], &len))
		return;
	b->stats_answers++;
	stats_give(b);
}

/* ---- the balloon ---- */

void balloon_config(const struct balloon *b, unsigned int offset, uint32_t value)
{
	mmio_write32(b->virtio.config + offset, value);
}

/* Up to a batch of pages from one state to another; how many. */
static uint32_t balloon_move(struct balloon *b, unsigned int q, enum page_state from,
			     enum page_state to, uint32_t most)
{
	uint32_t count = 0;

	for (uint32_t page = balloon_find(b, 0, from);
	     page < b->pages && count < most && count < BALLOON_BATCH;
	     page = balloon_find(b, page + 1, from)) {
		b->numbers[count++] = (uint32_t)(balloon_gpa(b, page) / MEM_PAGE_BYTES);
		balloon_set(b, page, to);
	}
	if (count == 0 || !balloon_numbers(b, q, count))
		return 0;
	balloon_config(b, BALLOON_C_ACTUAL, b->counts[PAGE_IN_BALLOON]);
	return count;
}

bool balloon_follow(struct balloon *b)
{
	uint32_t goal = mmio_read32(b->virtio.config + CONFIG_NUM_PAGES);

	if (!b->follows || goal == b->counts[PAGE_IN_BALLOON])
		return false;
	if (goal > b->counts[PAGE_IN_BALLOON])
		return balloon_move(b, BALLOON_INFLATE, PAGE_FREE, PAGE_IN_BALLOON,
				    goal - b->counts[PAGE_IN_BALLOON]) != 0;
	return balloon_move(b, BALLOON_DEFLATE, PAGE_IN_BALLOON, PAGE_FREE,
			    b->counts[PAGE_IN_BALLOON] - goal) != 0;
}

/* The first run of free pages at or after *page, which becomes its start; how many there are. */
static uint32_t free_run(const struct balloon *b, uint32_t *page)
{
	uint32_t end;

	*page = balloon_find(b, *page, PAGE_FREE);
	for (end = *page;
	     end < b->pages && b->states[end] == PAGE_FREE && end - *page < BALLOON_RUN; end++)
		;
	return end - *page;
}

uint32_t balloon_report(struct balloon *b)
{
	uint32_t page = 0, count, reported = 0;

	while ((count = free_run(b, &page)) != 0) {
		struct vring_segment segment = {balloon_gpa(b, page), count * MEM_PAGE_BYTES, true};

		if (!balloon_do(b, BALLOON_REPORTS, &segment, 1))
			break;
		reported += count;
		page += count;
	}
	return reported;
}

/* ---- hints ---- */

static bool hint_send(struct balloon *b, uint32_t id)
{
	struct vring_segment segment = {(uint64_t)b->words, sizeof(*b->words), false};

	if (!balloon_settle(b, BALLOON_HINTS))
		return false;
	b->words[0] = id;
	return balloon_do(b, BALLOON_HINTS, &segment, 1);
}

static void hint_release(struct balloon *b)
{
	for (uint32_t page = 0; page < b->pages; page++)
		if (b->states[page] == PAGE_HINTED)
			balloon_set(b, page, PAGE_FREE);
}

/* What the device says now; false when there is nothing to do. */
static bool hint_follow(struct balloon *b)
{
	uint32_t id = mmio_read32(b->virtio.config + CONFIG_HINT_ID);

	if (id == b->hint_id)
		return b->hint_runs;
	if (b->hint_runs)
		hint_send(b, HINT_STOP);
	b->hint_runs = id > HINT_DONE && hint_send(b, id);
	b->hint_id = id;
	b->hint_page = 0;
	b->rounds += b->hint_runs;
	if (id == HINT_DONE)
		hint_release(b);
	return b->hint_runs;
}

bool balloon_hint(struct balloon *b)
{
	uint32_t len, count;

	if (!b->present[BALLOON_HINTS])
		return false;
	while (vring_get(&b->rings[BALLOON_HINTS], &len))
		;
	if (!hint_follow(b))
		return false;
	for (unsigned int i = 0; i < 8; i++) {
		struct vring_segment segment = {.write = true};

		count = free_run(b, &b->hint_page);
		if (count == 0) {
			hint_send(b, HINT_STOP);
			b->hint_runs = false;
			return false;
		}
		segment.gpa = balloon_gpa(b, b->hint_page);
		segment.size = count * MEM_PAGE_BYTES;
		if (!balloon_add(b, BALLOON_HINTS, &segment, 1))
			break;
		for (; count != 0; count--)
			balloon_set(b, b->hint_page++, PAGE_HINTED);
	}
	return true;
}

/* ---- life ---- */

bool balloon_open(struct balloon *b, uint64_t arena, uint64_t size)
{
	b->arena = arena;
	b->pages = (uint32_t)(size / MEM_PAGE_BYTES);
	b->follows = true;
	b->numbers = mem_pages(1);
	b->stats = mem_pages(1);
	b->words = mem_pages(1);
	b->counts[PAGE_FREE] = b->pages;
	for (uint32_t page = 0; page < b->pages; page++) {
		b->states[page] = PAGE_FREE;
		balloon_use_page(b, page);
	}
	return virtio_open(&b->virtio, BALLOON_ID, 0);
}

bool balloon_start(struct balloon *b, uint64_t features)
{
	uint16_t size = (uint16_t)arg_number("queue_size", 128), index = 0;

	features |= VIRTIO_F_VERSION_1;
	if (arg_is("ring", "packed"))
		features |= VIRTIO_F_PACKED;
	if (!virtio_negotiate(&b->virtio, features))
		return false;
	for (unsigned int q = 0; q < BALLOON_QUEUES; q++) {
		b->present[q] = (features & queue_feature[q]) == queue_feature[q];
		if (!b->present[q])
			continue;
		/* drivers in use number those that there are */
		b->indices[q] = arg_number("compact", 0) != 0 ? index++ : (uint16_t)q;
		b->doorbells[q] =
			virtio_queue_enable(&b->virtio, &b->rings[q], b->indices[q], size);
	}
	if ((features & FEATURE_POISON) != 0)
		balloon_config(b, CONFIG_POISON, (uint32_t)arg_number("poison", 0));
	virtio_driver_ok(&b->virtio);
	b->hint_id = HINT_DONE;
	b->hint_runs = false;
	hint_release(b);
	if (b->present[BALLOON_STATS])
		stats_give(b);
	return (virtio_status(&b->virtio) & VIRTIO_NEEDS_RESET) == 0;
}

bool balloon_restart(struct balloon *b)
{
	for (uint32_t page = 0; page < b->pages; page++)
		if (b->states[page] == PAGE_IN_BALLOON)
			balloon_set(b, page, PAGE_FREE);
	return balloon_start(b, b->virtio.features);
}

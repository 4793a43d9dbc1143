/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the operating system uses its memory for: see model.h (I3).
 *
 * Pages that are immovable lie in ordinary memory and in units that are online for any use; the others
 * lie anywhere. Moving a page takes its tag along, out of the host's memory and into it.
 */
#include "tests/model/model.h"

#include <string.h>

static uint64_t area_content_read(const struct area *area, uint64_t page)
{
	bool lost;
	const uint64_t *content;

	if (!area->dev)
		return area->tags[page];
	content = host_content(area->dev, page, &lost);
	return lost ? 0 : *content;
}

/* The page's tag must still be there; after a fault of the host anything may. */
static void page_verify(const struct world *w, struct area *area, uint64_t page)
{
	uint64_t content;

	if (!area->tags[page])
		return;
	content = area_content_read(area, page);
	must(w, content == area->tags[page],
	     "page %llu of area %d has lost its content: %llu, not %llu", (unsigned long long)page,
	     (int)(area - w->areas), (unsigned long long)content,
	     (unsigned long long)area->tags[page]);
}

/* Write @tag into the page. */
static void page_tag(struct area *area, uint64_t page, uint64_t tag)
{
	bool lost = false;

	if (area->dev) {
		uint64_t *content = host_content(area->dev, page, &lost);

		if (!lost)
			*content = tag;
	}
	area->tags[page] = lost ? 0 : tag;
}

static void page_begin(struct area *area, uint64_t page, enum page_state state, uint64_t tag)
{
	area->pages[page] = (uint8_t)state;
	area->nr_free--;
	area->nr_used++;
	page_tag(area, page, tag);
}

static void page_end(struct area *area, uint64_t page)
{
	area->pages[page] = PAGE_FREE;
	area->tags[page] = 0;
	area->nr_used--;
	area->nr_free++;
}

static bool page_in_use(const struct area *area, uint64_t page)
{
	return area->pages[page] == PAGE_MOVABLE || area->pages[page] == PAGE_IMMOVABLE;
}

/* May an immovable page lie here? */
static bool page_takes_any(const struct area *area, uint64_t page)
{
	struct dev *dev = area->dev;

	if (!dev || !dev->config.unit_bytes)
		return true;
	return dev_unit(dev, area->addr + page * dev->w->page_bytes)->use == VMEM_DRIVER_IMMOVABLE;
}

/*
 * A free page, outside pages [first, first + count) of @not_area, searched from a random place on.
 * False: there is none.
 */
static bool page_find(struct world *w, bool movable, const struct area *not_area, uint64_t first,
		      uint64_t count, struct area **ret_area, uint64_t *ret_page)
{
	unsigned int begin = (unsigned int)below(w, w->nr_areas);

	for (unsigned int i = 0; i < w->nr_areas; i++) {
		struct area *area = &w->areas[(begin + i) % w->nr_areas];
		uint64_t from = below(w, area->nr_pages);

		if (!area->nr_free)
			continue;
		for (uint64_t k = 0; k < area->nr_pages; k++) {
			uint64_t page = from + k;

			if (page >= area->nr_pages)
				page -= area->nr_pages;
			if (area->pages[page] != PAGE_FREE)
				continue;
			if (area == not_area && page >= first && page - first < count)
				continue;
			if (!movable && !page_takes_any(area, page))
				continue;
			*ret_area = area;
			*ret_page = page;
			return true;
		}
	}
	return false;
}

bool pages_use(struct world *w, uint64_t count, bool movable)
{
	for (uint64_t i = 0; i < count; i++) {
		struct area *area;
		uint64_t page;

		if (!page_find(w, movable, NULL, 0, 0, &area, &page))
			return false;
		page_begin(area, page, movable ? PAGE_MOVABLE : PAGE_IMMOVABLE, ++w->last_tag);
		/* Neighbours are often used by one program. */
		while (i + 1 < count && page + 1 < area->nr_pages &&
		       area->pages[page + 1] == PAGE_FREE &&
		       (movable || page_takes_any(area, page + 1)) && chance(w, 700)) {
			page_begin(area, ++page, movable ? PAGE_MOVABLE : PAGE_IMMOVABLE,
				   ++w->last_tag);
			i++;
		}
	}
	return true;
}

void pages_drop(struct world *w, uint64_t count)
{
	unsigned int begin = (unsigned int)below(w, w->nr_areas);

	for (unsigned int i = 0; i < w->nr_areas && count; i++) {
		struct area *area = &w->areas[(begin + i) % w->nr_areas];
		uint64_t from = below(w, area->nr_pages);

		for (uint64_t k = 0; k < area->nr_pages && count && area->nr_used; k++) {
			uint64_t page = (from + k) % area->nr_pages;

			if (!page_in_use(area, page) || chance(w, 200))
				continue;
			page_verify(w, area, page);
			page_end(area, page);
			count--;
		}
	}
}

static bool range_movable(const struct area *area, uint64_t first, uint64_t count, int *ret_why)
{
	for (uint64_t page = first; page < first + count; page++)
		if (area->rooted[page]) {
			*ret_why = VMEM_DRIVER_NEVER;
			return false;
		}
	if (pages_count(area, first, count, PAGE_IMMOVABLE)) {
		*ret_why = VMEM_DRIVER_BUSY;
		return false;
	}
	return true;
}

int pages_take(struct world *w, struct area *area, uint64_t first, uint64_t count)
{
	int why;

	if (!range_movable(area, first, count, &why))
		return why;
	for (uint64_t page = first; page < first + count; page++) {
		struct area *to;
		uint64_t place, tag = area->tags[page];

		if (area->pages[page] != PAGE_MOVABLE)
			continue;
		if (!page_find(w, true, area, first, count, &to, &place))
			return chance(w, 500) ? VMEM_DRIVER_NOMEM : VMEM_DRIVER_BUSY;
		page_verify(w, area, page);
		page_end(area, page);
		page_begin(to, place, PAGE_MOVABLE, tag ? tag : ++w->last_tag);
	}
	for (uint64_t page = first; page < first + count; page++) {
		if (area->pages[page] == PAGE_FREE)
			area->nr_free--;
		if (area->pages[page] != PAGE_RECORDS)
			area->pages[page] = PAGE_NOBODYS;
	}
	return VMEM_DRIVER_OK;
}

void pages_record(struct world *w, struct area *area, uint64_t first, uint64_t count)
{
	for (uint64_t page = first; page < first + count; page++) {
		area->pages[page] = PAGE_RECORDS;
		page_tag(area, page, ++w->last_tag);
	}
}

void pages_unrecord(struct world *w, struct area *area, uint64_t first, uint64_t count)
{
	for (uint64_t page = first; page < first + count; page++) {
		if (area->pages[page] != PAGE_RECORDS)
			continue;
		page_verify(w, area, page);
		area->pages[page] = PAGE_NOBODYS;
		area->tags[page] = 0;
	}
}

bool pages_can_take(const struct world *w, const struct area *area, uint64_t first, uint64_t count)
{
	uint64_t elsewhere = pages_free(w) - pages_count(area, first, count, PAGE_FREE);
	int why;

	return range_movable(area, first, count, &why) &&
	       pages_count(area, first, count, PAGE_MOVABLE) <= elsewhere;
}

void pages_give(struct world *w, struct area *area, uint64_t first, uint64_t count)
{
	for (uint64_t page = first; page < first + count; page++) {
		if (area->pages[page] == PAGE_RECORDS)
			continue;
		must(w, area->pages[page] == PAGE_NOBODYS, "page %llu is given twice",
		     (unsigned long long)page);
		area->pages[page] = PAGE_FREE;
		area->nr_free++;
	}
}

void pages_forget(struct area *area)
{
	memset(area->pages, PAGE_NOBODYS, area->nr_pages);
	memset(area->tags, 0, area->nr_pages * sizeof(area->tags[0]));
	memset(area->taken, 0, area->nr_pages);
	memset(area->rooted, 0, area->nr_pages);
	area->nr_free = area->nr_used = 0;
	if (!area->dev) {
		memset(area->pages, PAGE_FREE, area->nr_pages);
		area->nr_free = area->nr_pages;
	}
}

uint64_t pages_free(const struct world *w)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < w->nr_areas; i++)
		sum += w->areas[i].nr_free;
	return sum;
}

uint64_t pages_count(const struct area *area, uint64_t first, uint64_t count, enum page_state state)
{
	uint64_t sum = 0;

	for (uint64_t page = first; page < first + count; page++)
		sum += area->pages[page] == state;
	return sum;
}

void pages_check(const struct world *w)
{
	for (unsigned int i = 1; i < w->nr_areas; i++) {
		struct area *area = (struct area *)&w->areas[i];
		uint64_t nr_free = 0, nr_used = 0;

		for (uint64_t page = 0; page < area->nr_pages; page++) {
			bool lost;

			if (area->pages[page] == PAGE_NOBODYS)
				continue;
			(void)host_content(area->dev, page, &lost);
			nr_free += area->pages[page] == PAGE_FREE;
			nr_used += page_in_use(area, page);
			page_verify(w, area, page);
		}
		must(w, nr_free == area->nr_free && nr_used == area->nr_used,
		     "the model's own sums are wrong");
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* What is where on top's screen: see top_draw.h for the contract. */
#include <stdlib.h>

#include "base/num.h"
#include "ebbctl/top_draw.h"
#include "ebbctl/top_model.h"

static size_t top_nr_devices(const struct top_view *view)
{
	size_t nr = 0;

	for (size_t i = 0; i < view->nr_machines; i++)
		nr += view->machines[i]->nr_devices;
	return nr;
}

size_t top_map_rows(const struct top_view *view, size_t rows)
{
	size_t nr = top_nr_devices(view), fixed = view->nr_machines + nr;

	if (!nr || rows <= fixed + nr)
		return 1;
	return num_min((rows - fixed) / nr, TOP_MAP_ROWS_MAX);
}

struct top_row *top_rows(const struct top_view *view, size_t map_rows, size_t *ret_nr)
{
	size_t most = view->nr_machines + top_nr_devices(view) * (1 + map_rows), nr = 0;
	struct top_row *list = calloc(most + 1, sizeof(*list));

	for (size_t m = 0; list && m < view->nr_machines; m++) {
		list[nr++] = (struct top_row){.kind = TOP_ROW_MACHINE, .machine = m};
		for (size_t d = 0; d < view->machines[m]->nr_devices; d++) {
			list[nr++] = (struct top_row){TOP_ROW_DEVICE, m, d, 0};
			for (size_t part = 0; part < map_rows; part++)
				list[nr++] = (struct top_row){TOP_ROW_MAP, m, d, part};
		}
	}
	*ret_nr = nr;
	return list;
}

static bool top_row_selected(const struct top_view *view, const struct top_row *row)
{
	return row->kind != TOP_ROW_MACHINE && row->machine == view->machine &&
	       row->device == view->device;
}

size_t top_scroll(const struct top_view *view, const struct top_row *list, size_t nr, size_t rows)
{
	size_t first = 0, end, scroll = view->scroll;

	while (first < nr && !top_row_selected(view, &list[first]))
		first++;
	for (end = first; end < nr && top_row_selected(view, &list[end]);)
		end++;
	/* The line of its machine belongs to the first device. */
	if (first && first < nr && list[first - 1].kind == TOP_ROW_MACHINE)
		first--;
	if (first < end) {
		if (end > scroll + rows)
			scroll = end - rows;
		if (first < scroll)
			scroll = first;
	}
	return num_min(scroll, nr > rows ? nr - rows : 0);
}

struct top_device *top_selected(const struct top_view *view)
{
	const struct top_machine *machine;

	if (view->machine >= view->nr_machines)
		return NULL;
	machine = view->machines[view->machine];
	return view->device < machine->nr_devices ? machine->devices[view->device] : NULL;
}

void top_select(struct top_view *view, int step)
{
	size_t nr = top_nr_devices(view), at = 0, i;

	for (i = 0; i < view->machine && i < view->nr_machines; i++)
		at += view->machines[i]->nr_devices;
	at += view->device;
	if (step < 0)
		at -= at ? 1 : 0;
	else
		at += (size_t)step;
	at = nr ? num_min(at, nr - 1) : 0;
	for (i = 0; i < view->nr_machines && at >= view->machines[i]->nr_devices; i++)
		at -= view->machines[i]->nr_devices;
	view->machine = nr ? i : 0;
	view->device = nr ? at : 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The screen of top: what is where (pure), and putting it there (ncurses).
 *
 * I1  Nothing is written outside of the window, whatever its size, 1x1 included.
 * I2  The rows of the selected device are in view, as far as the window has room for them.
 *
 * Threads: one, that of ncurses.
 */
#ifndef EBBCTL_TOP_DRAW_H
#define EBBCTL_TOP_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct top_device;
struct top_machine;

/* Rows of one device's map. */
#define TOP_MAP_ROWS_MAX 6
/* Columns left and right of a map. */
#define TOP_MAP_MARGIN 2

struct top_view {
	struct top_machine *const *machines;
	size_t nr_machines;
	/* The device that keys change; both 0 when there is none. */
	size_t machine, device;
	bool paused;
	const char *message; /* clean; NULL: none */
	uint64_t now_ms;
	size_t scroll; /* rows of the list above the window; kept from call to call */
};

/* A row of the list. */
enum top_row_kind { TOP_ROW_MACHINE, TOP_ROW_DEVICE, TOP_ROW_MAP };

struct top_row {
	enum top_row_kind kind;
	size_t machine, device, part;
};

/* How many rows each map gets in a window of @rows, so that all fit if they can. */
size_t top_map_rows(const struct top_view *view, size_t rows);
/* The list; a new array of *ret_nr rows, NULL when memory is out. */
struct top_row *top_rows(const struct top_view *view, size_t map_rows, size_t *ret_nr);
/* Where the list must begin so that the selected device is among @rows rows. */
size_t top_scroll(const struct top_view *view, const struct top_row *list, size_t nr, size_t rows);
/* The device that is selected; NULL when there is none. */
struct top_device *top_selected(const struct top_view *view);
/* Select the next (1) or previous (-1) device that there is, or the first when none is. */
void top_select(struct top_view *view, int step);

struct top_screen;

/* NULL where the terminal cannot be drawn on: @ret_why, static, says what it lacks. */
struct top_screen *top_screen_new(const char **ret_why);
void top_screen_free(struct top_screen *screen);
/* -1: no key. Others as ncurses names them. */
int top_screen_key(struct top_screen *screen);
/* Cells that maps can show now: columns times rows. */
size_t top_screen_cells(const struct top_screen *screen, const struct top_view *view);
void top_screen_draw(struct top_screen *screen, struct top_view *view);

#endif

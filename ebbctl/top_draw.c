/* SPDX-License-Identifier: BSD-3-Clause */
/* Drawing top's screen: see top_draw.h for the contract. */
#include "ebbctl/top_draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curses.h>

#include "base/num.h"
#include "ebbctl/terminfo.h"
#include "ebbctl/text.h"
#include "ebbctl/top_model.h"
#include "ebbctl/top_text.h"

#define TOP_LINE_BYTES 512
/* Rows that are not the list's: header and column heads above; below, what is said, and keys. */
#define TOP_ROWS_ABOVE 2
#define TOP_ROWS_SAID  3
/* A lower window has one row for what is said. */
#define TOP_ROWS_LOW 16
/* The columns of figures are laid out for this; what is more is the name's. */
#define TOP_COLUMNS  80
#define TOP_NAME_MAX 32
/* A key that is one byte and one that is a sequence are told apart by this pause. */
#define TOP_ESCAPE_MS 50

enum top_colour { TOP_FULL = 1, TOP_PART, TOP_BAD, TOP_HEAD };

struct top_screen {
	SCREEN *screen;
	bool utf8, colour;
};

/* ---- the terminal ---- */

static void top_screen_colours(struct top_screen *screen)
{
	const char *none = getenv("NO_COLOR");

	screen->colour = has_colors() && !(none && *none) && start_color() == OK &&
			 use_default_colors() == OK;
	if (!screen->colour)
		return;
	init_pair(TOP_FULL, COLOR_GREEN, -1);
	init_pair(TOP_PART, COLOR_YELLOW, -1);
	init_pair(TOP_BAD, COLOR_RED, -1);
	init_pair(TOP_HEAD, COLOR_CYAN, -1);
}

struct top_screen *top_screen_new(const char **ret_why)
{
	struct top_screen *screen;

	*ret_why = NULL;
	if (!terminfo_can_draw(ret_why))
		return NULL;
	*ret_why = "the terminal cannot be set up";
	screen = calloc(1, sizeof(*screen));
	if (!screen)
		return NULL;
	screen->screen = newterm(NULL, stdout, stdin);
	if (!screen->screen) {
		free(screen);
		return NULL;
	}
	set_term(screen->screen);
	screen->utf8 = text_locale_utf8();
	cbreak();
	noecho();
	set_escdelay(TOP_ESCAPE_MS);
	keypad(stdscr, TRUE);
	/* Arrows as terminals send them that were not told to send others. */
	define_key("\033[A", KEY_UP);
	define_key("\033[B", KEY_DOWN);
	define_key("\033[C", KEY_RIGHT);
	define_key("\033[D", KEY_LEFT);
	nodelay(stdscr, TRUE);
	curs_set(0);
	top_screen_colours(screen);
	return screen;
}

void top_screen_free(struct top_screen *screen)
{
	if (!screen)
		return;
	endwin();
	delscreen(screen->screen);
	free(screen);
}

int top_screen_key(struct top_screen *screen)
{
	int key = getch();

	(void)screen;
	return key == ERR ? -1 : key;
}

/* ---- pieces ---- */

static void top_attr(const struct top_screen *screen, enum top_colour colour, attr_t without)
{
	attrset(screen->colour ? (attr_t)COLOR_PAIR(colour) : without);
}

/* As much of @text as fits from column @x on, at most @width. */
static void top_put(int y, int x, size_t width, const char *text)
{
	if (y < 0 || y >= LINES || x >= COLS)
		return;
	width = num_min(width, (size_t)(COLS - x));
	mvaddnstr(y, x, text, (int)text_fit(text, width));
}

static void top_put_right(int y, int x, size_t width, const char *text)
{
	size_t columns = text_columns(text);

	top_put(y, x + (int)(columns < width ? width - columns : 0), width, text);
}

/* From left to right: where a column of figures ends, in a window of TOP_COLUMNS. */
struct top_column {
	const char *head;
	int x;
	size_t width;
};

static const struct top_column top_columns[] = {
	{"NODE", 15, 4}, {"PLUGGED", 20, 7}, {"REQUEST", 28, 7}, {"MAX", 36, 6},
	{"RATE", 43, 8}, {"REQ/S", 52, 6},   {"VIOL", 59, 5},
};

#define TOP_STATE_X 65

/* By how much the columns are shifted to the right for longer names. */
static int top_shift(void)
{
	return COLS > TOP_COLUMNS
		       ? (int)num_min((size_t)(COLS - TOP_COLUMNS) / 2, TOP_NAME_MAX - 12)
		       : 0;
}

static void top_draw_header(const struct top_view *view)
{
	char line[TOP_LINE_BYTES], plugged_text[TOP_TEXT_MAX], max_text[TOP_TEXT_MAX], when[32];
	uint64_t plugged = 0, max = 0;
	size_t nr = 0;
	time_t now = time(NULL);
	struct tm tm;

	for (size_t m = 0; m < view->nr_machines; m++)
		for (size_t d = 0; d < view->machines[m]->nr_devices; d++, nr++) {
			plugged += view->machines[m]->devices[d]->plugged_bytes;
			max += view->machines[m]->devices[d]->max_bytes;
		}
	snprintf(line, sizeof(line), "ebbctl top: %zu machine%s, %zu device%s, %s of %s plugged",
		 view->nr_machines, view->nr_machines == 1 ? "" : "s", nr, nr == 1 ? "" : "s",
		 top_size_text(plugged, plugged_text), top_size_text(max, max_text));
	attrset(A_REVERSE);
	move(0, 0);
	hline(' ' | A_REVERSE, COLS);
	top_put(0, 0, (size_t)COLS, line);
	if (view->paused)
		snprintf(when, sizeof(when), "paused");
	else if (!localtime_r(&now, &tm) || !strftime(when, sizeof(when), "%H:%M:%S", &tm))
		when[0] = '\0';
	if ((size_t)COLS > strlen(line) + strlen(when) + 2)
		top_put_right(0, 0, (size_t)COLS, when);
	attrset(A_NORMAL);
}

static void top_draw_heads(const struct top_screen *screen)
{
	int shift = top_shift();

	top_attr(screen, TOP_HEAD, A_BOLD);
	top_put(1, TOP_MAP_MARGIN, 12, "DEVICE");
	for (size_t i = 0; i < ARRAY_SIZE(top_columns); i++)
		top_put_right(1, top_columns[i].x + shift, top_columns[i].width,
			      top_columns[i].head);
	top_put(1, TOP_STATE_X + shift, TOP_LINE_BYTES, "STATE");
	attrset(A_NORMAL);
}

static void top_draw_machine(const struct top_screen *screen, int y,
			     const struct top_machine *machine, uint64_t now_ms)
{
	char line[TOP_LINE_BYTES], size[TOP_TEXT_MAX], move[TOP_MOVE_TEXT_MAX] = "";
	size_t used;

	attrset(A_BOLD);
	top_put(y, 0, (size_t)COLS, machine->label);
	attrset(A_NORMAL);
	used = text_columns(machine->label) + 2;
	if (machine->problem) {
		top_attr(screen, TOP_BAD, A_NORMAL);
		top_put(y, (int)used, TOP_LINE_BYTES, machine->problem);
		attrset(A_NORMAL);
		return;
	}
	if (machine->moving)
		top_move_text(machine, now_ms, move);
	snprintf(line, sizeof(line), "%.100s%s%s%s%s%s", machine->status ? machine->status : "",
		 *move ? ", " : "", move, machine->base_known ? ", boot memory " : "",
		 machine->base_known ? top_size_text(machine->base_bytes, size) : "",
		 machine->nr_devices ? "" : ", no memory devices");
	top_put(y, (int)used, TOP_LINE_BYTES, line);
}

static void top_draw_figures(int y, const struct top_device *device, uint64_t now_ms)
{
	char text[ARRAY_SIZE(top_columns)][TOP_TEXT_MAX];
	int shift = top_shift();

	snprintf(text[0], TOP_TEXT_MAX, "%lld", (long long)device->node);
	top_size_text(device->plugged_bytes, text[1]);
	top_size_text(device->requested_bytes, text[2]);
	top_size_text(device->max_bytes, text[3]);
	top_rate_text(top_device_rate(device, now_ms), text[4]);
	top_count_text((uint64_t)num_max(progress_rate_get(&device->requests_rate, now_ms), 0),
		       device->requests_known, text[5]);
	top_count_text(device->violations, device->violations_known, text[6]);
	for (size_t i = 0; i < ARRAY_SIZE(top_columns); i++)
		top_put_right(y, top_columns[i].x + shift, top_columns[i].width, text[i]);
}

static void top_draw_device(const struct top_screen *screen, int y, const struct top_view *view,
			    const struct top_device *device)
{
	char state[TOP_TEXT_MAX];
	int shift = top_shift();
	bool selected = device == top_selected(view);

	attrset(selected ? A_BOLD : A_NORMAL);
	top_put(y, 0, 1, selected ? ">" : " ");
	top_put(y, TOP_MAP_MARGIN, 12 + (size_t)shift, device->label);
	top_draw_figures(y, device, view->now_ms);
	if (device->violations_known && device->violations) {
		char count[TOP_TEXT_MAX];

		top_attr(screen, TOP_BAD, A_BOLD);
		top_put_right(y, top_columns[6].x + shift, top_columns[6].width,
			      top_count_text(device->violations, true, count));
	}
	attrset(selected ? A_BOLD : A_NORMAL);
	top_put(y, TOP_STATE_X + shift, TOP_LINE_BYTES,
		top_state_text(device, view->now_ms, state));
	attrset(A_NORMAL);
}

static size_t top_map_columns(void)
{
	return COLS > 2 * TOP_MAP_MARGIN ? (size_t)(COLS - 2 * TOP_MAP_MARGIN) : 0;
}

static void top_draw_map(const struct top_screen *screen, int y, const struct top_device *device,
			 size_t part, size_t parts)
{
	static const char *const utf8[TOP_SHADES] = {"·", "░", "▒", "▓", "█"};
	static const char *const ascii[TOP_SHADES] = {".", ":", "+", "%", "#"};
	size_t columns = top_map_columns();

	for (size_t x = 0; x < columns; x++) {
		unsigned int shade =
			top_shade(top_device_fill(device, part * columns + x, parts * columns));

		if (shade == TOP_SHADES - 1)
			top_attr(screen, TOP_FULL, A_NORMAL);
		else if (shade)
			top_attr(screen, TOP_PART, A_NORMAL);
		else
			attrset(A_DIM);
		top_put(y, TOP_MAP_MARGIN + (int)x, 1, screen->utf8 ? utf8[shade] : ascii[shade]);
	}
	attrset(A_NORMAL);
}

/* How many rows there are for what is said. */
static int top_rows_said(void)
{
	return LINES < TOP_ROWS_LOW ? 1 : TOP_ROWS_SAID;
}

/* @text in the rows above the keys, cut where words end if that can be. */
static void top_draw_said(const char *text)
{
	int rows = top_rows_said();

	for (int i = 0; i < rows && *text; i++) {
		size_t size = text_fit(text, (size_t)COLS), word = size;
		char line[TOP_LINE_BYTES];

		while (text[size] && i + 1 < rows && word && text[word] != ' ')
			word--;
		size = num_min(word ? word : size, sizeof(line) - 1);
		memcpy(line, text, size);
		line[size] = '\0';
		top_put(LINES - 1 - rows + i, 0, (size_t)COLS, line);
		text += size;
		text += strspn(text, " ");
	}
}

static void top_draw_below(const struct top_view *view)
{
	char line[2 * TOP_LINE_BYTES], state[TOP_TEXT_MAX], step[TOP_TEXT_MAX];
	const struct top_device *device = top_selected(view);

	if (view->message) {
		top_draw_said(view->message);
	} else if (device) {
		snprintf(line, sizeof(line), "%.100s: %s%s%.700s", device->label,
			 top_state_text(device, view->now_ms, state), device->reason ? ": " : "",
			 device->reason ? device->reason : "");
		top_draw_said(line);
	}
	snprintf(line, sizeof(line), "q quit  arrows choose  +/- resize by %s  p %s",
		 device ? top_size_text(top_device_step(device), step) : "a step",
		 view->paused ? "go on" : "pause");
	top_put(LINES - 1, 0, (size_t)COLS, line);
}

/* ---- the whole ---- */

static size_t top_list_rows(void)
{
	int rows = LINES - TOP_ROWS_ABOVE - top_rows_said() - 1;

	return rows > 0 ? (size_t)rows : 0;
}

size_t top_screen_cells(const struct top_screen *screen, const struct top_view *view)
{
	(void)screen;
	return num_max(top_map_columns() * top_map_rows(view, top_list_rows()), 1);
}

void top_screen_draw(struct top_screen *screen, struct top_view *view)
{
	size_t rows = top_list_rows(), map_rows = top_map_rows(view, rows), nr = 0;
	struct top_row *list = top_rows(view, map_rows, &nr);

	if (list)
		view->scroll = top_scroll(view, list, nr, rows);
	erase();
	top_draw_header(view);
	top_draw_heads(screen);
	for (size_t i = 0; list && i < rows && view->scroll + i < nr; i++) {
		const struct top_row *row = &list[view->scroll + i];
		const struct top_machine *machine = view->machines[row->machine];
		int y = TOP_ROWS_ABOVE + (int)i;

		if (row->kind == TOP_ROW_MACHINE)
			top_draw_machine(screen, y, machine, view->now_ms);
		else if (row->kind == TOP_ROW_DEVICE)
			top_draw_device(screen, y, view, machine->devices[row->device]);
		else
			top_draw_map(screen, y, machine->devices[row->device], row->part, map_rows);
	}
	top_draw_below(view);
	refresh();
	free(list);
}

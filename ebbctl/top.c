/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The live view: see top.h. One loop waits for the monitors, the keyboard, signals and the clock;
 * at each interval every machine is asked, and when all have answered, it is shown.
 */
#include "ebbctl/top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <curses.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/print.h"
#include "ebbctl/text.h"
#include "ebbctl/top_draw.h"
#include "ebbctl/top_list.h"
#include "ebbctl/top_model.h"
#include "ebbctl/top_text.h"

/* How long something that happened is shown. */
#define TOP_MESSAGE_MS 5000
/* Cells of a map where none is drawn. */
#define TOP_LINE_CELLS 1

#define CTRL_C 3
#define CTRL_L 12

struct top {
	const struct args *args;
	struct top_list *list;
	struct top_link *const *links; /* shown, as the view's machines */
	struct top_screen *screen;     /* NULL: lines, or not begun */
	struct top_view view;
	char *message;
	uint64_t message_end_ms;
	uint64_t next_ms;  /* round */
	uint64_t rounds;   /* that are over */
	bool begun, asked; /* a round is under way */
	bool leave;
	int status;
	int signals;
};

static uint64_t top_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void top_say(void *opaque, const char *text)
{
	struct top *top = opaque;

	free(top->message);
	top->message = strdup(text);
	top->message_end_ms = top_now_ms() + TOP_MESSAGE_MS;
}

/* ---- showing ---- */

/* Which machines there are: after each call that may end some. */
static void top_look(struct top *top)
{
	top->view.nr_machines = top_list_shown(top->list, &top->view.machines, &top->links);
	top_select(&top->view, 0);
}

static void top_refresh(struct top *top)
{
	top_look(top);
	top->view.now_ms = top_now_ms();
	if (top->message && top->view.now_ms >= top->message_end_ms) {
		free(top->message);
		top->message = NULL;
	}
	top->view.message = top->message;
	if (top->screen)
		top_screen_draw(top->screen, &top->view);
}

static void top_print_line(const char *when, char *line)
{
	printf("%s %s\n", when, line ? line : "out of memory");
	free(line);
}

/* One line for each device, or for a machine that has none. */
static void top_print(struct top *top)
{
	time_t now = time(NULL);
	char when[32] = "";
	struct tm tm;

	if (localtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	for (size_t m = 0; m < top->view.nr_machines; m++) {
		const struct top_machine *machine = top->view.machines[m];

		if (!machine->nr_devices)
			top_print_line(when, top_problem_line(machine));
		if (machine->moving)
			top_print_line(when, top_move_line(machine, top->view.now_ms));
		for (size_t d = 0; d < machine->nr_devices; d++)
			top_print_line(when,
				       top_line(machine, machine->devices[d], top->view.now_ms));
	}
	if (print_flush()) {
		top->status = 1;
		top->leave = true;
	}
}

static void top_round_done(struct top *top)
{
	top->asked = false;
	top_refresh(top);
	if (!top->screen)
		top_print(top);
	if (++top->rounds == top->args->count)
		top->leave = true;
}

/* ---- asking ---- */

static void top_ask(struct top *top)
{
	size_t cells = top->screen ? top_screen_cells(top->screen, &top->view) : TOP_LINE_CELLS;

	for (size_t i = 0; i < top_list_nr(top->list); i++)
		top_link_ask(top_list_link(top->list, i), cells);
	top->asked = true;
}

/* Somebody is there: the screen may come up. */
static void top_begin(struct top *top)
{
	const char *why;

	top->begun = true;
	top->next_ms = top_now_ms();
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return;
	top->screen = top_screen_new(&why);
	if (!top->screen)
		fprintf(stderr, "ebbctl: top shows lines: %s\n", why);
}

/* Nobody is there to look at. */
static void top_fail(struct top *top)
{
	const struct top_link *link = top_list_link(top->list, 0);
	const char *problem = top_link_machine(link)->problem;
	struct err *err = NULL;

	err_set(&err, ENOTCONN, "%s: %s", top_link_where(link),
		problem ? problem : "no monitor is there");
	top->status = print_err(err);
	top->leave = true;
}

static void top_clock(struct top *top)
{
	uint64_t now = top_now_ms();

	top_list_tick(top->list, now);
	top_look(top);
	if (!top->begun && (top_list_is_ready(top->list) || top_list_has_folders(top->list)))
		top_begin(top);
	if (!top->screen && top_list_is_down(top->list)) {
		top_fail(top);
		return;
	}
	if (!top->begun)
		return;
	if (now >= top->next_ms) {
		if (top->asked)
			top_round_done(top);
		top->next_ms = now - (now - top->next_ms) % top->args->interval_ms +
			       top->args->interval_ms;
		if (!top->view.paused && !top->leave)
			top_ask(top);
	}
	if (top->asked && !top->leave && top_list_is_idle(top->list))
		top_round_done(top);
}

/* ---- keys ---- */

static void top_resize(struct top *top, bool more)
{
	struct top_device *device = top_selected(&top->view);
	char size[TEXT_SIZE_MAX], text[256];
	uint64_t bytes;

	if (!device)
		return;
	bytes = top_device_stepped(device, more);
	if (bytes == device->requested_bytes) {
		snprintf(text, sizeof(text), "%.100s: it can have no %s than %s", device->label,
			 more ? "more" : "less", text_size(bytes, size));
	} else {
		snprintf(text, sizeof(text), "%.100s: %s asked for", device->label,
			 text_size(bytes, size));
		top_link_resize(top->links[top->view.machine], device->id, bytes);
		top_device_ask(device, bytes);
	}
	top_say(top, text);
}

static void top_key(struct top *top, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
	case CTRL_C:
		top->leave = true;
		break;
	case KEY_UP:
	case KEY_LEFT:
	case 'k':
		top_select(&top->view, -1);
		break;
	case KEY_DOWN:
	case KEY_RIGHT:
	case 'j':
		top_select(&top->view, 1);
		break;
	case '+':
	case '=':
		top_resize(top, true);
		break;
	case '-':
	case '_':
		top_resize(top, false);
		break;
	case 'p':
	case 'P':
	case ' ':
		top->view.paused = !top->view.paused;
		break;
	case CTRL_L:
		clearok(curscr, TRUE);
		break;
	default: /* KEY_RESIZE: drawing it again is all that it takes */
		break;
	}
}

static void top_keys(struct top *top)
{
	int key;

	if (!top->screen)
		return;
	while (!top->leave && (key = top_screen_key(top->screen)) >= 0) {
		top_key(top, key);
		top_refresh(top);
	}
}

/* ---- the loop ---- */

static int top_timeout(const struct top *top)
{
	uint64_t now = top_now_ms(), end = now + TOP_RETRY_MS;

	if (top->begun)
		end = num_min(end, top->next_ms);
	return end > now ? (int)(end - now) : 0;
}

/* Wait for something and do what follows from it. */
static void top_turn(struct top *top, struct pollfd *fds)
{
	size_t nr = top_list_nr(top->list);
	bool was_ready;

	fds[0] = (struct pollfd){.fd = top->signals, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = top->screen ? STDIN_FILENO : -1, .events = POLLIN};
	for (size_t i = 0; i < nr; i++)
		top_link_poll(top_list_link(top->list, i), &fds[2 + i]);
	if (poll(fds, 2 + nr, top_timeout(top)) < 0) {
		top_keys(top); /* the window changed its size */
		return;
	}
	if (fds[0].revents || (fds[1].revents & (POLLHUP | POLLERR)))
		top->leave = true;
	for (size_t i = 0; i < nr; i++) {
		struct top_link *link = top_list_link(top->list, i);

		if (!fds[2 + i].revents)
			continue;
		was_ready = top_link_was_ready(link);
		top_link_work(link, top_now_ms());
		/* One that just came is not left out of the round. */
		if (top->asked && !was_ready && top_link_was_ready(link))
			top_link_ask(link, TOP_LINE_CELLS);
	}
	if (fds[1].revents)
		top_keys(top);
}

static int top_loop(struct top *top)
{
	struct pollfd *fds = calloc(2 + TOP_LINKS_MAX, sizeof(*fds));
	struct err *err = NULL;

	if (!fds) {
		err_set(&err, ENOMEM, "out of memory");
		return print_err(err);
	}
	while (!top->leave) {
		top_clock(top);
		if (!top->leave)
			top_turn(top, fds);
	}
	free(fds);
	return top->status;
}

int top_run(const struct args *args)
{
	static const struct top_link_ops ops = {.say = top_say};
	struct top top = {.args = args};
	struct err *err = NULL;
	sigset_t set, before;
	int status;

	if (top_list_new(args->sockets, args->nr_sockets, &ops, &top, &top.list, &err))
		return print_err(err);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &before);
	top.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	status = top_loop(&top);
	top_screen_free(top.screen);
	top_list_free(top.list);
	free(top.message);
	close(top.signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return status;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile monitor against the client: the input is what it sends, cut into pieces. Whatever comes
 * as an answer or an event goes through all that ebbctl makes of answers: lists, rates, maps,
 * lines, completions. What is made for a terminal must be clean.
 *
 * The first byte says how: 1 the greeting stands before the rest, 2 in pieces of a few bytes, 4 in
 * the middle the connection ends on the client's side.
 */
#include <assert.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"
#include "ebbctl/prompt_words.h"
#include "ebbctl/text.h"
#include "ebbctl/top_draw.h"
#include "ebbctl/top_model.h"
#include "ebbctl/top_text.h"

#define GREETING    "{\"QMP\": {}}{\"return\": {}, \"id\": 0}"
#define PIECE_BYTES 7
#define PIECE_LARGE 2048
#define QUESTIONS   4

struct fuzz {
	struct client *client;
	struct top_machine machine;
	struct prompt_words *words;
	uint64_t now_ms;
	unsigned int pending;
};

/* Nothing in it that a terminal would act on. */
static void must_be_clean(const char *text)
{
	size_t size = strlen(text), at = 0;
	uint32_t c;

	while (at < size) {
		at += text_next(text + at, size - at, &c);
		assert(c != UINT32_MAX && (text_is_plain(c) || c == '\n' || c == '\t'));
	}
}

static void show(struct fuzz *f)
{
	struct top_machine *machine = &f->machine;
	struct top_view view = {.machines = &machine, .nr_machines = 1, .now_ms = f->now_ms};
	struct top_row *rows;
	char text[TOP_MOVE_TEXT_MAX];
	size_t nr;
	char *line;

	if (machine->moving) {
		must_be_clean(top_move_text(machine, f->now_ms, text));
		line = top_move_line(machine, f->now_ms);
		must_be_clean(line);
		free(line);
	}
	top_select(&view, 1);
	rows = top_rows(&view, top_map_rows(&view, 20), &nr);
	assert(top_scroll(&view, rows, nr, 20) <= nr);
	free(rows);
	for (size_t i = 0; i < machine->nr_devices; i++) {
		const struct top_device *device = machine->devices[i];

		line = top_line(machine, device, f->now_ms);
		must_be_clean(line);
		free(line);
		for (size_t at = 0; at < 9; at++)
			assert(top_shade(top_device_fill(device, at, 9)) < TOP_SHADES);
		assert(top_device_stepped(device, true) <=
		       num_max(device->max_bytes, device->requested_bytes));
		assert(top_device_stepped(device, false) <= device->requested_bytes);
	}
}

static void complete(struct fuzz *f, const json_t *value)
{
	static const char *const texts[] = {"", "a", "info ", "job_x ", "x "};
	const char *help = json_string_value(value);
	struct prompt_matches m;

	for (unsigned int kind = 0; help && kind < PROMPT_NR_KINDS; kind++)
		prompt_words_take_help(f->words, kind, help);
	prompt_words_take_ids(f->words, PROMPT_IDS, value, "id");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert(!prompt_words_match(f->words, texts[i], &m));
		assert(!m.nr || (m.common >= m.typed && m.common <= strlen(m.words[0])));
		for (size_t at = 0; at < m.nr; at++)
			must_be_clean(m.words[at]);
		free(m.words);
	}
}

static void told(void *opaque, const json_t *value, const struct err *err)
{
	struct fuzz *f = opaque;
	char *text, *clean;

	assert(f->pending-- > 0);
	assert(!value != !err);
	if (err) {
		must_be_clean(err_message(err));
		return;
	}
	f->now_ms += 100;
	top_machine_take_devices(&f->machine, value, f->now_ms);
	top_machine_take_status(&f->machine, value);
	top_machine_take_summary(&f->machine, value);
	top_machine_take_blocks(&f->machine, "a", value);
	top_machine_take_virtio_mem(&f->machine, value);
	top_machine_take_stats(&f->machine, value, f->now_ms);
	top_machine_take_migration(&f->machine, value, f->now_ms);
	show(f);
	complete(f, value);
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_INDENT(2));
	if (!text)
		return;
	clean = text_clean_json(text, strlen(text));
	must_be_clean(clean);
	free(clean);
	free(text);
}

static void event(void *opaque, const char *name, const json_t *message)
{
	struct fuzz *f = opaque;
	char *line = print_event_line(name, message);

	must_be_clean(line);
	free(line);
	f->now_ms++;
}

static const struct client_ops ops = {.event = event};

/* Questions are asked as long as there is somebody to answer. */
static void ask(struct fuzz *f)
{
	while (client_state(f->client) == CLIENT_READY && client_pending(f->client) < QUESTIONS) {
		f->pending++;
		client_send(f->client, "x", NULL, told, f);
	}
}

/* False: the connection is over. */
static bool feed(struct fuzz *f, int fd, const char *data, size_t size)
{
	struct err *err = NULL;
	char heard[4096];
	int ret;

	if (size && send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		return false;
	ret = client_work(f->client, &err);
	while (recv(fd, heard, sizeof(heard), MSG_DONTWAIT) > 0)
		;
	assert(!ret == !err);
	if (err)
		must_be_clean(err_message(err));
	err_free(err);
	return !ret;
}

static void run(struct fuzz *f, int fd, unsigned int how, const char *data, size_t size)
{
	size_t piece = how & 2 ? PIECE_BYTES : PIECE_LARGE, at = 0;
	bool going = true;

	if (how & 1)
		going = feed(f, fd, GREETING, sizeof(GREETING) - 1);
	while (going && at < size && !(how & 4 && at > size / 2)) {
		size_t part = num_min(piece, size - at);

		ask(f);
		going = feed(f, fd, data + at, part);
		at += part;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {0};
	int fds[2];

	if (!size || socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		return 0;
	setlocale(LC_CTYPE, "C.UTF-8");
	f.client = client_new(fds[0], "sock");
	f.words = prompt_words_new();
	if (!f.client || !f.words || top_machine_init(&f.machine, "machine"))
		abort();
	client_set_ops(f.client, &ops, &f);
	run(&f, fds[1], data[0], (const char *)data + 1, size - 1);
	client_free(f.client);
	assert(!f.pending);
	top_machine_done(&f.machine);
	prompt_words_free(f.words);
	close(fds[1]);
	return 0;
}

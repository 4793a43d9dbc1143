/* SPDX-License-Identifier: BSD-3-Clause */
/* Completion at the prompt: words from help texts and lists, and what they complete. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ebbctl/prompt_words.h"

static const char help[] =
	"cont|c  -- go on\r\nhelp|? [cmd] -- show the help\r\ninfo [subcommand] -- show things\r\n"
	"job_cancel id -- end a job\r\nvirtio-mem id size [-w] -- resize\r\n"
	"what follows tells of no command\r\n";

static int setup(void **state)
{
	struct prompt_words *words = prompt_words_new();
	json_t *devices = json_loads("[{\"type\": \"virtio-mem\", \"data\": {\"id\": \"reg0\"}}, "
				     "{\"data\": {\"id\": \"reg1\"}}, {\"id\": \"reg1\"}, "
				     "{\"id\": 7}, 8]",
				     0, NULL);
	json_t *jobs = json_loads("[{\"id\": \"resize-1\"}]", 0, NULL);

	assert_non_null(words);
	prompt_words_take_help(words, PROMPT_COMMANDS, help);
	prompt_words_take_help(words, PROMPT_INFO,
			       "info memdev -- backends\ninfo memory-devices -- devices\n"
			       "numa -- nodes");
	prompt_words_take_ids(words, PROMPT_IDS, devices, "id");
	prompt_words_take_ids(words, PROMPT_JOBS, jobs, "id");
	json_decref(devices);
	json_decref(jobs);
	*state = words;
	return 0;
}

static int teardown(void **state)
{
	prompt_words_free(*state);
	return 0;
}

static void check(struct prompt_words *words, const char *text, size_t typed, size_t common,
		  const char *wanted)
{
	struct prompt_matches m;
	char list[512] = "";

	assert_int_equal(prompt_words_match(words, text, &m), 0);
	for (size_t i = 0; i < m.nr; i++) {
		strcat(list, i ? " " : "");
		strcat(list, m.words[i]);
	}
	print_message("'%s': %s\n", text, list);
	assert_string_equal(list, wanted);
	assert_int_equal(m.typed, typed);
	assert_int_equal(m.common, common);
	free(m.words);
}

static void test_match(void **state)
{
	check(*state, "", 0, 0, "? c cont help info job_cancel virtio-mem");
	check(*state, "c", 1, 1, "c cont");
	check(*state, "  co", 2, 4, "cont");
	check(*state, "x", 1, 0, "");
	check(*state, "info ", 0, 0, "memdev memory-devices numa");
	check(*state, "info mem", 3, 3, "memdev memory-devices");
	check(*state, "info  memo", 4, 14, "memory-devices");
	check(*state, "info numa ", 0, 3, "reg0 reg1");
	check(*state, "help v", 1, 10, "virtio-mem");
	check(*state, "? v", 1, 10, "virtio-mem");
	check(*state, "virtio-mem ", 0, 3, "reg0 reg1");
	check(*state, "virtio-mem reg0", 4, 4, "reg0");
	check(*state, "job_cancel ", 0, 8, "resize-1");
	check(*state, "information m", 1, 0, "");
}

static void test_hostile(void **state)
{
	struct prompt_words *words = *state;
	char text[PROMPT_WORD_BYTES + 100];
	json_t *list = json_array();

	memset(text, 'l', sizeof(text));
	strcpy(text + PROMPT_WORD_BYTES + 1, " -- too long");
	prompt_words_take_help(words, PROMPT_COMMANDS, text);
	prompt_words_take_help(words, PROMPT_COMMANDS, "|| -- none\n|||\n -- none\n");
	prompt_words_take_help(words, PROMPT_COMMANDS, "es\033[2J -- c\n\xC3\xB6 -- not ASCII\n");
	check(words, "l", 1, 0, "");
	check(words, "e", 1, 0, "");
	prompt_words_take_ids(words, PROMPT_IDS, NULL, "id");
	for (unsigned int i = 0; i < PROMPT_WORDS_MAX + 100; i++) {
		snprintf(text, sizeof(text), "w%u", i);
		json_array_append_new(list, json_pack("{s:s}", "id", text));
	}
	prompt_words_take_ids(words, PROMPT_IDS, list, "id");
	json_decref(list);
	for (unsigned int kind = 0; kind < PROMPT_NR_KINDS; kind++)
		prompt_words_forget(words, kind);
	check(words, "", 0, 0, "");
}

/* Ids that are told anew come all at once. */
static void test_replace(void **state)
{
	struct prompt_words *words = *state, *fresh = prompt_words_new();
	json_t *old = json_pack("[{s:s}, {s:s}]", "id", "d0", "id", "d1");
	json_t *new = json_pack("[{s:s}, {s:s}]", "id", "d1", "id", "d2");

	prompt_words_take_ids(words, PROMPT_IDS, old, "id");
	prompt_words_take_ids(fresh, PROMPT_IDS, new, "id");
	check(words, "virtio-mem d", 1, 1, "d0 d1");
	prompt_words_replace(words, PROMPT_IDS, fresh);
	check(words, "virtio-mem d", 1, 1, "d1 d2");
	prompt_words_replace(words, PROMPT_IDS, fresh);
	check(words, "virtio-mem d", 1, 0, "");
	json_decref(old);
	json_decref(new);
	prompt_words_free(fresh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_match, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

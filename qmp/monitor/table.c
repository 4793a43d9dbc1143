/* SPDX-License-Identifier: BSD-3-Clause */
/* Command tables: finding, help, completion. See hmp.h and internal.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/monitor/internal.h"

#define HMP_WORDS_MAX 1024

/* Is @word one of the names in "name|alias|..."? */
static bool hmp_name_is(const char *names, const char *word)
{
	size_t size = strlen(word);
	const char *end;

	for (;;) {
		end = strchrnul(names, '|');
		if ((size_t)(end - names) == size && !memcmp(names, word, size))
			return true;
		if (!*end)
			return false;
		names = end + 1;
	}
}

const struct hmp_command *hmp_table_find(const struct hmp_command *table, const char *word)
{
	const struct hmp_command *cmd;

	for (cmd = table; cmd->name; cmd++)
		if (hmp_name_is(cmd->name, word))
			return cmd;
	return NULL;
}

static int hmp_command_order(const void *a, const void *b)
{
	const struct hmp_command *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void hmp_command_help(struct hmp_call *call, const struct hmp_command *cmd,
			     const char *prefix)
{
	hmp_printf(call, "%s%s %s -- %s\n", prefix, cmd->name, cmd->params ? cmd->params : "",
		   cmd->help ? cmd->help : "");
}

void hmp_table_help(struct hmp_call *call, const struct hmp_command *table, const char *prefix)
{
	const struct hmp_command **sorted;
	size_t count = 0, i;
	bool top = !*prefix;

	while (table[count].name)
		count++;
	sorted = calloc(count + 1, sizeof(*sorted));
	if (!sorted) {
		hmp_printf(call, "Error: out of memory\n");
		return;
	}
	for (i = 0; i < count; i++)
		sorted[i] = &table[i];
	if (top && !hmp_table_find(table, "help"))
		sorted[count++] = &hmp_help_command;
	qsort(sorted, count, sizeof(*sorted), hmp_command_order);
	for (i = 0; i < count; i++)
		hmp_command_help(call, sorted[i], prefix);
	free(sorted);
}

void hmp_table_help_words(struct hmp_call *call, const struct hmp_command *table, const char *words)
{
	char word[HMP_LINE_BYTES], prefix[256] = "";
	const struct hmp_command *cmd;
	size_t used;

	while (hmp_word_next(&words, word, NULL) == 0) {
		cmd = hmp_table_find(table, word);
		if (!cmd && !*prefix && hmp_name_is(hmp_help_command.name, word))
			cmd = &hmp_help_command;
		if (!cmd) {
			hmp_printf(call, "unknown command: '%s%s'\n", prefix, word);
			return;
		}
		if (!cmd->sub) {
			hmp_command_help(call, cmd, prefix);
			return;
		}
		used = strlen(prefix);
		snprintf(prefix + used, sizeof(prefix) - used, "%.63s ", word);
		table = cmd->sub;
	}
	hmp_table_help(call, table, prefix);
}

void hmp_words_add(struct hmp_words *words, const char *word)
{
	char **grown;

	if (strncmp(word, words->typed, words->typed_size) || words->count == HMP_WORDS_MAX)
		return;
	grown = realloc(words->words, (words->count + 1) * sizeof(*grown));
	if (!grown)
		return;
	words->words = grown;
	grown[words->count] = strdup(word);
	if (grown[words->count])
		words->count++;
}

const char *hmp_words_typed(const struct hmp_words *words)
{
	return words->typed;
}

const char *hmp_words_previous(const struct hmp_words *words)
{
	return words->previous;
}

void hmp_words_done(struct hmp_words *words)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		free(words->words[i]);
	free(words->words);
}

static int hmp_word_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void hmp_words_sort(struct hmp_words *words)
{
	size_t from, to = 0;

	if (!words->count)
		return;
	qsort(words->words, words->count, sizeof(*words->words), hmp_word_order);
	for (from = 1; from < words->count; from++) {
		if (!strcmp(words->words[to], words->words[from]))
			free(words->words[from]);
		else
			words->words[++to] = words->words[from];
	}
	words->count = to + 1;
}

size_t hmp_words_common(const struct hmp_words *words)
{
	size_t size, i, j;

	if (!words->count)
		return 0;
	size = strlen(words->words[0]);
	for (i = 1; i < words->count; i++) {
		for (j = 0; j < size && words->words[i][j] == words->words[0][j]; j++)
			;
		size = j;
	}
	return size;
}

/* Offer every name and alias of a table. */
static void hmp_words_add_table(struct hmp_words *words, const struct hmp_command *table)
{
	char name[64];
	const char *p, *end;
	size_t size;

	for (; table->name; table++) {
		for (p = table->name;; p = end + 1) {
			end = strchrnul(p, '|');
			size = num_min((size_t)(end - p), sizeof(name) - 1);
			memcpy(name, p, size);
			name[size] = '\0';
			hmp_words_add(words, name);
			if (!*end)
				break;
		}
	}
}

/* Where completion stands after the words before the last one. */
struct hmp_place {
	const struct hmp_command *table; /* a command's name is next */
	const struct hmp_command *cmd;   /* or argument @index of this */
	unsigned int index;
};

static void hmp_place_advance(struct hmp_place *place, const struct hmp_command *top,
			      const char *word)
{
	if (place->cmd) {
		place->index += !(word[0] == '-' && isalpha((unsigned char)word[1]) && !word[2]);
		return;
	}
	if (!place->table)
		return;
	place->cmd = hmp_table_find(place->table, word);
	if (place->table == top && !place->cmd && hmp_name_is(hmp_help_command.name, word))
		return; /* what help is asked for: a command's name again */
	place->table = NULL;
	if (place->cmd && place->cmd->sub) {
		place->table = place->cmd->sub;
		place->cmd = NULL;
	}
}

void hmp_complete(const struct hmp *hmp, const char *text, struct hmp_words *ret_words)
{
	struct hmp_place place = {.table = hmp->commands};
	const char *last = text + strlen(text), *at = text;
	char word[HMP_LINE_BYTES] = "";

	while (last > text && !isspace((unsigned char)last[-1]))
		last--;
	*ret_words = (struct hmp_words){.typed = last, .typed_size = strlen(last)};
	for (;;) {
		while (isspace((unsigned char)*at))
			at++;
		if (at >= last)
			break;
		if (hmp_word_next(&at, word, NULL)) {
			*word = '\0';
			break;
		}
		hmp_place_advance(&place, hmp->commands, word);
	}
	ret_words->previous = word;
	if (place.table) {
		hmp_words_add_table(ret_words, place.table);
		if (place.table == hmp->commands)
			hmp_words_add(ret_words, "help");
	} else if (place.cmd && place.cmd->complete) {
		place.cmd->complete(hmp->ctx, place.index, ret_words);
	}
	ret_words->previous = NULL;
	hmp_words_sort(ret_words);
}

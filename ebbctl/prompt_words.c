/* SPDX-License-Identifier: BSD-3-Clause */
/* Completion: see prompt_words.h for the contract. */
#include "ebbctl/prompt_words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

struct prompt_words {
	struct {
		char **words;
		size_t nr;
	} kinds[PROMPT_NR_KINDS];
};

struct prompt_words *prompt_words_new(void)
{
	return calloc(1, sizeof(struct prompt_words));
}

void prompt_words_forget(struct prompt_words *words, enum prompt_kind kind)
{
	for (size_t i = 0; i < words->kinds[kind].nr; i++)
		free(words->kinds[kind].words[i]);
	free(words->kinds[kind].words);
	words->kinds[kind].words = NULL;
	words->kinds[kind].nr = 0;
}

void prompt_words_replace(struct prompt_words *words, enum prompt_kind kind,
			  struct prompt_words *from)
{
	prompt_words_forget(words, kind);
	words->kinds[kind] = from->kinds[kind];
	from->kinds[kind].words = NULL;
	from->kinds[kind].nr = 0;
}

void prompt_words_free(struct prompt_words *words)
{
	if (!words)
		return;
	for (unsigned int kind = 0; kind < PROMPT_NR_KINDS; kind++)
		prompt_words_forget(words, kind);
	free(words);
}

static bool prompt_word_fits(const char *word, size_t size)
{
	if (!size || size > PROMPT_WORD_BYTES)
		return false;
	for (size_t i = 0; i < size; i++)
		if (word[i] <= ' ' || word[i] > '~')
			return false;
	return true;
}

static void prompt_words_add(struct prompt_words *words, enum prompt_kind kind, const char *word,
			     size_t size)
{
	size_t nr = words->kinds[kind].nr, at = 0;
	char **grown, *copy;
	int order = 1;

	if (!prompt_word_fits(word, size) || nr == PROMPT_WORDS_MAX)
		return;
	copy = strndup(word, size);
	while (copy && at < nr && (order = strcmp(words->kinds[kind].words[at], copy)) < 0)
		at++;
	grown = copy && !(at < nr && !order)
			? reallocarray(words->kinds[kind].words, nr + 1, sizeof(*grown))
			: NULL;
	if (!grown) {
		free(copy);
		return;
	}
	memmove(grown + at + 1, grown + at, (nr - at) * sizeof(*grown));
	grown[at] = copy;
	words->kinds[kind].words = grown;
	words->kinds[kind].nr = nr + 1;
}

/* "name|alias" of a line. */
static void prompt_words_take_names(struct prompt_words *words, enum prompt_kind kind,
				    const char *line, size_t size)
{
	while (size) {
		const char *bar = memchr(line, '|', size);
		size_t name = bar ? (size_t)(bar - line) : size;

		prompt_words_add(words, kind, line, name);
		line += name;
		size -= name;
		if (size) {
			line++;
			size--;
		}
	}
}

void prompt_words_take_help(struct prompt_words *words, enum prompt_kind kind, const char *text)
{
	while (*text) {
		size_t line = strcspn(text, "\r\n"), skip = 0;

		if (kind == PROMPT_INFO && line > 5 && !strncmp(text, "info ", 5))
			skip = 5;
		/* What tells of no command has no such mark. */
		if (memmem(text, line, " -- ", 4))
			prompt_words_take_names(words, kind, text + skip,
						strcspn(text + skip, " \r\n"));
		text += line;
		text += strspn(text, "\r\n");
	}
}

void prompt_words_take_ids(struct prompt_words *words, enum prompt_kind kind, const json_t *list,
			   const char *key)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *element = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(element, key));

		if (!id)
			id = json_string_value(
				json_object_get(json_object_get(element, "data"), key));
		if (id)
			prompt_words_add(words, kind, id, strlen(id));
	}
}

/* Which words can stand at the end of @text, whose last word has @typed bytes. */
static enum prompt_kind prompt_kind_of(const char *text, size_t typed)
{
	const char *end = text + strlen(text) - typed;
	size_t first;

	text += strspn(text, " \t");
	if (text >= end)
		return PROMPT_COMMANDS;
	first = strcspn(text, " \t");
	if (text + first + strspn(text + first, " \t") < end)
		return PROMPT_IDS;
	if (first == 4 && !strncmp(text, "info", 4))
		return PROMPT_INFO;
	if ((first == 4 && !strncmp(text, "help", 4)) || (first == 1 && *text == '?'))
		return PROMPT_COMMANDS;
	return first > 4 && !strncmp(text, "job_", 4) ? PROMPT_JOBS : PROMPT_IDS;
}

int prompt_words_match(const struct prompt_words *words, const char *text,
		       struct prompt_matches *ret_matches)
{
	struct prompt_matches m = {0};
	size_t size = strlen(text), i, same;
	enum prompt_kind kind;
	const char *word;

	while (m.typed < size && text[size - m.typed - 1] != ' ' &&
	       text[size - m.typed - 1] != '\t')
		m.typed++;
	word = text + size - m.typed;
	kind = prompt_kind_of(text, m.typed);
	m.words = calloc(words->kinds[kind].nr + 1, sizeof(*m.words));
	if (!m.words)
		return -ENOMEM;
	for (i = 0; i < words->kinds[kind].nr; i++) {
		const char *offer = words->kinds[kind].words[i];

		if (strncmp(offer, word, m.typed))
			continue;
		for (same = 0; m.nr && offer[same] && offer[same] == m.words[0][same];)
			same++;
		m.common = m.nr ? num_min(m.common, same) : strlen(offer);
		m.words[m.nr++] = offer;
	}
	*ret_matches = m;
	return 0;
}

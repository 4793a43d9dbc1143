/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What Tab offers at the prompt: commands from the monitor's help, and ids of what there is.
 *
 * I1  A word is ASCII without blanks and control characters, at most PROMPT_WORD_BYTES long; at
 *     most PROMPT_WORDS_MAX of a kind are kept, each once, sorted.
 *
 * Ownership: the caller's. Threads: none.
 */
#ifndef EBBCTL_PROMPT_WORDS_H
#define EBBCTL_PROMPT_WORDS_H

#include <jansson.h>
#include <stddef.h>

#define PROMPT_WORD_BYTES 128
#define PROMPT_WORDS_MAX  4096

enum prompt_kind {
	PROMPT_COMMANDS, /* first words */
	PROMPT_INFO,     /* what follows "info" */
	PROMPT_IDS,
	PROMPT_JOBS, /* what follows a command about jobs */
	PROMPT_NR_KINDS,
};

struct prompt_words;

struct prompt_matches {
	const char **words; /* pointers into the words; free() the array */
	size_t nr;
	size_t typed;  /* bytes of the word that is being typed */
	size_t common; /* bytes that all matches begin with */
};

/* NULL when memory is out. */
struct prompt_words *prompt_words_new(void);
void prompt_words_free(struct prompt_words *words);

/* From a help text: "name|alias args -- what it does" a line. Others are left out. */
void prompt_words_take_help(struct prompt_words *words, enum prompt_kind kind, const char *text);
/* Member @key of each element of a list. */
void prompt_words_take_ids(struct prompt_words *words, enum prompt_kind kind, const json_t *list,
			   const char *key);
void prompt_words_forget(struct prompt_words *words, enum prompt_kind kind);
/* What @from has of a kind instead of what is there; @from has none afterwards. */
void prompt_words_replace(struct prompt_words *words, enum prompt_kind kind,
			  struct prompt_words *from);

/* What the last word of @text may become. 0 or -ENOMEM. */
int prompt_words_match(const struct prompt_words *words, const char *text,
		       struct prompt_matches *ret_matches);

#endif

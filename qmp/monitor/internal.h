/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the human monitor share: hmp.c (sessions, calls), table.c (finding commands,
 * help, completion), args.c (reading arguments).
 */
#ifndef QMP_MONITOR_INTERNAL_H
#define QMP_MONITOR_INTERNAL_H

#include "qmp/monitor/hmp.h"

struct hmp {
	const struct hmp_command *commands;
	char *banner, *prompt;
	void *ctx;
};

/* args.c */

/* One entry of a command's args string. */
struct hmp_spec {
	char name[32];
	char type; /* '-' for a flag */
	char flag;
	bool optional;
};

/* Read the entry at *at, which may be NULL. False at the end. */
bool hmp_spec_next(const char **at, struct hmp_spec *ret_spec);

/*
 * Skip blanks, then copy one word (or "quoted string") to @word. 0; 1 at the line's end; -EINVAL.
 */
int hmp_word_next(const char **at, char word[HMP_LINE_BYTES], struct err **err);
/* The arguments of @cmd from the rest of a line, as a new object. */
int hmp_args_parse(const struct hmp_command *cmd, const char *rest, json_t **ret_args,
		   struct err **err);

/* table.c */

/* The command that is called @word (or has it as an alias), or NULL. */
const struct hmp_command *hmp_table_find(const struct hmp_command *table, const char *word);
/* List a table, sorted; @prefix ("info ") comes before each name. */
void hmp_table_help(struct hmp_call *call, const struct hmp_command *table, const char *prefix);
/* `help WORDS`. */
void hmp_table_help_words(struct hmp_call *call, const struct hmp_command *table,
			  const char *words);

struct hmp_words {
	const char *typed; /* the beginning of the word */
	size_t typed_size;
	const char *previous; /* the word before it, while completions are asked for */
	char **words;         /* sorted, no doubles, after hmp_words_sort() */
	size_t count;
};

/* What may come at the end of @text. Ended by hmp_words_done(). */
void hmp_complete(const struct hmp *hmp, const char *text, struct hmp_words *ret_words);
/* Length of the longest common beginning. */
size_t hmp_words_common(const struct hmp_words *words);
void hmp_words_done(struct hmp_words *words);

/* hmp.c: the command that every table has. */
extern const struct hmp_command hmp_help_command;

#endif

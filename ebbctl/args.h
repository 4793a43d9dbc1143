/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line: which monitor, and what to do there.
 *
 *	ebbctl SOCKET                        a prompt
 *	ebbctl SOCKET resize ID SIZE ...     a word of ours
 *	ebbctl SOCKET WORD...                any other: a line for the monitor, as people type it
 *	ebbctl top SOCKET...
 *
 * I1  Everything is checked before anything is connected to; a sentence names the word that is
 *     wrong and what is allowed.
 *
 * Ownership: everything points into argv.
 */
#ifndef EBBCTL_ARGS_H
#define EBBCTL_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* More than 68 years are a mistake. */
#define ARGS_MS_MAX (UINT64_C(1000) * INT32_MAX)

enum args_command {
	ARGS_HELP,
	ARGS_VERSION,
	ARGS_PROMPT,
	ARGS_HUMAN,
	ARGS_RESIZE,
	ARGS_RESIZE_ALL,
	ARGS_MIGRATE,
	ARGS_SAVE,
	ARGS_JOBS,
	ARGS_CANCEL,
	ARGS_QMP,
	ARGS_EVENTS,
	ARGS_WAIT,
	ARGS_TOP,
};

enum args_change { ARGS_TO, ARGS_BY_MORE, ARGS_BY_LESS };

struct args_size {
	enum args_change change;
	uint64_t bytes;
	const char *text;
};

struct args {
	enum args_command command;
	char **sockets; /* one, or for top some */
	size_t nr_sockets;
	char **words; /* HUMAN, QMP: what follows; others: the name is the first */
	size_t nr_words;
	struct args_size size;
	int64_t node; /* -1: none */
	bool wait;
	bool detach;          /* MIGRATE, SAVE: do not wait */
	uint64_t timeout_ms;  /* 0: none */
	uint64_t interval_ms; /* TOP */
	uint64_t count;       /* TOP; 0: no end */
};

/* @argv: as main() has it, kept; its pointers are put in another order. */
int args_parse(int argc, char **argv, struct args *ret_args, struct err **err);

/* "2G", "+1G", "-512M"; a bare number counts MiB. */
int args_size_parse(const char *text, struct args_size *ret_size, struct err **err);
/* What @size makes of @now, at most @max. @what is resized. */
int args_size_apply(const struct args_size *size, const char *what, uint64_t now, uint64_t max,
		    uint64_t *ret_bytes, struct err **err);
/* "500ms", "30s", "5m", "2h"; a bare number counts seconds. At least 1 ms. */
int args_duration_parse(const char *option, const char *text, uint64_t *ret_ms, struct err **err);

#endif

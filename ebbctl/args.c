/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: see args.h for the contract. */
#include "ebbctl/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/text.h"
#include "qmp/size.h"

#define ARGS_INTERVAL_MIN_MS     100
#define ARGS_INTERVAL_DEFAULT_MS 1000

/* Options of a command. */
#define ARGS_OPT_WAIT     1u
#define ARGS_OPT_TIMEOUT  2u
#define ARGS_OPT_NODE     4u
#define ARGS_OPT_INTERVAL 8u
#define ARGS_OPT_COUNT    16u
#define ARGS_OPT_DETACH   32u

#define ARGS_ANY SIZE_MAX

/* A word of ours: how many words may follow it, and which options. */
struct args_word {
	const char *name;
	enum args_command command;
	size_t least, most;
	unsigned int options;
	const char *usage;
};

static const struct args_word args_words[] = {
	{"resize", ARGS_RESIZE, 2, 2, ARGS_OPT_WAIT | ARGS_OPT_TIMEOUT,
	 "resize ID SIZE [--wait] [--timeout TIME]"},
	{"resize-all", ARGS_RESIZE_ALL, 1, 1, ARGS_OPT_WAIT | ARGS_OPT_TIMEOUT | ARGS_OPT_NODE,
	 "resize-all SIZE [--node N] [--wait] [--timeout TIME]"},
	{"migrate", ARGS_MIGRATE, 1, 1, ARGS_OPT_WAIT | ARGS_OPT_DETACH, "migrate URI [--detach]"},
	{"save", ARGS_SAVE, 1, 1, ARGS_OPT_WAIT | ARGS_OPT_DETACH, "save FILE [--detach]"},
	{"jobs", ARGS_JOBS, 0, 0, 0, "jobs"},
	{"cancel", ARGS_CANCEL, 1, 1, 0, "cancel JOB"},
	{"qmp", ARGS_QMP, 1, ARGS_ANY, 0,
	 "qmp COMMAND [KEY=VALUE...], or qmp '{\"execute\": ...}'"},
	{"events", ARGS_EVENTS, 0, 0, 0, "events"},
	{"wait", ARGS_WAIT, 1, 1, ARGS_OPT_TIMEOUT, "wait EVENT [--timeout TIME]"},
	{"top", ARGS_TOP, 0, 0, ARGS_OPT_INTERVAL | ARGS_OPT_COUNT,
	 "top [--interval TIME] [--count N]"},
};

static const struct args_word args_top = {"top",
					  ARGS_TOP,
					  1,
					  ARGS_ANY,
					  ARGS_OPT_INTERVAL | ARGS_OPT_COUNT,
					  "top SOCKET... [--interval TIME] [--count N]"};

int args_size_parse(const char *text, struct args_size *ret_size, struct err **err)
{
	struct args_size size = {.change = ARGS_TO, .text = text};
	const char *number = text;
	int ret;

	if (*text == '+' || *text == '-') {
		size.change = *text == '+' ? ARGS_BY_MORE : ARGS_BY_LESS;
		number++;
	}
	ret = size_parse(number, MIB, &size.bytes);
	if (ret == -EINVAL)
		return err_set(
			err, EINVAL,
			"'%s' is no size: a number is allowed, with one of the units B, K, M, "
			"G, T, P (none: M), after + or - to change by so much: 2G, +512M",
			text);
	if (ret || size.bytes > INT64_MAX)
		return err_set(err, ERANGE,
			       "the size %s is too large: less than 8388608T is allowed", text);
	*ret_size = size;
	return 0;
}

int args_size_apply(const struct args_size *size, const char *what, uint64_t now, uint64_t max,
		    uint64_t *ret_bytes, struct err **err)
{
	char now_text[TEXT_SIZE_MAX], max_text[TEXT_SIZE_MAX];
	uint64_t bytes = size->bytes;

	if (size->change == ARGS_BY_LESS && bytes > now)
		return err_set(err, ERANGE, "%s: it has %s, %s is less than nothing", what,
			       text_size(now, now_text), size->text);
	if (size->change == ARGS_BY_LESS)
		bytes = now - bytes;
	else if (size->change == ARGS_BY_MORE && !num_add(now, bytes, &bytes))
		bytes = UINT64_MAX;
	if (bytes > max)
		return err_set(err, ERANGE, "%s: %s is too large: at most %s is allowed, it has %s",
			       what, size->text, text_size(max, max_text),
			       text_size(now, now_text));
	*ret_bytes = bytes;
	return 0;
}

int args_duration_parse(const char *option, const char *text, uint64_t *ret_ms, struct err **err)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	size_t digits = strspn(text, "0123456789"), i;
	char number[24];
	uint64_t value;

	for (i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(text + digits, units[i].name))
			break;
	if (!digits || i == ARRAY_SIZE(units))
		return err_set(err, EINVAL,
			       "%s: '%s' is no time: a whole number is allowed, with one of the "
			       "units ms, s, m, h (none: s)",
			       option, text);
	if (digits < sizeof(number)) {
		memcpy(number, text, digits);
		number[digits] = '\0';
	}
	if (digits >= sizeof(number) || size_parse_number(number, &value) ||
	    !num_mul(value, units[i].ms, &value) || !value || value > ARGS_MS_MAX)
		return err_set(err, ERANGE,
			       "%s: %s is out of range: 1ms to %" PRIu64 "s are allowed", option,
			       text, ARGS_MS_MAX / 1000);
	*ret_ms = value;
	return 0;
}

static int args_whole_seconds(uint64_t ms, struct err **err)
{
	if (ms % 1000)
		return err_set(err, EINVAL, "--timeout: a job's time counts whole seconds");
	return 0;
}

static int args_number(const char *option, const char *text, uint64_t least, uint64_t most,
		       uint64_t *ret_number, struct err **err)
{
	uint64_t number;

	if (size_parse_number(text, &number) || number < least || number > most)
		return err_set(err, EINVAL,
			       "%s: '%s' is not allowed: a number from %" PRIu64 " to %" PRIu64
			       " is",
			       option, text, least, most);
	*ret_number = number;
	return 0;
}

/* The value of option @name, whose word is @word: behind '=', or the next word. */
static int args_value(char ***at, char **end, const char *name, const char **ret_value,
		      struct err **err)
{
	const char *word = **at;
	size_t size = strlen(name);

	if (word[size] == '=') {
		*ret_value = word + size + 1;
		return 0;
	}
	if (*at + 1 == end)
		return err_set(err, EINVAL, "%s: a value must follow", name);
	*ret_value = *++*at;
	return 0;
}

static bool args_is(const char *word, const char *name)
{
	size_t size = strlen(name);

	return !strncmp(word, name, size) && (!word[size] || word[size] == '=');
}

/* One option, whose value may be the word after *at. */
static int args_option(struct args *args, const struct args_word *w, char ***at, char **end,
		       struct err **err)
{
	const char *word = **at, *value = NULL;
	uint64_t node = 0;
	int ret;

	if (!strcmp(word, "--wait") && (w->options & ARGS_OPT_WAIT)) {
		args->wait = true;
		return 0;
	}
	if (!strcmp(word, "--detach") && (w->options & ARGS_OPT_DETACH)) {
		args->detach = true;
		return 0;
	}
	if (args_is(word, "--timeout") && (w->options & ARGS_OPT_TIMEOUT)) {
		ret = args_value(at, end, "--timeout", &value, err);
		if (!ret)
			ret = args_duration_parse("--timeout", value, &args->timeout_ms, err);
		return ret || w->command == ARGS_WAIT ? ret
						      : args_whole_seconds(args->timeout_ms, err);
	}
	if (args_is(word, "--node") && (w->options & ARGS_OPT_NODE)) {
		ret = args_value(at, end, "--node", &value, err);
		if (!ret)
			ret = args_number("--node", value, 0, INT32_MAX, &node, err);
		if (!ret)
			args->node = (int64_t)node;
		return ret;
	}
	if (args_is(word, "--interval") && (w->options & ARGS_OPT_INTERVAL)) {
		ret = args_value(at, end, "--interval", &value, err);
		if (!ret)
			ret = args_duration_parse("--interval", value, &args->interval_ms, err);
		if (!ret && args->interval_ms < ARGS_INTERVAL_MIN_MS)
			ret = err_set(err, ERANGE,
				      "--interval: %s is too short: at least %dms is "
				      "allowed",
				      value, ARGS_INTERVAL_MIN_MS);
		return ret;
	}
	if (args_is(word, "--count") && (w->options & ARGS_OPT_COUNT)) {
		ret = args_value(at, end, "--count", &value, err);
		return ret ? ret : args_number("--count", value, 1, INT64_MAX, &args->count, err);
	}
	return err_set(err, EINVAL, "%s: there is no such option here: %s", word, w->usage);
}

/* Separate the options among the words after @at from the rest, which stays at @at. */
static int args_take(struct args *args, const struct args_word *w, char **at, char **end,
		     struct err **err)
{
	char **rest = at;
	int ret;

	for (char **word = at; word < end; word++) {
		if (!strcmp(*word, "--help")) {
			args->command = ARGS_HELP;
			return 0;
		}
		if (strncmp(*word, "--", 2) || w->command == ARGS_QMP) {
			*rest++ = *word;
			continue;
		}
		ret = args_option(args, w, &word, end, err);
		if (ret)
			return ret;
	}
	args->command = w->command;
	args->words = at;
	args->nr_words = (size_t)(rest - at);
	if (args->nr_words < w->least || args->nr_words > w->most)
		return err_set(err, EINVAL, "%s: too %s words: %s", w->name,
			       args->nr_words < w->least ? "few" : "many", w->usage);
	return 0;
}

static int args_sockets(struct args *args, struct err **err)
{
	args->sockets = args->words;
	args->nr_sockets = args->nr_words;
	args->nr_words = 0;
	for (size_t i = 0; i < args->nr_sockets; i++)
		if (!*args->sockets[i])
			return err_set(err, EINVAL, "top: '' is no socket and no folder");
	return 0;
}

static int args_after_socket(struct args *args, char **at, char **end, struct err **err)
{
	int ret;

	args->words = at;
	args->nr_words = (size_t)(end - at);
	args->command = at == end ? ARGS_PROMPT : ARGS_HUMAN;
	for (size_t i = 0; at < end && i < ARRAY_SIZE(args_words); i++) {
		if (strcmp(*at, args_words[i].name))
			continue;
		ret = args_take(args, &args_words[i], at + 1, end, err);
		if (!ret && args->command == ARGS_RESIZE)
			ret = args_size_parse(args->words[1], &args->size, err);
		if (!ret && args->command == ARGS_RESIZE_ALL)
			ret = args_size_parse(args->words[0], &args->size, err);
		if (!ret && args->wait && args->detach)
			ret = err_set(err, EINVAL, "--wait and --detach do not go together");
		if (!ret && (args->command == ARGS_MIGRATE || args->command == ARGS_SAVE) &&
		    !*args->words[0])
			ret = err_set(err, EINVAL, "%s: where to? %s", args_words[i].name,
				      args_words[i].usage);
		if (!ret && args->node >= 0 && args->size.change != ARGS_TO)
			ret = err_set(
				err, EINVAL,
				"--node: %s is not allowed for a node: say what it shall have "
				"altogether, such as 4G",
				args->size.text);
		return ret;
	}
	if (args->nr_words && !strncmp(*at, "--", 2)) {
		if (!strcmp(*at, "--help"))
			args->command = ARGS_HELP;
		else
			return err_set(err, EINVAL,
				       "%s: a command is expected here, such as resize "
				       "or 'info status'; ebbctl --help tells more",
				       *at);
	}
	return 0;
}

int args_parse(int argc, char **argv, struct args *ret_args, struct err **err)
{
	struct args args = {.node = -1, .interval_ms = ARGS_INTERVAL_DEFAULT_MS};
	char **end = argv + argc;
	int ret;

	if (argc < 2)
		return err_set(
			err, EINVAL,
			"which monitor? ebbctl SOCKET [COMMAND...]; ebbctl --help tells more");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		args.command = ARGS_HELP;
		ret = 0;
	} else if (!strcmp(argv[1], "--version")) {
		args.command = ARGS_VERSION;
		ret = 0;
	} else if (argv[1][0] == '-') {
		ret = err_set(
			err, EINVAL,
			"%s: there is no such option: --help and --version are, or a monitor's "
			"socket",
			argv[1]);
	} else if (!strcmp(argv[1], "top")) {
		ret = args_take(&args, &args_top, argv + 2, end, err);
		if (!ret && args.command == ARGS_TOP)
			ret = args_sockets(&args, err);
	} else {
		args.sockets = argv + 1;
		args.nr_sockets = 1;
		ret = args_after_socket(&args, argv + 2, end, err);
	}
	if (!ret)
		*ret_args = args;
	return ret;
}

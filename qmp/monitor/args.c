/* SPDX-License-Identifier: BSD-3-Clause */
/* Arguments of the human monitor's commands: see hmp.h for the grammar. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/monitor/internal.h"
#include "qmp/size.h"

/* The string is static data of ours: well-formed. */
bool hmp_spec_next(const char **at, struct hmp_spec *ret_spec)
{
	const char *p = *at, *colon;
	size_t size;

	if (!p || !*p)
		return false;
	colon = strchr(p, ':');
	if (!colon || !colon[1])
		return false;
	size = num_min((size_t)(colon - p), sizeof(ret_spec->name) - 1);
	memcpy(ret_spec->name, p, size);
	ret_spec->name[size] = '\0';
	p = colon + 1;
	ret_spec->type = *p++;
	ret_spec->flag = ret_spec->type == '-' && *p ? *p++ : '\0';
	ret_spec->optional = *p == '?';
	p = strchr(p, ',');
	*at = p ? p + 1 : NULL;
	return true;
}

static void hmp_skip_blanks(const char **at)
{
	while (isspace((unsigned char)**at))
		++*at;
}

static int hmp_quoted_next(const char **at, char *word, struct err **err)
{
	const char *p = *at + 1;
	size_t size = 0;
	char c;

	while ((c = *p++) != '"') {
		if (!c)
			return err_set(err, EINVAL, "a quoted string has no closing \"");
		if (c == '\\') {
			c = *p ? *p++ : '\0';
			if (c == 'n')
				c = '\n';
			else if (c == 'r')
				c = '\r';
			else if (c != '\\' && c != '"' && c != '\'')
				return err_set(err, EINVAL,
					       "in a quoted string, \\ must be followed by n, r, "
					       "\\, \" or '");
		}
		word[size++] = c;
	}
	word[size] = '\0';
	*at = p;
	return 0;
}

int hmp_word_next(const char **at, char word[HMP_LINE_BYTES], struct err **err)
{
	size_t size = 0;

	hmp_skip_blanks(at);
	if (!**at)
		return 1;
	if (**at == '"')
		return hmp_quoted_next(at, word, err);
	while (**at && !isspace((unsigned char)**at) && size < HMP_LINE_BYTES - 1)
		word[size++] = *(*at)++;
	word[size] = '\0';
	return 0;
}

static int hmp_integer(const char *name, const char *word, bool narrow, json_t **ret_value,
		       struct err **err)
{
	long long value;
	char *end;

	errno = 0;
	value = strtoll(word, &end, 0);
	if (end == word || *end || isspace((unsigned char)*word))
		return err_set(err, EINVAL, "argument '%s': '%s' is not an integer", name, word);
	if (errno || (narrow && (value < INT32_MIN || value > (long long)UINT32_MAX)))
		return err_set(err, ERANGE, "argument '%s': %s does not fit %d bits", name, word,
			       narrow ? 32 : 64);
	*ret_value = json_integer(value);
	return 0;
}

static int hmp_size(const char *name, const char *word, uint64_t unit, json_t **ret_value,
		    struct err **err)
{
	uint64_t value;
	int ret = size_parse(word, unit, &value);

	if (ret == -EINVAL)
		return err_set(err, EINVAL,
			       "argument '%s': '%s' is not a size; a number is allowed, with one "
			       "of the units B, K, M, G, T, P",
			       name, word);
	if (ret || value > INT64_MAX)
		return err_set(err, ERANGE, "argument '%s': %s is too large", name, word);
	*ret_value = json_integer((json_int_t)value);
	return 0;
}

static int hmp_seconds(const char *name, const char *word, json_t **ret_value, struct err **err)
{
	static const struct {
		const char *name;
		double scale;
	} units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}};
	char *end;
	double value = strtod(word, &end);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(units); i++)
		if (end != word && isdigit((unsigned char)*word) && !strcmp(end, units[i].name))
			break;
	if (i == ARRAY_SIZE(units) || !(value * units[i].scale < 1e15))
		return err_set(err, EINVAL,
			       "argument '%s': '%s' is not a time; a number of seconds is "
			       "allowed, or one with ms, us or ns",
			       name, word);
	*ret_value = json_real(value * units[i].scale);
	return 0;
}

static int hmp_boolean(const char *name, const char *word, json_t **ret_value, struct err **err)
{
	bool on = !strcmp(word, "on");

	if (!on && strcmp(word, "off"))
		return err_set(err, EINVAL, "argument '%s': '%s' is neither on nor off", name,
			       word);
	*ret_value = json_boolean(on);
	return 0;
}

static int hmp_value(const struct hmp_spec *spec, const char *word, json_t **ret_value,
		     struct err **err)
{
	switch (spec->type) {
	case 'i':
	case 'l':
		return hmp_integer(spec->name, word, spec->type == 'i', ret_value, err);
	case 'M':
		return hmp_size(spec->name, word, MIB, ret_value, err);
	case 'o':
		return hmp_size(spec->name, word, 1, ret_value, err);
	case 'T':
		return hmp_seconds(spec->name, word, ret_value, err);
	case 'b':
		return hmp_boolean(spec->name, word, ret_value, err);
	default:
		*ret_value = json_string(word);
		return 0;
	}
}

static int hmp_put(json_t *args, const char *name, json_t *value, struct err **err)
{
	if (!value || json_object_set_new(args, name, value))
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

/*
 * Flags are read wherever the next word is one; a command without flags may have words like -x. One
 * that the command does not have is refused where it comes @first, and an argument elsewhere.
 */
static int hmp_flags_parse(const struct hmp_command *cmd, bool first, const char **at, json_t *args,
			   struct err **err)
{
	const char *specs;
	struct hmp_spec spec;
	bool any, found;
	int ret;

	for (;;) {
		hmp_skip_blanks(at);
		if ((*at)[0] != '-' || !isalpha((unsigned char)(*at)[1]) ||
		    ((*at)[2] && !isspace((unsigned char)(*at)[2])))
			return 0;
		specs = cmd->args;
		any = found = false;
		while (!found && hmp_spec_next(&specs, &spec)) {
			any |= spec.type == '-';
			found = spec.type == '-' && spec.flag == (*at)[1];
		}
		if (!any || (!found && !first))
			return 0;
		if (!found)
			return err_set(err, EINVAL, "there is no option -%c", (*at)[1]);
		ret = hmp_put(args, spec.name, json_true(), err);
		if (ret)
			return ret;
		*at += 2;
	}
}

static int hmp_arg_parse(const struct hmp_spec *spec, const char **at, json_t *args,
			 struct err **err)
{
	char word[HMP_LINE_BYTES];
	json_t *value = NULL;
	size_t size;
	int ret;

	hmp_skip_blanks(at);
	if (!**at)
		return spec->optional
			       ? 0
			       : err_set(err, EINVAL, "argument '%s' is missing", spec->name);
	if (spec->type == 'S') {
		size = strlen(*at);
		while (isspace((unsigned char)(*at)[size - 1]))
			size--;
		value = json_stringn(*at, size);
		*at += strlen(*at);
		return hmp_put(args, spec->name, value, err);
	}
	ret = hmp_word_next(at, word, err);
	if (!ret)
		ret = hmp_value(spec, word, &value, err);
	return ret ? ret : hmp_put(args, spec->name, value, err);
}

int hmp_args_parse(const struct hmp_command *cmd, const char *rest, json_t **ret_args,
		   struct err **err)
{
	json_t *args = json_object();
	const char *specs = cmd->args;
	struct hmp_spec spec;
	int ret = args ? 0 : err_set(err, ENOMEM, "out of memory");

	while (!ret && hmp_spec_next(&specs, &spec))
		if (spec.type == '-')
			ret = hmp_put(args, spec.name, json_false(), err);
	if (!ret)
		ret = hmp_flags_parse(cmd, true, &rest, args, err);
	specs = cmd->args;
	while (!ret && hmp_spec_next(&specs, &spec)) {
		if (spec.type == '-')
			continue;
		ret = hmp_arg_parse(&spec, &rest, args, err);
		if (!ret)
			ret = hmp_flags_parse(cmd, false, &rest, args, err);
	}
	if (!ret) {
		hmp_skip_blanks(&rest);
		if (*rest)
			ret = err_set(err, EINVAL, "extraneous characters at the end of line: '%s'",
				      rest);
	}
	if (ret) {
		json_decref(args);
		return ret;
	}
	*ret_args = args;
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The human monitor of a command table: rows of hmp.h made from rows of command.h. "info X" becomes
 * the sub-command X of info.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qmp/monitor/internal.h"
#include "qmp/qmp_internal.h"

#define INFO "info "

struct human_row {
	struct qmp *qmp;
	const struct command *def;
	const struct schema_command *checked; /* what the arguments must be; NULL: anything */
};

struct human {
	struct hmp *hmp;
	struct human_row *rows;
	struct hmp_command *top, *info; /* each with room for all rows, and two more */
	size_t nr_rows, nr_top, nr_info;
};

static bool human_is_info(const struct command *def)
{
	return !strncmp(def->human, INFO, strlen(INFO));
}

void human_call_done(struct command_call *call)
{
	struct hmp_call *human = call->human;
	struct err *err = call->err;

	call->err = NULL;
	if (!err && call->def->print)
		call->def->print(call, call->value);
	command_call_free(call);
	hmp_done(human, err);
}

static void human_unwanted(struct hmp_call *human, void *opaque)
{
	(void)human;
	command_call_abandon(opaque);
}

static int human_run(struct hmp_call *human, const json_t *args, struct err **err)
{
	const struct human_row *row = hmp_call_command(human)->opaque;
	const struct command *def = row->def;
	struct command_call *call;
	int ret = 0;

	if (row->checked &&
	    schema_check_data(row->qmp->schema, NULL, &row->checked->args, args, err))
		return -EINVAL;
	call = command_call_new(row->qmp, def, NULL);
	if (!call)
		return err_set(err, ENOMEM, "out of memory");
	call->human = human;
	if (!command_call_run(call, def->human_run ? def->human_run : def->run, args)) {
		hmp_call_on_unwanted(human, human_unwanted, call);
		return HMP_PENDING;
	}
	if (!call->err && def->print)
		def->print(call, call->value);
	if (call->err) {
		*err = call->err;
		call->err = NULL;
		ret = -err_code(*err);
	}
	command_call_free(call);
	return ret;
}

/* A line's arguments go to run(): each must be there, and all that run() needs. */
static int human_check_args(const struct human_row *row, struct err **err)
{
	const struct schema_data *data = &row->checked->args;
	const struct schema_members *members = data->type ? &data->type->members : &data->members;
	const char *specs = row->def->human_args;
	struct hmp_spec spec;

	while (hmp_spec_next(&specs, &spec))
		if (!schema_members_find(members, spec.name))
			return err_set(err, EINVAL, "people's argument '%s' is no member of args",
				       spec.name);
	for (size_t i = 0; i < members->count; i++) {
		bool found = members->list[i].optional;

		specs = row->def->human_args;
		while (!found && hmp_spec_next(&specs, &spec))
			found = !strcmp(spec.name, members->list[i].name) && !spec.optional;
		if (!found)
			return err_set(err, EINVAL, "people cannot give the argument '%s'",
				       members->list[i].name);
	}
	return 0;
}

/* Is one of the names in "name|alias" in the table? */
static bool human_names_taken(const struct hmp_command *table, const char *names)
{
	char word[64];
	size_t size;

	for (;; names += size + 1) {
		size = strcspn(names, "|");
		if (size && size < sizeof(word)) {
			memcpy(word, names, size);
			word[size] = '\0';
			if (hmp_table_find(table, word))
				return true;
		}
		if (!names[size])
			return false;
	}
}

static int human_add(struct human *human, struct qmp *qmp, const struct command *def,
		     struct err **err)
{
	bool is_info = human_is_info(def);
	struct hmp_command *table = is_info ? human->info : human->top;
	size_t *count = is_info ? &human->nr_info : &human->nr_top;
	struct human_row *row = &human->rows[human->nr_rows++];
	const char *name = def->human + (is_info ? strlen(INFO) : 0);

	*row = (struct human_row){.qmp = qmp, .def = def};
	if (!*name || strchr(name, ' '))
		return err_set(err, EINVAL, "the name is not one word");
	if (human_names_taken(table, name))
		return err_set(err, EINVAL, "the name is there already");
	if (!def->run && !def->human_run)
		return err_set(err, EINVAL, "nothing runs it");
	table[(*count)++] = (struct hmp_command){
		.name = name,
		.args = def->human_args,
		.params = def->params,
		.help = def->help,
		.run = human_run,
		.complete = def->complete,
		.opaque = row,
	};
	if (!def->name || def->human_run)
		return 0;
	row->checked = schema_command_find(qmp->schema, def->name);
	return human_check_args(row, err);
}

static int human_tables(struct human *human, struct qmp *qmp,
			const struct qmp_module *const *modules, struct err **err)
{
	size_t rows = 2;
	int ret = 0;

	for (size_t i = 0; modules[i]; i++)
		for (const struct command *c = modules[i]->commands; c && (c->name || c->human);
		     c++)
			rows++;
	human->rows = calloc(rows, sizeof(*human->rows));
	human->top = calloc(rows, sizeof(*human->top));
	human->info = calloc(rows, sizeof(*human->info));
	if (!human->rows || !human->top || !human->info)
		return err_set(err, ENOMEM, "out of memory");
	human->top[human->nr_top++] = (struct hmp_command){
		.name = "info",
		.params = "[subcommand]",
		.help = "show information about the machine",
		.sub = human->info,
	};
	for (size_t i = 0; !ret && modules[i]; i++) {
		const struct command *c = modules[i]->commands;

		for (; !ret && c && (c->name || c->human); c++) {
			if (!c->human)
				continue;
			ret = human_add(human, qmp, c, err);
			if (ret)
				err_prefix(err, "human command '%s'", c->human);
		}
	}
	return ret;
}

struct human *human_new(struct qmp *qmp, const struct qmp_module *const *modules,
			const struct qmp_config *config, struct err **err)
{
	struct human *human = calloc(1, sizeof(*human));
	struct hmp_config hmp = {
		.banner = config->banner,
		.prompt = config->prompt ? config->prompt : "",
		.ctx = config->ctx,
	};

	if (!human) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	if (human_tables(human, qmp, modules, err)) {
		human_free(human);
		return NULL;
	}
	hmp.commands = human->top;
	human->hmp = hmp_new(&hmp);
	if (!human->hmp) {
		human_free(human);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	return human;
}

void human_free(struct human *human)
{
	if (!human)
		return;
	hmp_free(human->hmp);
	free(human->rows);
	free(human->top);
	free(human->info);
	free(human);
}

struct hmp *human_hmp(struct human *human)
{
	return human->hmp;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands that begin, change and end a migration, and the events that tell of it: see migrate.h.
 */
#include "vmm/control/migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/control/answer.h"
#include "vmm/core/loop.h"

static struct migrate *migrate_of(struct command_call *call)
{
	const struct control *control = command_ctx(call);

	return control->migrate;
}

/*
 * Whatever is wrong with a migration is no class of its own for programs (qmp/qmp.h), though the
 * number of what the host said may have one.
 */
static int migrate_result(int ret, struct err **err)
{
	struct err *host = *err;

	if (!ret || !host)
		return ret;
	switch (err_code(host)) {
	case ENODEV:
	case ENXIO:
	case ENOSYS:
		*err = NULL;
		ret = err_set(err, EIO, "%s", err_message(host));
		err_free(host);
		break;
	default:
		break;
	}
	return ret;
}

/* ---- outgoing ---- */

static int migrate_start(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	struct migrate *m = migrate_of(call);
	bool resume = control_flag(args, "resume");
	int ret;

	(void)ret_value;
	if (control_flag(args, "blk") || control_flag(args, "inc"))
		return err_set(err, EINVAL,
			       "there are no disks that could be migrated; blk (-b) and inc (-i) "
			       "are not possible");
	ret = migration_start(m->migration, control_text(args, "uri"), resume, err);
	if (ret)
		return migrate_result(ret, err);
	migrate_job_start(m, resume);
	return 0;
}

/* Without -d a person at a terminal waits; a program could not even cancel it meanwhile. */
static int migrate_start_human(struct command_call *call, const json_t *args, json_t **ret_value,
			       struct err **err)
{
	struct migrate *m = migrate_of(call);
	int ret = migrate_start(call, args, ret_value, err);

	if (ret || control_flag(args, "detach"))
		return ret;
	if (!command_is_interactive(call)) {
		command_printf(call, "The migration goes on by itself: nobody can wait for it "
				     "here; 'info migrate' tells how it gets on\n");
		return 0;
	}
	return migrate_wait(m, call);
}

static int migrate_cancel(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	(void)args;
	(void)ret_value;
	(void)err;
	migration_cancel(migrate_of(call)->migration);
	return 0;
}

static int migrate_pause(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	(void)args;
	(void)ret_value;
	return migrate_result(migration_pause(migrate_of(call)->migration, err), err);
}

/* QMP has statuses that no migration here is ever in. */
static int migrate_continue(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	struct migration *migration = migrate_of(call)->migration;
	const char *state = control_text(args, "state");
	struct migration_info info;

	(void)ret_value;
	for (enum migration_status s = MIGRATION_NONE; s <= MIGRATION_DEVICE; s++)
		if (!strcmp(state, migration_status_name(s)))
			return migrate_result(migration_continue(migration, s, err), err);
	migration_info(migration, &info);
	return err_set(err, EINVAL, "the migration is not in the state '%s', but in '%s'", state,
		       migration_status_name(info.status));
}

static void migrate_continue_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	if (index == 0)
		hmp_words_add(words, migration_status_name(MIGRATION_PRE_SWITCHOVER));
}

static int migrate_postcopy(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	(void)args;
	(void)ret_value;
	return migrate_result(migration_start_postcopy(migrate_of(call)->migration, err), err);
}

/* ---- incoming ---- */

static int migrate_incoming(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	struct migration *migration = migrate_of(call)->migration;

	(void)ret_value;
	return migrate_result(migration_incoming(migration, control_text(args, "uri"), err), err);
}

static int migrate_recover(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	struct migration *migration = migrate_of(call)->migration;

	(void)ret_value;
	return migrate_result(migration_recover(migration, control_text(args, "uri"), err), err);
}

/* There is no network in which a guest could have a place: nothing is to be told to anybody. */
static int migrate_announce(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	(void)call;
	(void)args;
	(void)ret_value;
	(void)err;
	return 0;
}

/* ---- events ---- */

static bool migrate_tells(const struct migrate *m)
{
	return migration_capabilities(m->migration) & (1u << MIGRATION_CAP_EVENTS);
}

static void migrate_on_status(void *opaque, enum migration_status status)
{
	struct migrate *m = opaque;

	if (migrate_tells(m))
		control_emit(m->control, "MIGRATION",
			     json_pack("{s:s}", "status", migration_status_name(status)));
	migrate_job_follow(m);
	migrate_wait_follow(m);
}

static void migrate_on_pass(void *opaque, uint64_t pass)
{
	struct migrate *m = opaque;

	if (migrate_tells(m))
		control_emit(m->control, "MIGRATION_PASS",
			     json_pack("{s:I}", "pass", (json_int_t)pass));
}

/* ---- life ---- */

int control_migrate_init(struct control *control, struct migration *migration, struct err **err)
{
	static const struct migration_hooks hooks = {
		.status = migrate_on_status,
		.pass = migrate_on_pass,
	};
	struct migrate *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(err, ENOMEM, "out of memory");
	m->control = control;
	m->migration = migration;
	migrate_kept_init(&m->kept);
	uv_timer_init(loop_uv(control->main), &m->timer);
	m->timer.data = m;
	control->migrate = m;
	migration_set_hooks(migration, &hooks, m);
	return 0;
}

static void migrate_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void control_migrate_done(struct control *control)
{
	struct migrate *m = control->migrate;

	if (!m)
		return;
	control->migrate = NULL;
	migration_set_hooks(m->migration, NULL, NULL);
	migrate_job_end(m);
	uv_close((uv_handle_t *)&m->timer, migrate_closed);
}

/* ---- the module ---- */

static const struct command migrate_commands[] = {
	{
		.name = "migrate",
		.human = "migrate",
		.args = "uri:str *blk:bool *inc:bool *detach:bool *resume:bool",
		.human_args = "detach:-d,blk:-b,inc:-i,resume:-r,uri:s",
		.params = "[-d] [-r] uri",
		.help = "move the machine to another process, or save it; with -d do not wait, "
			"with -r go on after a pause",
		.run = migrate_start,
		.human_run = migrate_start_human,
	},
	{
		.name = "migrate_cancel",
		.human = "migrate_cancel",
		.help = "end the migration; the machine stays here",
		.run = migrate_cancel,
	},
	{
		.name = "migrate-pause",
		.human = "migrate_pause",
		.help = "cut the connection of a migration in postcopy; it can be resumed",
		.flags = COMMAND_OOB,
		.run = migrate_pause,
	},
	{
		.name = "migrate-continue",
		.human = "migrate_continue",
		.args = "state:MigrationStatus",
		.human_args = "state:s",
		.params = "state",
		.help = "go on from the state in which the migration waits: pre-switchover",
		.run = migrate_continue,
		.complete = migrate_continue_complete,
	},
	{
		.name = "migrate-start-postcopy",
		.human = "migrate_start_postcopy",
		.help = "let the guest go on at the other side, and send what is missing "
			"afterwards",
		.run = migrate_postcopy,
	},
	{
		.name = "migrate-incoming",
		.human = "migrate_incoming",
		.args = "uri:str",
		.human_args = "uri:s",
		.params = "uri",
		.help = "load the machine from where -incoming defer did not say",
		.run = migrate_incoming,
	},
	{
		.name = "migrate-recover",
		.human = "migrate_recover",
		.args = "uri:str",
		.human_args = "uri:s",
		.params = "uri",
		.help = "wait for the other side of a paused migration once more",
		.flags = COMMAND_OOB,
		.run = migrate_recover,
	},
	{
		.name = "announce-self",
		.human = "announce_self",
		.args = "initial:int max:int rounds:int step:int *interfaces:[str] *id:str",
		.human_args = "interfaces:s?,id:s?",
		.params = "[interfaces] [id]",
		.help = "tell networks where the guest is; nothing is to be told without any",
		.run = migrate_announce,
		.human_run = migrate_announce,
	},
	{.name = NULL},
};

static const struct qmp_type migrate_types[] = {
	{
		.name = "MigrationStatus",
		.kind = QMP_ENUM,
		.members = "none setup cancelling cancelled active postcopy-active postcopy-paused "
			   "postcopy-recover completed failed colo pre-switchover device "
			   "wait-unplug",
	},
	{.name = NULL},
};

static const struct qmp_event migrate_events[] = {
	{.name = "MIGRATION", .data = "status:MigrationStatus"},
	{.name = "MIGRATION_PASS", .data = "pass:int"},
	{.name = NULL},
};

const struct qmp_module control_migrate_module = {migrate_commands, migrate_types, migrate_events};

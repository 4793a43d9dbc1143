/* SPDX-License-Identifier: BSD-3-Clause */
/* Capabilities and parameters of migrations: see migrate.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"
#include "vmm/control/answer.h"
#include "vmm/control/migrate.h"

/* ---- capabilities ---- */

/* -1 for those that other monitors have. */
static int caps_find(const char *name)
{
	for (int i = 0; i < MIGRATION_CAPS; i++)
		if (!strcmp(migration_capability_name(i), name))
			return i;
	return -1;
}

static int caps_query(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	const struct control *control = command_ctx(call);
	uint32_t set = migration_capabilities(control->migrate->migration);
	struct control_list list;

	(void)args;
	control_list_init(&list);
	for (int i = 0; i < MIGRATION_CAPS; i++)
		control_list_add(&list,
				 json_pack("{s:s, s:b}", "capability", migration_capability_name(i),
					   "state", (int)(set >> i & 1)));
	return control_answer(control_list_end(&list), ret_value, err);
}

static void caps_print(struct command_call *call, const json_t *list)
{
	const json_t *cap;
	size_t i;

	json_array_foreach (list, i, cap)
		command_printf(call, "%s: %s\n", control_text(cap, "capability"),
			       control_flag(cap, "state") ? "on" : "off");
}

static int caps_change(uint32_t *set, const char *name, bool on, struct err **err)
{
	int cap = caps_find(name);

	if (cap < 0 && on)
		return err_set(err, EINVAL,
			       "Capability '%s' cannot be switched on: there is nothing of that "
			       "kind in this version",
			       name);
	if (cap >= 0 && on)
		*set |= 1u << cap;
	else if (cap >= 0)
		*set &= ~(1u << cap);
	return 0;
}

static int caps_set(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const struct control *control = command_ctx(call);
	struct migration *migration = control->migrate->migration;
	uint32_t set = migration_capabilities(migration);
	const json_t *cap;
	int ret = 0;
	size_t i;

	(void)ret_value;
	json_array_foreach (json_object_get(args, "capabilities"), i, cap) {
		ret = caps_change(&set, control_text(cap, "capability"), control_flag(cap, "state"),
				  err);
		if (ret)
			return ret;
	}
	return migration_set_capabilities(migration, set, err);
}

static int caps_set_human(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const struct control *control = command_ctx(call);
	struct migration *migration = control->migrate->migration;
	uint32_t set = migration_capabilities(migration);
	int ret = schema_check(qmp_schema(control->qmp), NULL, "MigrationCapabilityStatus", args,
			       err);

	(void)ret_value;
	if (!ret)
		ret = caps_change(&set, control_text(args, "capability"),
				  control_flag(args, "state"), err);
	return ret ? ret : migration_set_capabilities(migration, set, err);
}

static void params_complete_on_off(struct hmp_words *words)
{
	hmp_words_add(words, "on");
	hmp_words_add(words, "off");
}

static void caps_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	for (int i = 0; index == 0 && i < MIGRATION_CAPS; i++)
		hmp_words_add(words, migration_capability_name(i));
	if (index == 1)
		params_complete_on_off(words);
}

/* ---- parameters ---- */

enum param_kind {
	PARAM_NUMBER,      /* of its width */
	PARAM_SIZE,        /* likewise; people may write units */
	PARAM_BOOL,        /* a bool */
	PARAM_COMPRESSION, /* an enum migration_compression */
	PARAM_EMPTY,       /* a text that can only be empty; kept nowhere */
	PARAM_DISKS,       /* a list that can only be empty; kept nowhere */
};

struct param {
	const char *name;
	enum param_kind kind;
	size_t offset; /* in struct migrate_params */
	size_t width;  /* bytes */
	uint64_t min, max;
	const char *unit;    /* as people see it */
	uint64_t bare_bytes; /* PARAM_SIZE: what a bare number of a person counts, bytes */
	bool unseen;         /* not shown to people */
};

#define PARAM_FIELD(field)                                \
	.offset = offsetof(struct migrate_params, field), \
	.width = sizeof(((struct migrate_params *)0)->field)
#define PARAM_RANGE(least, most) .min = (least), .max = (most)

/* In the order in which people see them. */
static const struct param params[] = {
	{"announce-initial", PARAM_NUMBER, PARAM_FIELD(run.announce_initial_ms),
	 PARAM_RANGE(0, 100000), .unit = " ms"},
	{"announce-max", PARAM_NUMBER, PARAM_FIELD(run.announce_max_ms), PARAM_RANGE(0, 100000),
	 .unit = " ms"},
	{"announce-rounds", PARAM_NUMBER, PARAM_FIELD(run.announce_rounds), PARAM_RANGE(0, 1000)},
	{"announce-step", PARAM_NUMBER, PARAM_FIELD(run.announce_step_ms), PARAM_RANGE(1, 10000),
	 .unit = " ms"},
	{"compress-level", PARAM_NUMBER, PARAM_FIELD(kept.compress_level), PARAM_RANGE(0, 9)},
	{"compress-threads", PARAM_NUMBER, PARAM_FIELD(kept.compress_threads), PARAM_RANGE(1, 255)},
	{"compress-wait-thread", PARAM_BOOL, PARAM_FIELD(kept.compress_wait_thread)},
	{"decompress-threads", PARAM_NUMBER, PARAM_FIELD(kept.decompress_threads),
	 PARAM_RANGE(1, 255)},
	{"throttle-trigger-threshold", PARAM_NUMBER, PARAM_FIELD(run.throttle_trigger_threshold),
	 PARAM_RANGE(1, 100)},
	{"cpu-throttle-initial", PARAM_NUMBER, PARAM_FIELD(run.cpu_throttle_initial),
	 PARAM_RANGE(1, 99)},
	{"cpu-throttle-increment", PARAM_NUMBER, PARAM_FIELD(run.cpu_throttle_increment),
	 PARAM_RANGE(1, 99)},
	{"cpu-throttle-tailslow", PARAM_BOOL, PARAM_FIELD(run.cpu_throttle_tailslow)},
	{"max-cpu-throttle", PARAM_NUMBER, PARAM_FIELD(run.max_cpu_throttle), PARAM_RANGE(1, 99)},
	{"tls-creds", PARAM_EMPTY},
	{"tls-hostname", PARAM_EMPTY},
	{"max-bandwidth", PARAM_SIZE, PARAM_FIELD(run.max_bandwidth), PARAM_RANGE(0, INT64_MAX),
	 .unit = " bytes/second", .bare_bytes = MIB},
	{"downtime-limit", PARAM_NUMBER, PARAM_FIELD(run.downtime_limit_ms),
	 PARAM_RANGE(0, 2000000), .unit = " ms"},
	{"x-checkpoint-delay", PARAM_NUMBER, PARAM_FIELD(kept.x_checkpoint_delay_ms),
	 PARAM_RANGE(0, UINT32_MAX), .unit = " ms"},
	{"block-incremental", PARAM_BOOL, PARAM_FIELD(kept.block_incremental)},
	{"multifd-channels", PARAM_NUMBER, PARAM_FIELD(run.multifd_channels), PARAM_RANGE(1, 255)},
	{"multifd-compression", PARAM_COMPRESSION, PARAM_FIELD(run.multifd_compression)},
	{"multifd-zlib-level", PARAM_NUMBER, PARAM_FIELD(kept.multifd_zlib_level),
	 PARAM_RANGE(0, 9), .unseen = true},
	{"multifd-zstd-level", PARAM_NUMBER, PARAM_FIELD(run.multifd_zstd_level),
	 PARAM_RANGE(0, 20), .unseen = true},
	{"xbzrle-cache-size", PARAM_SIZE, PARAM_FIELD(kept.xbzrle_cache_bytes),
	 PARAM_RANGE(0, INT64_MAX), .unit = " bytes", .bare_bytes = 1},
	{"max-postcopy-bandwidth", PARAM_SIZE, PARAM_FIELD(run.max_postcopy_bandwidth),
	 PARAM_RANGE(0, INT64_MAX), .bare_bytes = 1},
	{"tls-authz", PARAM_EMPTY},
	{"block-bitmap-mapping", PARAM_DISKS, .unseen = true},
};

void migrate_kept_init(struct migrate_kept *kept)
{
	*kept = (struct migrate_kept){
		.compress_level = 1,
		.compress_threads = 8,
		.compress_wait_thread = true,
		.decompress_threads = 2,
		.multifd_zlib_level = 1,
		.x_checkpoint_delay_ms = 20000,
		.xbzrle_cache_bytes = 64 * MIB,
	};
}

static struct migrate_params params_now(const struct migrate *m)
{
	return (struct migrate_params){.run = *migration_params(m->migration), .kept = m->kept};
}

/* A number in a field of its width. */
static uint64_t param_load(const struct migrate_params *p, const struct param *param)
{
	const void *field = (const char *)p + param->offset;
	uint64_t value = 0;

	if (param->width == sizeof(uint8_t))
		value = *(const uint8_t *)field;
	else if (param->width == sizeof(uint32_t))
		value = *(const uint32_t *)field;
	else
		value = *(const uint64_t *)field;
	return value;
}

static void param_store(struct migrate_params *p, const struct param *param, uint64_t value)
{
	void *field = (char *)p + param->offset;

	if (param->width == sizeof(uint8_t))
		*(uint8_t *)field = (uint8_t)value;
	else if (param->width == sizeof(uint32_t))
		*(uint32_t *)field = (uint32_t)value;
	else
		*(uint64_t *)field = value;
}

static const char *const params_compressions[] = {
	[MIGRATION_COMPRESSION_NONE] = "none",
	[MIGRATION_COMPRESSION_ZSTD] = "zstd",
};

static json_t *param_json(const struct migrate_params *p, const struct param *param)
{
	switch (param->kind) {
	case PARAM_BOOL:
		return json_boolean(*(const bool *)((const char *)p + param->offset));
	case PARAM_COMPRESSION:
		return json_string(params_compressions[p->run.multifd_compression]);
	case PARAM_EMPTY:
		return json_string("");
	case PARAM_NUMBER:
	case PARAM_SIZE:
	case PARAM_DISKS:
		break;
	}
	return json_integer((json_int_t)num_min(param_load(p, param), INT64_MAX));
}

static int params_query(struct command_call *call, const json_t *args, json_t **ret_value,
			struct err **err)
{
	const struct control *control = command_ctx(call);
	struct migrate_params now = params_now(control->migrate);
	json_t *value = json_object();

	(void)args;
	for (size_t i = 0; i < ARRAY_SIZE(params); i++)
		if (params[i].kind != PARAM_DISKS)
			control_set(&value, params[i].name, param_json(&now, &params[i]));
	return control_answer(value, ret_value, err);
}

static void param_print(struct command_call *call, const struct param *param, const json_t *value)
{
	if (json_is_boolean(value))
		command_printf(call, "%s: %s\n", param->name, json_is_true(value) ? "on" : "off");
	else if (param->kind == PARAM_EMPTY)
		command_printf(call, "%s: '%s'\n", param->name, json_string_value(value));
	else if (json_is_string(value))
		command_printf(call, "%s: %s\n", param->name, json_string_value(value));
	else
		command_printf(call, "%s: %" JSON_INTEGER_FORMAT "%s\n", param->name,
			       json_integer_value(value), param->unit ? param->unit : "");
}

static void params_print(struct command_call *call, const json_t *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(params); i++)
		if (!params[i].unseen)
			param_print(call, &params[i], json_object_get(value, params[i].name));
}

/* ---- setting them ---- */

static int param_set_number(struct migrate_params *p, const struct param *param, uint64_t value,
			    struct err **err)
{
	if (value < param->min || value > param->max)
		return err_set(err, EINVAL,
			       "Parameter '%s' expects a value between %" PRIu64 " and %" PRIu64,
			       param->name, param->min, param->max);
	param_store(p, param, value);
	return 0;
}

static void param_set_compression(struct migrate_params *p, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(params_compressions); i++)
		if (!strcmp(params_compressions[i], name))
			p->run.multifd_compression = (enum migration_compression)i;
}

static int param_set(struct migrate_params *p, const struct param *param, const json_t *value,
		     struct err **err)
{
	const char *text = json_string_value(value);

	switch (param->kind) {
	case PARAM_NUMBER:
	case PARAM_SIZE:
		return param_set_number(p, param, (uint64_t)json_integer_value(value), err);
	case PARAM_BOOL:
		*(bool *)((char *)p + param->offset) = json_is_true(value);
		break;
	case PARAM_COMPRESSION:
		param_set_compression(p, text);
		break;
	case PARAM_EMPTY:
		if (text && *text)
			return err_set(err, EINVAL,
				       "Parameter '%s' can only be empty: nothing is encrypted in "
				       "this version",
				       param->name);
		break;
	case PARAM_DISKS:
		if (json_array_size(value))
			return err_set(err, EINVAL,
				       "Parameter '%s' can only be empty: there are no disks",
				       param->name);
		break;
	}
	return 0;
}

/* What no parameter can tell alone. */
static int params_check(const struct migrate_params *p, struct err **err)
{
	uint64_t cache = p->kept.xbzrle_cache_bytes;

	if (p->run.max_cpu_throttle < p->run.cpu_throttle_initial)
		return err_set(err, EINVAL,
			       "Parameter 'max-cpu-throttle' expects a value between %u "
			       "(cpu-throttle-initial) and 99",
			       p->run.cpu_throttle_initial);
	if (cache < 4 * KIB || cache & (cache - 1))
		return err_set(err, EINVAL,
			       "Parameter 'xbzrle-cache-size' expects a power of two no less than "
			       "a page, 4096 bytes");
	return 0;
}

/* All or nothing. @args: each member of its type. */
static int params_apply(struct migrate *m, const json_t *args, struct err **err)
{
	struct migrate_params next = params_now(m);
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(params); i++) {
		const json_t *value = json_object_get(args, params[i].name);

		if (value)
			ret = param_set(&next, &params[i], value, err);
	}
	if (!ret)
		ret = params_check(&next, err);
	if (!ret)
		ret = migration_set_params(m->migration, &next.run, err);
	if (!ret)
		m->kept = next.kept;
	return ret;
}

static int params_set(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	const struct control *control = command_ctx(call);

	(void)ret_value;
	return params_apply(control->migrate, args, err);
}

/* What a person wrote as JSON; what is no value of the kind stays a text, which is refused then. */
static json_t *param_read(const struct param *param, const char *text)
{
	uint64_t number;
	int ret = -EINVAL;

	if (param->kind == PARAM_BOOL && (!strcmp(text, "on") || !strcmp(text, "off")))
		return json_boolean(!strcmp(text, "on"));
	if (param->kind == PARAM_NUMBER)
		ret = size_parse_number(text, &number);
	if (param->kind == PARAM_SIZE)
		ret = size_parse(text, param->bare_bytes, &number);
	return ret || number > INT64_MAX ? json_string(text) : json_integer((json_int_t)number);
}

static int params_set_human(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	const struct control *control = command_ctx(call);
	const char *name = control_text(args, "parameter");
	json_t *values;
	int ret;

	(void)ret_value;
	for (size_t i = 0; i < ARRAY_SIZE(params); i++) {
		if (strcmp(params[i].name, name))
			continue;
		if (params[i].kind == PARAM_DISKS)
			return err_set(err, EINVAL, "Parameter '%s' can only be set by programs",
				       name);
		values = json_pack("{s:o}", name,
				   param_read(&params[i], control_text(args, "value")));
		if (!values)
			return err_set(err, ENOMEM, "out of memory");
		ret = schema_check(qmp_schema(control->qmp), NULL, "MigrateSetParameters", values,
				   err);
		if (!ret)
			ret = params_apply(control->migrate, values, err);
		json_decref(values);
		return ret;
	}
	return err_set(
		err, EINVAL,
		"there is no parameter '%s'; 'info migrate_parameters' shows which there are",
		name);
}

static void params_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	for (size_t i = 0; i < ARRAY_SIZE(params); i++) {
		if (index == 0 && params[i].kind != PARAM_DISKS && params[i].kind != PARAM_EMPTY)
			hmp_words_add(words, params[i].name);
		if (index != 1 || strcmp(params[i].name, hmp_words_previous(words)))
			continue;
		if (params[i].kind == PARAM_BOOL)
			params_complete_on_off(words);
		for (size_t k = 0;
		     params[i].kind == PARAM_COMPRESSION && k < ARRAY_SIZE(params_compressions);
		     k++)
			hmp_words_add(words, params_compressions[k]);
	}
}

/* ---- the module ---- */

static const struct command params_commands[] = {
	{
		.name = "query-migrate-capabilities",
		.human = "info migrate_capabilities",
		.returns = "[MigrationCapabilityStatus]",
		.help = "show what migrations can do, and whether that is on",
		.flags = COMMAND_BARE,
		.run = caps_query,
		.print = caps_print,
	},
	{
		.name = "migrate-set-capabilities",
		.args = "capabilities:[MigrationCapabilityStatus]",
		.help = "switch on and off what migrations do",
		.flags = COMMAND_BARE,
		.run = caps_set,
	},
	{
		.human = "migrate_set_capability",
		.human_args = "capability:s,state:b",
		.params = "capability state",
		.help = "switch something that migrations do on or off",
		.human_run = caps_set_human,
		.complete = caps_complete,
	},
	{
		.name = "query-migrate-parameters",
		.human = "info migrate_parameters",
		.returns = "MigrationParameters",
		.help = "show the parameters of migrations",
		.flags = COMMAND_BARE,
		.run = params_query,
		.print = params_print,
	},
	{
		.name = "migrate-set-parameters",
		.args = "MigrateSetParameters",
		.help = "set parameters of migrations, also of the one under way",
		.flags = COMMAND_BARE,
		.run = params_set,
	},
	{
		.human = "migrate_set_parameter",
		.human_args = "parameter:s,value:s",
		.params = "parameter value",
		.help = "set a parameter of migrations; max-bandwidth counts MiB a second",
		.human_run = params_set_human,
		.complete = params_complete,
	},
	{.name = NULL},
};

#define PARAMS_MEMBERS(text)                                                                      \
	"*announce-initial:size *announce-max:size *announce-rounds:size *announce-step:size "    \
	"*compress-level:uint8 *compress-threads:uint8 *compress-wait-thread:bool "               \
	"*decompress-threads:uint8 *throttle-trigger-threshold:uint8 "                            \
	"*cpu-throttle-initial:uint8 *cpu-throttle-increment:uint8 "                              \
	"*cpu-throttle-tailslow:bool *tls-creds:" text " *tls-hostname:" text " *tls-authz:" text \
	" *max-bandwidth:size *downtime-limit:uint64 "                                            \
	"*x-checkpoint-delay:uint32!unstable *block-incremental:bool *multifd-channels:uint8 "    \
	"*xbzrle-cache-size:size *max-postcopy-bandwidth:size *max-cpu-throttle:uint8 "           \
	"*multifd-compression:MultiFDCompression *multifd-zlib-level:uint8 "                      \
	"*multifd-zstd-level:uint8 *block-bitmap-mapping:[BitmapMigrationNodeAlias]"

static const struct qmp_type params_types[] = {
	{
		.name = "MigrationCapability",
		.kind = QMP_ENUM,
		.members = "xbzrle rdma-pin-all auto-converge zero-blocks compress events "
			   "postcopy-ram x-colo release-ram block return-path "
			   "pause-before-switchover multifd dirty-bitmaps postcopy-blocktime "
			   "late-block-activate x-ignore-shared validate-uuid "
			   "background-snapshot zero-copy-send postcopy-preempt",
	},
	{
		.name = "MigrationCapabilityStatus",
		.kind = QMP_STRUCT,
		.members = "capability:MigrationCapability state:bool",
	},
	{.name = "MultiFDCompression", .kind = QMP_ENUM, .members = "none zstd"},
	{.name = "StrOrNull", .kind = QMP_ALTERNATE, .members = "s:str n:null"},
	{
		.name = "BitmapMigrationBitmapAliasTransform",
		.kind = QMP_STRUCT,
		.members = "*persistent:bool",
	},
	{
		.name = "BitmapMigrationBitmapAlias",
		.kind = QMP_STRUCT,
		.members = "name:str alias:str *transform:BitmapMigrationBitmapAliasTransform",
	},
	{
		.name = "BitmapMigrationNodeAlias",
		.kind = QMP_STRUCT,
		.members = "node-name:str alias:str bitmaps:[BitmapMigrationBitmapAlias]",
	},
	{
		.name = "MigrateSetParameters",
		.kind = QMP_STRUCT,
		.members = PARAMS_MEMBERS("StrOrNull"),
	},
	{.name = "MigrationParameters", .kind = QMP_STRUCT, .members = PARAMS_MEMBERS("str")},
	{.name = NULL},
};

const struct qmp_module control_migrate_params_module = {params_commands, params_types, NULL};

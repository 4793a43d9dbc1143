/* SPDX-License-Identifier: BSD-3-Clause */
/* How a migration is: query-migrate, info migrate. See migrate.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/migrate.h"

struct err *migrate_why(const struct migration_info *info)
{
	char *text = info->error ? strdup(info->error) : NULL;
	struct err *err = NULL;
	json_t *json;

	if (!info->error)
		return NULL;
	json = text ? json_string(text) : NULL;
	for (char *c = text; c && *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f || (!json && (unsigned char)*c > 0x7f))
			*c = '?';
	err_set(&err, EIO, "%s", text ? text : "out of memory");
	json_decref(json);
	free(text);
	return err;
}

/* ---- for programs ---- */

static json_t *info_number(uint64_t value)
{
	return json_integer((json_int_t)num_min(value, INT64_MAX));
}

static json_t *info_ram(const struct migration_ram_info *ram)
{
	const struct {
		const char *name;
		uint64_t value;
	} figures[] = {
		{"transferred", ram->transferred},
		{"remaining", ram->remaining},
		{"total", ram->total},
		{"duplicate", ram->duplicate},
		{"skipped", 0}, /* there are no such pages */
		{"normal", ram->normal},
		{"normal-bytes", ram->normal_bytes},
		{"dirty-pages-rate", ram->dirty_pages_rate},
		{"dirty-sync-count", ram->dirty_sync_count},
		{"postcopy-requests", ram->postcopy_requests},
		{"page-size", ram->page_size},
		{"multifd-bytes", ram->multifd_bytes},
		{"pages-per-second", ram->pages_per_second},
		{"precopy-bytes", ram->precopy_bytes},
		{"downtime-bytes", ram->downtime_bytes},
		{"postcopy-bytes", ram->postcopy_bytes},
		{"dirty-sync-missed-zero-copy", 0}, /* nothing is sent so */
	};
	json_t *value = json_pack("{s:f}", "mbps", ram->mbps);

	for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
		control_set(&value, figures[i].name, info_number(figures[i].value));
	if (ram->hinted)
		control_set(&value, "hinted", info_number(ram->hinted));
	return value;
}

/* "tcp:[::1]:4444" or "unix:PATH" as a SocketAddress; NULL for any other, and without memory. */
static json_t *info_address(const char *text)
{
	const char *host = text + strlen("tcp:"), *port = strrchr(text, ':');
	size_t size;
	bool ipv6;

	if (!strncmp(text, "unix:", 5))
		return json_pack("{s:s, s:s}", "type", "unix", "path", text + 5);
	if (strncmp(text, "tcp:", 4) || port < host)
		return NULL;
	size = (size_t)(port - host);
	ipv6 = size > 2 && *host == '[' && port[-1] == ']';
	if (ipv6) {
		host++;
		size -= 2;
	}
	return json_pack("{s:s, s:s%, s:s, s:b}", "type", "inet", "host", host, size, "port",
			 port + 1, ipv6 ? "ipv6" : "ipv4", 1);
}

/* Time and memory are told of what has begun to move, or has moved. */
static void info_add_figures(json_t **value, const struct migration_info *info)
{
	bool over = !migration_status_is_active(info->status);

	if (info->status == MIGRATION_SETUP || (over && info->status != MIGRATION_COMPLETED))
		return;
	if (info->incoming && !info->has_ram)
		return;
	control_set(value, "total-time", info_number(info->total_time_ms));
	control_set(value, "setup-time", info_number(info->setup_time_ms));
	if (over)
		control_set(value, "downtime", info_number(info->downtime_ms));
	if (!over && info->has_expected_downtime)
		control_set(value, "expected-downtime", info_number(info->expected_downtime_ms));
	if (info->has_ram)
		control_set(value, "ram", info_ram(&info->ram));
	if (!over && info->cpu_throttle_percentage)
		control_set(value, "cpu-throttle-percentage",
			    info_number(info->cpu_throttle_percentage));
}

/* Nothing is said of a migration that did not begin, nor of one that is only waited for. */
static bool info_has_status(const struct migration_info *info)
{
	return info->status != MIGRATION_NONE &&
	       !(info->incoming && info->status == MIGRATION_SETUP);
}

static int info_query(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	const struct control *control = command_ctx(call);
	json_t *value = json_object(), *address;
	struct migration_info info;
	struct err *why;

	(void)args;
	migration_info(control->migrate->migration, &info);
	why = migrate_why(&info);
	if (info_has_status(&info)) {
		control_set(&value, "status", json_string(migration_status_name(info.status)));
		info_add_figures(&value, &info);
		if (why)
			control_set(&value, "error-desc", json_string(err_message(why)));
	}
	err_free(why);
	address = info.listening[0] ? info_address(info.listening) : NULL;
	if (address)
		control_set(&value, "socket-address", json_pack("[o]", address));
	return control_answer(value, ret_value, err);
}

/* ---- for people ---- */

#define KBYTES 1024

/* Lines of figures: shown where the figure is there, and for some only if it is not 0. */
struct info_line {
	const char *name, *text, *unit;
	uint64_t divisor;
	bool if_any;
};

static const struct info_line info_time_lines[] = {
	{"expected-downtime", "expected downtime", " ms", 1, false},
	{"downtime", "downtime", " ms", 1, false},
	{"setup-time", "setup", " ms", 1, false},
};

static const struct info_line info_size_lines[] = {
	{"remaining", "remaining ram", " kbytes", KBYTES, false},
	{"total", "total ram", " kbytes", KBYTES, false},
	{"duplicate", "duplicate", " pages", 1, false},
	{"skipped", "skipped", " pages", 1, false},
	{"normal", "normal", " pages", 1, false},
	{"normal-bytes", "normal bytes", " kbytes", KBYTES, false},
	{"dirty-sync-count", "dirty sync count", "", 1, false},
	{"page-size", "page size", " kbytes", KBYTES, false},
	{"multifd-bytes", "multifd bytes", " kbytes", KBYTES, false},
	{"pages-per-second", "pages-per-second", "", 1, false},
	{"dirty-pages-rate", "dirty pages rate", " pages", 1, true},
	{"postcopy-requests", "postcopy request count", "", 1, true},
	{"precopy-bytes", "precopy ram", " kbytes", KBYTES, true},
	{"downtime-bytes", "downtime ram", " kbytes", KBYTES, true},
	{"postcopy-bytes", "postcopy ram", " kbytes", KBYTES, true},
	{"hinted", "hinted", " pages", 1, true},
};

static void info_print_lines(struct command_call *call, const json_t *value,
			     const struct info_line *lines, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		uint64_t figure = control_number(value, lines[i].name);

		if (json_object_get(value, lines[i].name) && (figure || !lines[i].if_any))
			command_printf(call, "%s: %" PRIu64 "%s\n", lines[i].text,
				       figure / lines[i].divisor, lines[i].unit);
	}
}

static void info_print_ram(struct command_call *call, const json_t *ram)
{
	command_printf(call, "transferred ram: %" PRIu64 " kbytes\n",
		       control_number(ram, "transferred") / KBYTES);
	command_printf(call, "throughput: %0.2f mbps\n",
		       json_number_value(json_object_get(ram, "mbps")));
	info_print_lines(call, ram, info_size_lines, ARRAY_SIZE(info_size_lines));
}

static void info_print_addresses(struct command_call *call, const json_t *list)
{
	const json_t *address;
	size_t i;

	command_printf(call, "socket address: [\n");
	json_array_foreach (list, i, address) {
		const char *host = control_text(address, "host");
		bool brackets = strchr(host, ':');

		if (!strcmp(control_text(address, "type"), "unix"))
			command_printf(call, "\tunix:%s\n", control_text(address, "path"));
		else
			command_printf(call, "\ttcp:%s%s%s:%s\n", brackets ? "[" : "", host,
				       brackets ? "]" : "", control_text(address, "port"));
	}
	command_printf(call, "]\n");
}

/* Scripts that read this find the lines where they look for them, also those of what never varies. */
static void info_print_globals(struct command_call *call)
{
	const struct control *control = command_ctx(call);

	command_printf(call,
		       "globals:\n"
		       "store-global-state: on\n"
		       "only-migratable: %s\n"
		       "send-configuration: on\n"
		       "send-section-footer: on\n"
		       "decompress-error-check: on\n"
		       "clear-bitmap-shift: 18\n",
		       vm_config(control->vm)->only_migratable ? "on" : "off");
}

static void info_print(struct command_call *call, const json_t *value)
{
	const char *status = control_text(value, "status"),
		   *why = control_text(value, "error-desc");

	info_print_globals(call);
	if (*status) {
		if (*why)
			command_printf(call, "Migration status: %s (%s)\n", status, why);
		else
			command_printf(call, "Migration status: %s\n", status);
		command_printf(call, "total time: %" PRIu64 " ms\n",
			       control_number(value, "total-time"));
		info_print_lines(call, value, info_time_lines, ARRAY_SIZE(info_time_lines));
	}
	if (json_object_get(value, "ram"))
		info_print_ram(call, json_object_get(value, "ram"));
	if (json_object_get(value, "cpu-throttle-percentage"))
		command_printf(call, "cpu throttle percentage: %" PRIu64 "\n",
			       control_number(value, "cpu-throttle-percentage"));
	if (json_object_get(value, "socket-address"))
		info_print_addresses(call, json_object_get(value, "socket-address"));
}

/* ---- the module ---- */

static const struct command info_commands[] = {
	{
		.name = "query-migrate",
		.human = "info migrate",
		.returns = "MigrationInfo",
		.help = "show how the migration is, or how the last one went",
		.run = info_query,
		.print = info_print,
	},
	{.name = NULL},
};

static const struct qmp_type info_types[] = {
	{
		.name = "MigrationStats",
		.kind = QMP_STRUCT,
		.members = "transferred:int remaining:int total:int duplicate:int skipped:int "
			   "normal:int normal-bytes:int dirty-pages-rate:int mbps:number "
			   "dirty-sync-count:int postcopy-requests:int page-size:int "
			   "multifd-bytes:uint64 pages-per-second:uint64 precopy-bytes:uint64 "
			   "downtime-bytes:uint64 postcopy-bytes:uint64 "
			   "dirty-sync-missed-zero-copy:uint64 *hinted:int",
	},
	{
		.name = "SocketAddress",
		.kind = QMP_UNION,
		.members = "type:SocketAddressType",
		.tag = "type",
		.variants = "inet:InetSocketAddress unix:UnixSocketAddress fd:String",
	},
	{
		.name = "MigrationInfo",
		.kind = QMP_STRUCT,
		.members = "*status:MigrationStatus *ram:MigrationStats *total-time:int "
			   "*expected-downtime:int *downtime:int *setup-time:int "
			   "*cpu-throttle-percentage:int *error-desc:str *blocked-reasons:[str] "
			   "*socket-address:[SocketAddress]",
	},
	{.name = NULL},
};

const struct qmp_module control_migrate_info_module = {info_commands, info_types, NULL};

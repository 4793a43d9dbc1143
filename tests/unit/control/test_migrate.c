/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The monitors' view of migrations: what commands ask for, what is told of every status; capabilities and
 * parameters. The migration itself is made up (migrate_rig.h).
 */
#include "tests/unit/control/migrate_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EVENTS (1u << MIGRATION_CAP_EVENTS)

#define GLOBALS                        \
	"globals:\n"                   \
	"store-global-state: on\n"     \
	"only-migratable: off\n"       \
	"send-configuration: on\n"     \
	"send-section-footer: on\n"    \
	"decompress-error-check: on\n" \
	"clear-bitmap-shift: 18\n"

/* ---- commands ---- */

static void test_calls(void **state)
{
	static const struct {
		const char *command, *args, *called;
	} rows[] = {
		{"migrate", "{'uri': 'tcp:h:1', 'detach': true}", "start tcp:h:1"},
		{"migrate", "{'uri': 'unix:p', 'resume': true}", "start unix:p resume"},
		{"migrate", "{'uri': 'fd:n', 'blk': false, 'inc': false}", "start fd:n"},
		{"migrate_cancel", "{}", "cancel"},
		{"migrate-pause", "{}", "pause"},
		{"migrate-continue", "{'state': 'pre-switchover'}", "continue pre-switchover"},
		{"migrate-start-postcopy", "{}", "start-postcopy"},
		{"migrate-incoming", "{'uri': 'tcp:[::]:0'}", "incoming tcp:[::]:0"},
		{"migrate-recover", "{'uri': 'tcp:h:2'}", "recover tcp:h:2"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_ask(*state, rows[i].command, rows[i].args, "{}");
		assert_string_equal(rig_called(*state), rows[i].called);
	}
}

static void test_calls_of_people(void **state)
{
	static const char *const rows[][2] = {
		{"migrate -d tcp:h:1", "start tcp:h:1"},
		{"migrate -d \"exec:cat > f\"", "start exec:cat > f"},
		{"migrate -r -d tcp:h:1", "start tcp:h:1 resume"},
		{"migrate_cancel", "cancel"},
		{"migrate_pause", "pause"},
		{"migrate_continue pre-switchover", "continue pre-switchover"},
		{"migrate_start_postcopy", "start-postcopy"},
		{"migrate_incoming tcp:h:1", "incoming tcp:h:1"},
		{"migrate_recover tcp:h:1", "recover tcp:h:1"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_prints(*state, rows[i][0], "");
		assert_string_equal(rig_called(*state), rows[i][1]);
	}
}

/* The sentence is the migration's, the class never says more than that it failed. */
static void test_refusals(void **state)
{
	static const int codes[] = {EINVAL, EBUSY, ENODEV, ENXIO, ENOSYS, ECONNREFUSED};
	static const char *const rows[][2] = {
		{"migrate", "{'uri': 'x'}"},
		{"migrate-pause", "{}"},
		{"migrate-continue", "{'state': 'device'}"},
		{"migrate-start-postcopy", "{}"},
		{"migrate-incoming", "{'uri': 'x'}"},
		{"migrate-recover", "{'uri': 'x'}"},
		{"migrate-set-capabilities", "{'capabilities': []}"},
		{"migrate-set-parameters", "{}"},
	};

	for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++) {
		rig_fail(*state, codes[c], "it cannot be");
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			/* These two do nothing with the host. */
			if (c >= 2 && c <= 4 && i >= 6)
				continue;
			rig_ask(*state, rows[i][0], rows[i][1],
				"{'class': 'GenericError', 'desc': 'it cannot be'}");
		}
	}
	rig_prints(*state, "migrate x", "Error: it cannot be\n");
	/* No job is left over. */
	rig_ask(*state, "query-jobs", "{}", "[]");
	rig_events(*state, "");
}

static void test_disks(void **state)
{
	const char *refused =
		"{'class': 'GenericError', 'desc': 'there are no disks that could be migrated; blk "
		"(-b) and inc (-i) are not possible'}";

	rig_ask(*state, "migrate", "{'uri': 'tcp:h:1', 'blk': true}", refused);
	rig_ask(*state, "migrate", "{'uri': 'tcp:h:1', 'inc': true}", refused);
	rig_prints(
		*state, "migrate -b tcp:h:1",
		"Error: there are no disks that could be migrated; blk (-b) and inc (-i) are not "
		"possible\n");
	assert_string_equal(rig_called(*state), "");
}

static void test_unknown_state(void **state)
{
	rig_ask(*state, "migrate-continue", "{'state': 'colo'}",
		"{'class': 'GenericError', 'desc': \"the migration is not in the state colo, but "
		"in "
		"none\"}");
}

/* ---- query-migrate ---- */

static void test_info_statuses(void **state)
{
	rig_ask(*state, "query-migrate", "{}", "{}");
	rig_set_status(*state, MIGRATION_SETUP, NULL);
	rig_ask(*state, "query-migrate", "{}", "{'status': 'setup'}");
	rig_set_status(*state, MIGRATION_CANCELLED, NULL);
	rig_ask(*state, "query-migrate", "{}", "{'status': 'cancelled'}");
	rig_set_status(*state, MIGRATION_FAILED, "the other side is gone");
	rig_ask(*state, "query-migrate", "{}",
		"{'status': 'failed', 'error-desc': 'the other side is gone'}");
	rig_set(*state, &rig_half);
	rig_ask(*state, "query-migrate", "{}",
		"{'status': 'active', 'total-time': 1500, 'setup-time': 3, 'expected-downtime': "
		"300,"
		" 'cpu-throttle-percentage': 20, 'ram': {'transferred': 5000000,"
		" 'remaining': 67108864, 'total': 134217728, 'duplicate': 10, 'skipped': 0,"
		" 'normal': 1200, 'normal-bytes': 4915200, 'dirty-pages-rate': 7, 'mbps': 33.5,"
		" 'dirty-sync-count': 2, 'postcopy-requests': 0, 'page-size': 4096,"
		" 'multifd-bytes': 0, 'pages-per-second': 60, 'precopy-bytes': 5000000,"
		" 'downtime-bytes': 0, 'postcopy-bytes': 0, 'dirty-sync-missed-zero-copy': 0}}");
}

static void test_info_incoming(void **state)
{
	struct migration_info info = {
		.status = MIGRATION_SETUP, .incoming = true, .listening = "tcp:127.0.0.1:4444"};

	rig_set(*state, &info);
	rig_ask(*state, "query-migrate", "{}",
		"{'socket-address': [{'type': 'inet', 'host': '127.0.0.1', 'port': '4444',"
		" 'ipv4': true}]}");
	rig_prints(*state, "info migrate", GLOBALS "socket address: [\n\ttcp:127.0.0.1:4444\n]\n");
	strcpy(info.listening, "tcp:[::]:1");
	rig_set(*state, &info);
	rig_ask(*state, "query-migrate", "{}",
		"{'socket-address': [{'type': 'inet', 'host': '::', 'port': '1', 'ipv6': true}]}");
	rig_prints(*state, "info migrate", GLOBALS "socket address: [\n\ttcp:[::]:1\n]\n");
	strcpy(info.listening, "unix:/a:b");
	rig_set(*state, &info);
	rig_ask(*state, "query-migrate", "{}",
		"{'socket-address': [{'type': 'unix', 'path': '/a:b'}]}");
	rig_prints(*state, "info migrate", GLOBALS "socket address: [\n\tunix:/a:b\n]\n");
	/* What is no socket's address is not told; nor can it be taken for one. */
	static const char *const others[] = {"fd:7", "exec:true", "tcp:", "tcp", ":", "x:y"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		strcpy(info.listening, others[i]);
		rig_set(*state, &info);
		rig_ask(*state, "query-migrate", "{}", "{}");
	}
	info.listening[0] = '\0';
	info.status = MIGRATION_ACTIVE;
	rig_set(*state, &info);
	rig_ask(*state, "query-migrate", "{}", "{'status': 'active'}");
	info.status = MIGRATION_COMPLETED;
	rig_set(*state, &info);
	rig_prints(*state, "info migrate",
		   GLOBALS "Migration status: completed\ntotal time: 0 ms\n");
}

static void test_info_people(void **state)
{
	struct migration_info info = rig_half;

	rig_prints(*state, "info migrate", GLOBALS);
	rig_config(*state)->only_migratable = true;
	rig_prints(*state, "info migrate",
		   "globals:\nstore-global-state: on\nonly-migratable: on\nsend-configuration: on\n"
		   "send-section-footer: on\ndecompress-error-check: on\nclear-bitmap-shift: 18\n");
	rig_config(*state)->only_migratable = false;
	rig_set_status(*state, MIGRATION_FAILED, "why");
	rig_prints(*state, "info migrate",
		   GLOBALS "Migration status: failed (why)\ntotal time: 0 ms\n");
	info.ram.postcopy_requests = 9;
	info.ram.postcopy_bytes = 2048;
	info.ram.downtime_bytes = 1024;
	rig_set(*state, &info);
	rig_prints(*state, "info migrate",
		   GLOBALS "Migration status: active\n"
			   "total time: 1500 ms\n"
			   "expected downtime: 300 ms\n"
			   "setup: 3 ms\n"
			   "transferred ram: 4882 kbytes\n"
			   "throughput: 33.50 mbps\n"
			   "remaining ram: 65536 kbytes\n"
			   "total ram: 131072 kbytes\n"
			   "duplicate: 10 pages\n"
			   "skipped: 0 pages\n"
			   "normal: 1200 pages\n"
			   "normal bytes: 4800 kbytes\n"
			   "dirty sync count: 2\n"
			   "page size: 4 kbytes\n"
			   "multifd bytes: 0 kbytes\n"
			   "pages-per-second: 60\n"
			   "dirty pages rate: 7 pages\n"
			   "postcopy request count: 9\n"
			   "precopy ram: 4882 kbytes\n"
			   "downtime ram: 1 kbytes\n"
			   "postcopy ram: 2 kbytes\n"
			   "cpu throttle percentage: 20\n");
	info = rig_half;
	info.status = MIGRATION_COMPLETED;
	info.has_downtime = true;
	info.downtime_ms = 12;
	info.ram.precopy_bytes = info.ram.dirty_pages_rate = info.ram.remaining = 0;
	rig_set(*state, &info);
	rig_prints(*state, "info migrate",
		   GLOBALS "Migration status: completed\n"
			   "total time: 1500 ms\n"
			   "downtime: 12 ms\n"
			   "setup: 3 ms\n"
			   "transferred ram: 4882 kbytes\n"
			   "throughput: 33.50 mbps\n"
			   "remaining ram: 0 kbytes\n"
			   "total ram: 131072 kbytes\n"
			   "duplicate: 10 pages\n"
			   "skipped: 0 pages\n"
			   "normal: 1200 pages\n"
			   "normal bytes: 4800 kbytes\n"
			   "dirty sync count: 2\n"
			   "page size: 4 kbytes\n"
			   "multifd bytes: 0 kbytes\n"
			   "pages-per-second: 60\n");
}

/* Figures beyond what JSON's integers can hold, and none that could be negative. */
static void test_info_extremes(void **state)
{
	struct migration_info info = rig_half;

	info.ram.transferred = info.total_time_ms = UINT64_MAX;
	info.ram.remaining = UINT64_MAX;
	rig_set(*state, &info);
	rig_prints(*state, "info migrate_capabilities",
		   "auto-converge: off\nzero-blocks: off\nevents: off\npostcopy-ram: off\n"
		   "release-ram: off\nreturn-path: off\npause-before-switchover: off\n"
		   "multifd: off\nlate-block-activate: off\nvalidate-uuid: off\n");
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'running', 'current-progress': 0,"
		" 'total-progress': 134217728}]");
}

/* The other side's words are in the sentence. */
static void test_info_hostile_words(void **state)
{
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set_status(*state, MIGRATION_FAILED, "caf\xc3\xa9 \x1b[2J\x07\n\x7f.");
	rig_ask(*state, "query-migrate", "{}",
		"{'status': 'failed', 'error-desc': 'caf\xc3\xa9 ?[2J???.'}");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 0, 'total-progress': 0, 'error': 'caf\xc3\xa9 ?[2J???.'}]");
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set_status(*state, MIGRATION_SETUP, NULL);
	rig_set_status(*state, MIGRATION_FAILED, "caf\xe9 x\xffx");
	rig_ask(*state, "query-migrate", "{}", "{'status': 'failed', 'error-desc': 'caf? x?x'}");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 0, 'total-progress': 0, 'error': 'caf? x?x'}]");
}

/* ---- capabilities ---- */

static void test_capabilities(void **state)
{
	rig_ask(*state, "migrate-set-capabilities",
		"{'capabilities': [{'capability': 'multifd', 'state': true},"
		" {'capability': 'events', 'state': true}, {'capability': 'xbzrle', 'state': "
		"false},"
		" {'capability': 'events', 'state': false}]}",
		"{}");
	assert_int_equal(*rig_capabilities(*state), 1u << MIGRATION_CAP_MULTIFD);
	rig_ask(*state, "query-migrate-capabilities", "{}",
		"[{'capability': 'auto-converge', 'state': false},"
		" {'capability': 'zero-blocks', 'state': false},"
		" {'capability': 'events', 'state': false},"
		" {'capability': 'postcopy-ram', 'state': false},"
		" {'capability': 'release-ram', 'state': false},"
		" {'capability': 'return-path', 'state': false},"
		" {'capability': 'pause-before-switchover', 'state': false},"
		" {'capability': 'multifd', 'state': true},"
		" {'capability': 'late-block-activate', 'state': false},"
		" {'capability': 'validate-uuid', 'state': false}]");
	rig_ask(*state, "migrate-set-capabilities",
		"{'capabilities': [{'capability': 'events', 'state': true},"
		" {'capability': 'xbzrle', 'state': true}]}",
		"{'class': 'GenericError', 'desc': 'Capability xbzrle cannot be switched on: there "
		"is "
		"nothing of that kind in this version'}");
	assert_int_equal(*rig_capabilities(*state), 1u << MIGRATION_CAP_MULTIFD);
	rig_prints(*state, "migrate_set_capability events on", "");
	assert_true(*rig_capabilities(*state) & EVENTS);
	rig_prints(*state, "migrate_set_capability multifd off", "");
	assert_int_equal(*rig_capabilities(*state), EVENTS);
	rig_prints(*state, "migrate_set_capability nosuch on",
		   "Error: Parameter 'capability' does not accept value 'nosuch'\n");
	rig_prints(
		*state, "migrate_set_capability block on",
		"Error: Capability 'block' cannot be switched on: there is nothing of that kind in "
		"this version\n");
	assert_int_equal(*rig_capabilities(*state), EVENTS);
}

/* ---- parameters ---- */

#define SHOWN(channels)                                                                      \
	"announce-initial: 50 ms\nannounce-max: 550 ms\nannounce-rounds: 5\n"                \
	"announce-step: 100 ms\ncompress-level: 1\ncompress-threads: 8\n"                    \
	"compress-wait-thread: on\ndecompress-threads: 2\nthrottle-trigger-threshold: 50\n"  \
	"cpu-throttle-initial: 20\ncpu-throttle-increment: 10\ncpu-throttle-tailslow: off\n" \
	"max-cpu-throttle: 99\ntls-creds: ''\ntls-hostname: ''\n"                            \
	"max-bandwidth: 134217728 bytes/second\ndowntime-limit: 300 ms\n"                    \
	"x-checkpoint-delay: 20000 ms\nblock-incremental: off\nmultifd-channels: " channels  \
	"\nmultifd-compression: none\nxbzrle-cache-size: 67108864 bytes\n"                   \
	"max-postcopy-bandwidth: 0\ntls-authz: ''\n"

static void test_params(void **state)
{
	rig_ask(*state, "query-migrate-parameters", "{}",
		"{'announce-initial': 50, 'announce-max': 550, 'announce-rounds': 5,"
		" 'announce-step': 100, 'compress-level': 1, 'compress-threads': 8,"
		" 'compress-wait-thread': true, 'decompress-threads': 2,"
		" 'throttle-trigger-threshold': 50, 'cpu-throttle-initial': 20,"
		" 'cpu-throttle-increment': 10, 'cpu-throttle-tailslow': false,"
		" 'max-cpu-throttle': 99, 'tls-creds': '', 'tls-hostname': '', 'tls-authz': '',"
		" 'max-bandwidth': 134217728, 'downtime-limit': 300, 'x-checkpoint-delay': 20000,"
		" 'block-incremental': false, 'multifd-channels': 2, 'multifd-compression': 'none',"
		" 'multifd-zlib-level': 1, 'multifd-zstd-level': 1, 'xbzrle-cache-size': 67108864,"
		" 'max-postcopy-bandwidth': 0}");
	rig_prints(*state, "info migrate_parameters", SHOWN("2"));
	rig_ask(*state, "migrate-set-parameters",
		"{'multifd-channels': 255, 'multifd-compression': 'zstd', 'multifd-zstd-level': 20,"
		" 'max-bandwidth': 0, 'downtime-limit': 2000000, 'cpu-throttle-tailslow': true,"
		" 'xbzrle-cache-size': 4096, 'x-checkpoint-delay': 4294967295,"
		" 'compress-wait-thread': false, 'tls-creds': null, 'tls-hostname': '',"
		" 'block-bitmap-mapping': [], 'max-cpu-throttle': 30, 'cpu-throttle-initial': 30}",
		"{}");
	assert_int_equal(rig_params(*state)->multifd_channels, 255);
	assert_int_equal(rig_params(*state)->multifd_compression, MIGRATION_COMPRESSION_ZSTD);
	assert_int_equal(rig_params(*state)->multifd_zstd_level, 20);
	assert_int_equal(rig_params(*state)->max_bandwidth, 0);
	assert_int_equal(rig_params(*state)->downtime_limit_ms, 2000000);
	assert_true(rig_params(*state)->cpu_throttle_tailslow);
	assert_int_equal(rig_params(*state)->cpu_throttle_initial, 30);
	rig_ask(*state, "query-migrate-parameters", "{}",
		"{'announce-initial': 50, 'announce-max': 550, 'announce-rounds': 5,"
		" 'announce-step': 100, 'compress-level': 1, 'compress-threads': 8,"
		" 'compress-wait-thread': false, 'decompress-threads': 2,"
		" 'throttle-trigger-threshold': 50, 'cpu-throttle-initial': 30,"
		" 'cpu-throttle-increment': 10, 'cpu-throttle-tailslow': true,"
		" 'max-cpu-throttle': 30, 'tls-creds': '', 'tls-hostname': '', 'tls-authz': '',"
		" 'max-bandwidth': 0, 'downtime-limit': 2000000, 'x-checkpoint-delay': 4294967295,"
		" 'block-incremental': false, 'multifd-channels': 255,"
		" 'multifd-compression': 'zstd', 'multifd-zlib-level': 1, 'multifd-zstd-level': 20,"
		" 'xbzrle-cache-size': 4096, 'max-postcopy-bandwidth': 0}");
}

#define RANGE(name, least, most) "Parameter " name " expects a value between " least " and " most

/* One that is wrong, and none of the others is set. */
static void test_params_refused(void **state)
{
	static const char *const rows[][2] = {
		{"'announce-step': 0", RANGE("announce-step", "1", "10000")},
		{"'announce-rounds': 1001", RANGE("announce-rounds", "0", "1000")},
		{"'compress-level': 10", RANGE("compress-level", "0", "9")},
		{"'compress-threads': 0", RANGE("compress-threads", "1", "255")},
		{"'throttle-trigger-threshold': 101",
		 RANGE("throttle-trigger-threshold", "1", "100")},
		{"'cpu-throttle-increment': 100", RANGE("cpu-throttle-increment", "1", "99")},
		{"'max-cpu-throttle': 19",
		 RANGE("max-cpu-throttle", "20 (cpu-throttle-initial)", "99")},
		{"'downtime-limit': 2000001", RANGE("downtime-limit", "0", "2000000")},
		{"'multifd-channels': 0", RANGE("multifd-channels", "1", "255")},
		{"'multifd-zstd-level': 21", RANGE("multifd-zstd-level", "0", "20")},
		{"'xbzrle-cache-size': 4097", "Parameter xbzrle-cache-size expects a power of two "
					      "no less than a page, 4096 bytes"},
		{"'xbzrle-cache-size': 2048", "Parameter xbzrle-cache-size expects a power of two "
					      "no less than a page, 4096 bytes"},
		{"'tls-creds': 'x'",
		 "Parameter tls-creds can only be empty: nothing is encrypted in "
		 "this version"},
		{"'block-bitmap-mapping': [{'node-name': 'n', 'alias': 'a', 'bitmaps': []}]",
		 "Parameter block-bitmap-mapping can only be empty: there are no disks"},
	};
	char args[256], want[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(args, sizeof(args), "{'announce-initial': 7, 'tls-authz': '', %s}",
			 rows[i][0]);
		snprintf(want, sizeof(want), "{'class': 'GenericError', 'desc': '%s'}", rows[i][1]);
		rig_ask(*state, "migrate-set-parameters", args, want);
	}
	/* One of the migration's own reasons. */
	rig_fail(*state, EINVAL, "no");
	rig_ask(*state, "migrate-set-parameters", "{'xbzrle-cache-size': 8192}",
		"{'class': 'GenericError', 'desc': 'no'}");
	assert_string_equal(rig_called(*state), "set-params");
	rig_prints(*state, "info migrate_parameters", SHOWN("2"));
}

static void test_params_people(void **state)
{
	static const char *const rows[][2] = {
		{"max-bandwidth 100", ""},
		{"max-bandwidth 100k", ""},
		{"max-bandwidth 128", ""},
		{"max-bandwidth x",
		 "Error: Invalid parameter type for 'max-bandwidth', expected: integer\n"},
		{"max-bandwidth 9223372036854775808B",
		 "Error: Invalid parameter type for 'max-bandwidth', expected: integer\n"},
		{"downtime-limit 1s",
		 "Error: Invalid parameter type for 'downtime-limit', expected: integer\n"},
		{"cpu-throttle-initial 1000",
		 "Error: Parameter 'cpu-throttle-initial' expects uint8_t\n"},
		{"multifd-channels 0",
		 "Error: Parameter 'multifd-channels' expects a value between 1 and 255\n"},
		{"multifd-channels 3", ""},
		{"multifd-compression lz4",
		 "Error: Parameter 'multifd-compression' does not accept value 'lz4'\n"},
		{"cpu-throttle-tailslow maybe",
		 "Error: Invalid parameter type for 'cpu-throttle-tailslow', expected: boolean\n"},
		{"cpu-throttle-tailslow off", ""},
		{"tls-creds abc", "Error: Parameter 'tls-creds' can only be empty: nothing is "
				  "encrypted in this version\n"},
		{"tls-creds \"\"", ""},
		{"xbzrle-cache-size 64M", ""},
		{"block-bitmap-mapping x",
		 "Error: Parameter 'block-bitmap-mapping' can only be set by programs\n"},
		{"nosuch 1",
		 "Error: there is no parameter 'nosuch'; 'info migrate_parameters' shows "
		 "which there are\n"},
	};
	char line[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(line, sizeof(line), "migrate_set_parameter %s", rows[i][0]);
		rig_prints(*state, line, rows[i][1]);
		if (i == 0)
			assert_int_equal(rig_params(*state)->max_bandwidth, 100 << 20);
		if (i == 1)
			assert_int_equal(rig_params(*state)->max_bandwidth, 100 << 10);
	}
	rig_prints(*state, "info migrate_parameters", SHOWN("3"));
}

/* The Tab key. */
static void test_completion(void **state)
{
	rig_type(*state, "migrate_set_parameter multifd-comp\tzs\t\n");
	assert_int_equal(rig_params(*state)->multifd_compression, MIGRATION_COMPRESSION_ZSTD);
	rig_type(*state, "migrate_set_parameter cpu-throttle-t\ton\n");
	assert_true(rig_params(*state)->cpu_throttle_tailslow);
	rig_type(*state, "migrate_set_capability ev\ton\n");
	assert_true(*rig_capabilities(*state) & EVENTS);
	rig_type(*state, "migrate_continue \t\n");
	assert_string_equal(rig_called(*state), "continue pre-switchover");
	rig_type(*state, "migrate_set_capability ev\tof\t\n");
	assert_false(*rig_capabilities(*state) & EVENTS);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_calls),          TEST(test_calls_of_people),
		TEST(test_refusals),       TEST(test_disks),
		TEST(test_unknown_state),  TEST(test_info_statuses),
		TEST(test_info_incoming),  TEST(test_info_people),
		TEST(test_info_extremes),  TEST(test_info_hostile_words),
		TEST(test_capabilities),   TEST(test_params),
		TEST(test_params_refused), TEST(test_params_people),
		TEST(test_completion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The object tree of a machine with one of everything: every property of every node can be read and
 * has its type, paths and links lead where they say, what cannot be set is refused, and what people
 * are shown of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/control/qom_rig.h"

/* ---- the tree ---- */

static bool type_is(const char *type, const char *const *names)
{
	for (; *names; names++) {
		if (!strcmp(*names, type))
			return true;
	}
	return false;
}

/* Is @value what a listing calls @type? */
static bool value_fits(const char *name, const char *type, const json_t *value)
{
	static const char *const integers[] = {"int",    "int32",  "size",   "uint8",
					       "uint16", "uint32", "uint64", NULL};
	static const char *const texts[] = {"str",
					    "string",
					    "OnOffAuto",
					    "HostMemPolicy",
					    "VirtioMemViolationAction",
					    "VirtioMemRequestStatus",
					    NULL};
	static const char *const objects[] = {"MemorySizeConfiguration", "SMPConfiguration",
					      "SocketAddress", "guest statistics", NULL};

	if (!strcmp(name, "host-nodes")) /* QEMU calls a list of them int */
		return !strcmp(type, "int") && json_is_array(value);
	if (!strcmp(type, "X86CPUFeatureWordInfo")) /* likewise */
		return json_is_array(value);
	if (!strcmp(type, "bool"))
		return json_is_boolean(value);
	if (type_is(type, integers))
		return json_is_integer(value);
	if (type_is(type, texts) || !strncmp(type, "link<", 5) || !strncmp(type, "child<", 6))
		return json_is_string(value);
	return type_is(type, objects) && json_is_object(value);
}

/* Walk from @path on; how many properties were read. */
static size_t walk(struct rig *rig, const char *path)
{
	json_t *list = rig_get(rig, "qom-list", "{'path': '%s'}", path), *info, *own;
	size_t count = 0, i;

	own = rig_get(rig, "qom-get", "{'path': '%s', 'property': 'type'}", path);
	json_array_foreach (list, i, info) {
		const char *name = json_string_value(json_object_get(info, "name"));
		const char *type = json_string_value(json_object_get(info, "type"));
		json_t *value;
		char child[256];

		value = rig_get(rig, "qom-get", "{'path': '%s', 'property': '%s'}", path, name);
		if (!value_fits(name, type, value))
			fail_msg("%s %s is no %s", path, name, type);
		for (size_t k = 0; k < i; k++) {
			const json_t *other = json_object_get(json_array_get(list, k), "name");

			if (!strcmp(json_string_value(other), name))
				fail_msg("%s has two properties %s", path, name);
		}
		count++;
		if (!strncmp(type, "child<", 6)) {
			snprintf(child, sizeof(child), "%s/%s", strcmp(path, "/") ? path : "",
				 name);
			assert_string_equal(json_string_value(value), child);
			count += walk(rig, child);
		} else if (!strncmp(type, "link<", 5) && *json_string_value(value)) {
			/* a link leads to something, and leads on */
			json_decref(rig_get(rig, "qom-list", "{'path': '%s'}",
					    json_string_value(value)));
			json_decref(rig_get(rig, "qom-list", "{'path': '%s/%s'}", path, name));
		}
		json_decref(value);
	}
	assert_non_null(qom_class_find(json_string_value(own)));
	json_decref(own);
	json_decref(list);
	return count;
}

static void test_every_property_can_be_read(void **state)
{
	assert_true(walk(*state, "/") > 300);
}

static void test_every_property_of_a_plain_machine(void **state)
{
	struct rig *pc = rig_new("-kernel K -nodefaults -machine pc -device virtio-rng-pci");

	(void)state;
	assert_true(walk(pc, "/") > 50);
	rig_free(pc);
}

static void check(struct rig *rig, const char *path, const char *property, const char *want)
{
	json_t *value = rig_get(rig, "qom-get", "{'path': '%s', 'property': '%s'}", path, property);
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);

	for (char *at = text; (at = strchr(at, '"')); at++)
		*at = '\'';
	if (strcmp(text, want))
		fail_msg("%s %s: %s instead of %s", path, property, text, want);
	free(text);
	json_decref(value);
}

static void test_values_are_those_of_the_machine(void **state)
{
	static const struct {
		const char *path, *property, *want;
	} cases[] = {
		{"/", "machine", "'/machine'"},
		{"/machine", "type", "'pc-q35-9.0-machine'"},
		{"/machine", "kernel", "'K'"},
		{"/machine", "append", "''"},
		{"/machine", "memory", "{'max-size': 8589934592, 'size': 268435456, 'slots': 0}"},
		{"/machine", "memory-backend", "'/objects/boot'"},
		{"/machine", "device-memory-region-size", "8321499136"},
		{"/machine", "smp",
		 "{'cores': 2, 'cpus': 4, 'dies': 1, 'maxcpus': 4, 'sockets': 2, 'threads': 1}"},
		{"/machine", "usb", "false"},
		{"/machine", "acpi", "'on'"},
		{"/machine", "vmport", "'off'"},
		{"/machine", "mem-merge", "true"},
		{"/machine/q35/pcie.0", "type", "'PCIE'"},
		{"/machine/unattached/device[3]", "type", "'host-x86_64-cpu'"},
		{"/machine/unattached/device[3]", "socket-id", "1"},
		{"/machine/unattached/device[3]", "core-id", "1"},
		{"/machine/unattached/device[3]", "node-id", "1"},
		{"/machine/unattached/device[3]", "migratable", "true"},
		{"/machine/peripheral/vm0", "parent_bus", "'/machine/peripheral/port0/port0'"},
		{"/machine/peripheral/vm0", "hotpluggable", "true"},
		{"/machine/peripheral/vm0", "requested-size", "67108864"},
		{"/machine/peripheral/vm0", "size", "2097152"},
		{"/machine/peripheral/vm0", "region-size", "1073741824"},
		{"/machine/peripheral/vm0", "usable-region-size", "536870912"},
		{"/machine/peripheral/vm0", "block-size", "2097152"},
		{"/machine/peripheral/vm0", "memaddr", "4294967296"},
		{"/machine/peripheral/vm0", "memdev", "'/objects/mem0'"},
		{"/machine/peripheral/vm0", "addr", "0"},
		{"/machine/peripheral/vm0", "disable-legacy", "'on'"},
		{"/machine/peripheral/vm0", "multifunction", "false"},
		{"/machine/peripheral/vm0", "unplugged-inaccessible", "'auto'"},
		{"/machine/peripheral/vm0", "request-status", "'no-driver'"},
		{"/machine/peripheral/vm0", "request-explanation", "'nobody is there'"},
		{"/machine/peripheral-anon/device[0]", "request-explanation", "''"},
		{"/machine/peripheral/vm0", "guard-mechanism", "'mprotect'"},
		{"/machine/peripheral/vm0", "guard-memslots", "3"},
		{"/machine/peripheral/vm0", "violation-writes", "5"},
		{"/machine/peripheral/vm0", "violation-reads", "7"},
		{"/machine/peripheral/vm0/virtio-backend", "type", "'virtio-mem'"},
		{"/machine/peripheral/vm0/virtio-backend", "requested-size", "67108864"},
		{"/machine/peripheral/vm0/virtio-backend", "parent_bus",
		 "'/machine/peripheral/vm0/virtio-bus'"},
		{"/machine/peripheral/vm0", "memslot-size", "134217728"},
		{"/machine/peripheral/vm0", "vectors", "2"},
		{"/machine/peripheral/port0", "slot", "5"},
		{"/machine/peripheral/vm1", "node", "1"},
		{"/machine/peripheral/vm1", "requested-size", "67108864"},
		{"/machine/peripheral/vm1", "memaddr", "5368709120"},
		{"/machine/peripheral/vm1", "hotpluggable", "false"},
		{"/machine/peripheral/vm1", "legacy-addr", "'0a.0'"},
		{"/machine/peripheral/vm1", "addr", "80"},
		{"/machine/peripheral-anon/device[0]", "on-violation", "'pause'"},
		{"/machine/peripheral-anon/device[0]", "memdev", "'/objects/mem2'"},
		{"/machine/peripheral-anon/device[1]", "rng", "'/objects/rnd0'"},
		{"/machine/peripheral-anon/device[2]", "type", "'pvpanic'"},
		{"/machine/peripheral/rng1", "rng", "''"},
		{"/machine/peripheral/rng1", "max-bytes", "9223372036854775807"},
		{"/machine/peripheral/port0", "pref64-reserve", "9223372036854775807"},
		{"/machine/peripheral/com1", "chardev", "'chr0'"},
		{"/machine/peripheral/com1", "iobase", "1016"},
		{"/machine/peripheral/com1", "parent_bus", "'/machine/unattached/isa.0'"},
		{"/objects/mem0", "reserve", "false"},
		{"/objects/mem1", "size", "2147483648"},
		{"/objects/mem1", "host-nodes", "[0]"},
		{"/objects/mem1", "policy", "'preferred'"},
		{"/objects/boot", "share", "true"},
		{"/objects/boot", "hugetlbsize", "0"},
		{"/objects/rnd0", "filename", "'/dev/urandom'"},
		{"/objects/sec0", "type", "'secret'"},
		{"/chardevs/chr0", "type", "'chardev-null'"},
		{"/chardevs/chr1", "connected", "false"},
		{"/chardevs/chr1", "addr", "{'path': 'c', 'type': 'unix'}"},
		{"/chardevs/chr2", "connected", "true"},
		{"/chardevs/chr2", "addr", "{'host': 'localhost', 'port': '1234', 'type': 'inet'}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(*state, cases[i].path, cases[i].property, cases[i].want);
}

/* ---- paths ---- */

static void test_paths_may_be_written_in_many_ways(void **state)
{
	static const char *const same[] = {
		"/machine/peripheral/vm0",
		"//machine///peripheral/vm0/",
		"vm0",
		"peripheral/vm0",
		"machine/peripheral/vm0",
		"vm0/",
		"/machine//peripheral/vm0//",
	};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		check(*state, same[i], "memdev", "'/objects/mem0'");
	check(*state, "vm0/memdev", "size", "1073741824");
	check(*state, "/machine/peripheral/vm0/memdev", "size", "1073741824");
	check(*state, "vm0/virtio-backend/parent_bus", "type", "'virtio-pci-bus'");
	check(*state, "unattached/device[0]", "core-id", "0");
	check(*state, "peripheral-anon/device[0]", "type", "'virtio-mem-pci'");
}

static void test_paths_that_lead_nowhere(void **state)
{
	static const char *const nowhere[] = {
		"/nope",
		"nope",
		"/vm0",
		"/machine/peripheral/vm",
		"/vm00",
		"/machine/peripheral/vm0/virtio-backend/x",
		"/objects/mem0/mem0",
		"/machine/peripheral/rng1/rng",
		"/machine/unattached/device[4]",
		"/machine/unattached/device[0",
		"/machine/peripheral-anon/device[3]",
	};
	char desc[128], deep[2 * 40 + 1];

	for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
		snprintf(desc, sizeof(desc), "Device '%s' not found", nowhere[i]);
		rig_refused(*state, "DeviceNotFound", desc, "qom-list", "{'path': '%s'}",
			    nowhere[i]);
		rig_refused(*state, "DeviceNotFound", desc, "qom-get",
			    "{'path': '%s', 'property': 'type'}", nowhere[i]);
		rig_refused(*state, "DeviceNotFound", desc, "qom-set",
			    "{'path': '%s', 'property': 'type', 'value': 1}", nowhere[i]);
	}
	/* Which of several is meant is not told; reading and setting say what QEMU says. */
	rig_refused(*state, "GenericError", "Path 'device[0]' is ambiguous", "qom-list",
		    "{'path': 'device[0]'}");
	rig_refused(*state, "GenericError", "Path '' is ambiguous", "qom-list", "{'path': ''}");
	rig_refused(*state, "DeviceNotFound", "Device 'device[0]' not found", "qom-get",
		    "{'path': 'device[0]', 'property': 'type'}");
	/* Deeper than any tree. */
	for (size_t i = 0; i < 40; i++)
		memcpy(deep + 2 * i, "/x", 3);
	json_decref(rig_ask(*state, "qom-list", "{'path': '%s'}", deep));
}

/* Whatever the text: what is found has a path that leads back to it. */
static void test_random_paths(void **state)
{
	static const char *const pieces[] = {
		"/",       "//",         "machine",        "peripheral", "peripheral-anon",
		"vm0",     "vm1",        "device[0]",      "device[1]",  "virtio-backend",
		"objects", "mem0",       "memdev",         "parent_bus", "unattached",
		"isa.0",   "q35",        "pcie.0",         "chardevs",   "chr1",
		"port0",   "virtio-bus", "memory-backend", "rng",        "\303\244",
	};
	struct vm *vm = rig_vm(*state);
	unsigned int seed = 11, found = 0;

	for (int i = 0; i < 50000; i++) {
		char path[256] = "";
		struct qom_node node, again;
		char *own;

		for (int n = rand_r(&seed) % 9; n >= 0; n--)
			strcat(path, pieces[rand_r(&seed) % ARRAY_SIZE(pieces)]);
		if (qom_resolve(vm, path, &node) != QOM_FOUND)
			continue;
		found++;
		own = qom_path(&node);
		assert_int_equal(qom_resolve(vm, own, &again), QOM_FOUND);
		assert_true(qom_node_equal(&node, &again));
		free(own);
	}
	assert_true(found > 1000);
}

/* ---- setting ---- */

static void test_requested_size_is_set(void **state)
{
	struct rig *rig = *state;

	json_decref(rig_get(rig, "qom-set",
			    "{'path': '/machine/peripheral/vm0', 'property': 'requested-size', "
			    "'value': 134217728}"));
	assert_int_equal(rig_requested(rig, "mem0"), 134217728);
	json_decref(rig_get(rig, "qom-set",
			    "{'path': '/machine/peripheral/vm1/virtio-backend', "
			    "'property': 'requested-size', 'value': 0}"));
	assert_int_equal(rig_requested(rig, "mem1"), 0);
	json_decref(rig_get(rig, "qom-set",
			    "{'path': 'peripheral-anon/device[0]', "
			    "'property': 'requested-size', 'value': 2097152}"));
	assert_int_equal(rig_requested(rig, "mem2"), 2097152);
	assert_int_equal(rig_requested(rig, "mem0"), 134217728);
}

/* What the guest may ask for by itself; the rig's second device has a block that it was granted. */
static void test_request_policy_is_set(void **state)
{
	static const char *const wrong[] = {"-1", "1.5", "true", "null", "'64M'", "[]", NULL};
	struct rig *rig = *state;

	check(rig, "/machine/peripheral/vm0", "granted-size", "0");
	check(rig, "/machine/peripheral/vm1", "granted-size", "2097152");
	json_decref(rig_get(rig, "qom-set",
			    "{'path': 'vm0', 'property': 'request-limit', 'value': 134217728}"));
	json_decref(rig_get(rig, "qom-set",
			    "{'path': 'vm0', 'property': 'request-rate', 'value': 12345}"));
	check(rig, "/machine/peripheral/vm0/virtio-backend", "request-limit", "134217728");
	check(rig, "/machine/peripheral/vm0/virtio-backend", "request-rate", "12345");
	for (size_t i = 0; wrong[i]; i++) {
		rig_refused(rig, "GenericError", "Parameter 'request-limit' expects uint64",
			    "qom-set", "{'path': 'vm0', 'property': 'request-limit', 'value': %s}",
			    wrong[i]);
		rig_refused(rig, "GenericError", "Parameter 'request-rate' expects uint64",
			    "qom-set", "{'path': 'vm0', 'property': 'request-rate', 'value': %s}",
			    wrong[i]);
	}
	rig_refused(rig, "GenericError", "no such limit", "qom-set",
		    "{'path': 'vm0', 'property': 'request-limit', 'value': 1}");
	rig_refused(rig, "GenericError", "Property 'virtio-mem-pci.granted-size' is not writable",
		    "qom-set", "{'path': 'vm0', 'property': 'granted-size', 'value': 0}");
	check(rig, "/machine/peripheral/vm0", "request-limit", "134217728");
}

static void test_wrong_sizes_are_refused(void **state)
{
	static const char *const wrong[] = {"-1", "1.5", "true", "null", "'64M'", "[]", "{}", NULL};

	for (size_t i = 0; wrong[i]; i++)
		rig_refused(*state, "GenericError", "Parameter 'requested-size' expects uint64",
			    "qom-set", "{'path': 'vm0', 'property': 'requested-size', 'value': %s}",
			    wrong[i]);
	rig_refused(*state, "GenericError", "no such size", "qom-set",
		    "{'path': 'vm0', 'property': 'requested-size', 'value': 1}");
	assert_int_equal(rig_requested(*state, "mem0"), 67108864);
}

static void test_all_else_cannot_be_set(void **state)
{
	static const struct {
		const char *path, *property, *desc;
	} cases[] = {
		{"vm0", "x", "Property 'virtio-mem-pci.x' not found"},
		{"/", "x", "Property 'container.x' not found"},
		{"vm0", "type", "Property 'virtio-mem-pci.type' is not writable"},
		{"vm0", "size", "Property 'virtio-mem-pci.size' is not writable"},
		{"vm0", "region-size", "Property 'virtio-mem-pci.region-size' is not writable"},
		{"vm0", "virtio-backend",
		 "Property 'virtio-mem-pci.virtio-backend' is not writable"},
		{"/objects", "mem0", "Property 'container.mem0' is not writable"},
		{"vm0", "realized", "Property 'virtio-mem-pci.realized' is not writable"},
		{"vm0", "block-size",
		 "Attempt to set property 'block-size' on device 'vm0' (type 'virtio-mem-pci') "
		 "after it was realized"},
		{"vm0/virtio-backend", "node",
		 "Attempt to set property 'node' on anonymous device (type 'virtio-mem') after "
		 "it was realized"},
		{"peripheral-anon/device[1]", "period",
		 "Attempt to set property 'period' on anonymous device (type 'virtio-rng-pci') "
		 "after it was realized"},
		{"/objects/mem0", "size",
		 "Property 'memory-backend-ram.size' can no longer be set"},
		{"/objects/rnd0", "filename",
		 "Property 'rng-random.filename' can no longer be set"},
		{"/machine", "mem-merge",
		 "Property 'pc-q35-9.0-machine.mem-merge' can no longer be set"},
		{"/machine", "kernel", "Property 'pc-q35-9.0-machine.kernel' is not writable"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		rig_refused(*state, "GenericError", cases[i].desc, "qom-set",
			    "{'path': '%s', 'property': '%s', 'value': 1}", cases[i].path,
			    cases[i].property);
	}
	rig_refused(*state, "GenericError", "Property 'virtio-mem-pci.x' not found", "qom-get",
		    "{'path': 'vm0', 'property': 'x'}");
}

/* ---- no memory ---- */

static long allocations_left = -1; /* -1: no end of them */
static bool allocations_fail_once;
static unsigned int allocations_failed;

/*
 * While it reads a string jansson 2.14 does not look whether the room for it could grow, to this size at
 * first: it survives that only if there is no memory for what comes next either.
 */
#define ALLOCATION_OF_READER 32u

static void *failing_malloc(size_t size)
{
	if (allocations_left < 0)
		return malloc(size);
	if (allocations_fail_once && allocations_left == 0 && size == ALLOCATION_OF_READER)
		return malloc(size);
	if (allocations_left) {
		allocations_left--;
		return malloc(size);
	}
	allocations_left = allocations_fail_once ? -1 : 0;
	allocations_failed++;
	return NULL;
}

/* Whichever allocation fails, for JSON: the client is answered or dropped, and nothing is lost. */
static void test_json_runs_out_of_memory(void **state)
{
	static const char text[] =
		"{\"execute\": \"qmp_capabilities\"}"
		"{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"/machine\"}}"
		"{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"vm0/memdev\"}}"
		"{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/machine\", "
		"\"property\": \"smp\"}}"
		"{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/chardevs/chr2\", "
		"\"property\": \"addr\"}}"
		"{\"execute\": \"qom-set\", \"arguments\": {\"path\": \"vm0\", "
		"\"property\": \"requested-size\", \"value\": 67108864}}"
		"{\"execute\": \"qom-list-types\", \"arguments\": {\"implements\": \"bus\"}}"
		"{\"execute\": \"device-list-properties\", \"arguments\": "
		"{\"typename\": \"pvpanic\"}}"
		"{\"execute\": \"query-command-line-options\", \"arguments\": "
		"{\"option\": \"memory\"}}";
	static const char lines[] = "qom-set vm0 requested-size 64M\ninfo qom-tree /machine\n"
				    "qom-get mem1 host-nodes\ninfo qtree\n";
	unsigned int failed;

	json_set_alloc_funcs(failing_malloc, free);
	for (int once = 0; once < 2; once++) {
		for (long left = 0;; left += 1 + left / 50) {
			failed = allocations_failed;
			allocations_left = left;
			allocations_fail_once = once;
			rig_visit(*state, text);
			rig_visit_human(*state, lines);
			allocations_left = -1;
			if (allocations_failed == failed)
				break;
		}
	}
	json_set_alloc_funcs(malloc, free);
	assert_true(allocations_failed > 300);
	assert_int_equal(rig_requested(*state, "mem0"), 67108864);
	assert_true(walk(*state, "/") > 300);
}

/* The balloon: both nodes tell the same and take the same. */
static void test_balloon(void **state)
{
	static const char *const nodes[] = {"/machine/peripheral/ball0",
					    "/machine/peripheral/ball0/virtio-backend"};
	struct rig *rig = rig_new("-kernel K -nodefaults -machine pc "
				  "-device virtio-balloon-pci,id=ball0,deflate-on-oom=on");
	char *text;

	(void)state;
	assert_true(walk(rig, "/") > 50);
	check(rig, nodes[0], "type", "'virtio-balloon-pci'");
	check(rig, nodes[1], "type", "'virtio-balloon-device'");
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		static const char name[] = "guest-stats-polling-interval";

		check(rig, nodes[i], "deflate-on-oom", "true");
		check(rig, nodes[i], "guest-stats",
		      "{'last-update': 1234, 'stats': {'stat-free-memory': 4096, "
		      "'stat-major-faults': 9223372036854775807}}");
		json_decref(rig_get(rig, "qom-set", "{'path': '%s', 'property': '%s', 'value': %u}",
				    nodes[i], name, UINT32_MAX - (unsigned int)i));
		check(rig, nodes[!i], name, i ? "4294967294" : "4294967295");
		for (size_t k = 0; k < 4; k++) {
			static const char *const wrong[] = {"-1", "4294967296", "'1'", "true"};

			rig_refused(rig, "GenericError",
				    "Parameter 'guest-stats-polling-interval' expects seconds, "
				    "from 0 to 4294967295",
				    "qom-set", "{'path': '%s', 'property': '%s', 'value': %s}",
				    nodes[i], name, wrong[k]);
		}
		check(rig, nodes[i], name, i ? "4294967294" : "4294967295");
	}
	rig_refused(rig, "GenericError",
		    "Property 'virtio-balloon-pci.guest-stats' is not writable", "qom-set",
		    "{'path': '%s', 'property': 'guest-stats', 'value': 1}", nodes[0]);
	/* People see what stands in one line. */
	text = rig_line(rig, "info qtree");
	assert_non_null(strstr(text, " deflate-on-oom = true\n"));
	assert_null(strstr(text, "guest-stats ="));
	free(text);
	rig_free(rig);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_every_property_can_be_read),
		cmocka_unit_test(test_every_property_of_a_plain_machine),
		cmocka_unit_test(test_balloon),
		T(test_values_are_those_of_the_machine),
		T(test_paths_may_be_written_in_many_ways),
		T(test_paths_that_lead_nowhere),
		T(test_random_paths),
		T(test_requested_size_is_set),
		T(test_request_policy_is_set),
		T(test_wrong_sizes_are_refused),
		T(test_all_else_cannot_be_set),
		T(test_json_runs_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

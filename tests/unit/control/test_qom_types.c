/* SPDX-License-Identifier: BSD-3-Clause */
/* The classes of the object tree, and what programs may ask of them and of the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/control/qom_rig.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/object.h"
#include "vmm/cmdline/params.h"

/* ---- the tables ---- */

static void test_classes_are_sound(void **state)
{
	(void)state;
	for (const struct qom_class *class = qom_classes; class->name; class ++) {
		size_t depth = 0;

		assert_ptr_equal(qom_class_find(class->name), class);
		for (const struct qom_class *c = class; c; c = qom_class_parent(c)) {
			if (c->parent && !qom_class_parent(c))
				fail_msg("%s has no parent %s", c->name, c->parent);
			depth++;
		}
		assert_true(depth <= QOM_DEPTH_MAX);
		assert_true(qom_class_is(class, "object"));
	}
	assert_null(qom_class_find("nope"));
	assert_null(qom_class_find(""));
}

static void test_properties_are_sound(void **state)
{
	(void)state;
	for (const struct qom_class *class = qom_classes; class->name; class ++) {
		struct qom_props props;
		struct qom_prop prop, found;

		qom_props_start(&props, class);
		while (qom_props_next(&props, &prop)) {
			assert_true(qom_prop_find(class, prop.name, &found));
			if (found.row != prop.row || found.line != prop.line)
				fail_msg("%s has two properties %s", class->name, prop.name);
			/* What is only in a row has a value, is a child, or is of an abstract. */
			if (!prop.line && !prop.row->get && strncmp(prop.type, "child<", 6) &&
			    !(class->flags & QOM_ABSTRACT))
				fail_msg("%s.%s has no value", class->name, prop.name);
		}
	}
}

static void test_all_that_can_be_made_has_a_class(void **state)
{
	char name[64];

	(void)state;
	for (const struct device_class *device = device_classes; device->name; device++) {
		assert_non_null(qom_class_find(device->name));
		assert_true(qom_class_is(qom_class_find(device->name), "device"));
	}
	for (const struct object_class *object = object_classes; object->name; object++)
		assert_non_null(qom_class_find(object->name));
	for (const struct cmdline_machine_type *m = cmdline_machine_types; m->name; m++) {
		snprintf(name, sizeof(name), "%s-machine", m->name);
		assert_true(qom_class_is(qom_class_find(name), "machine"));
	}
}

/* ---- qom-list-types ---- */

static const json_t *named(const json_t *list, const char *key, const char *name)
{
	const json_t *item;
	size_t i;

	json_array_foreach (list, i, item) {
		if (!strcmp(json_string_value(json_object_get(item, key)), name))
			return item;
	}
	return NULL;
}

static void test_types_that_programs_look_for(void **state)
{
	static const char *const names[] = {
		"virtio-mem-pci",
		"pcie-root-port",
		"isa-serial",
		"i8042",
		"kvm-accel",
		"virtio-rng-pci-non-transitional",
		"memory-backend-ram",
		"memory-backend-file",
		"memory-backend-memfd",
		"max-x86_64-cpu",
		"host-x86_64-cpu",
		"piix3-usb-uhci",
		"pvpanic",
	};
	json_t *list = rig_get(*state, "qom-list-types", "{}");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!named(list, "name", names[i]))
			fail_msg("%s is not listed", names[i]);
	}
	assert_null(named(list, "name", "device"));
	assert_null(named(list, "name", "tcg-accel"));
	json_decref(list);
}

static void check_types(struct rig *rig, const char *args, size_t count, const char *one)
{
	json_t *list = rig_get(rig, "qom-list-types", "%s", args);

	if (json_array_size(list) != count)
		fail_msg("%s: %zu types", args, json_array_size(list));
	assert_true(!one || named(list, "name", one));
	json_decref(list);
}

static void test_types_by_ancestor(void **state)
{
	size_t all = 0;
	json_t *list;

	while (qom_classes[all].name)
		all++;
	check_types(*state, "{'implements': 'memory-backend'}", 3, "memory-backend-ram");
	check_types(*state, "{'implements': 'memory-backend', 'abstract': true}", 4,
		    "memory-backend");
	check_types(*state, "{'implements': 'memory-backend', 'abstract': false}", 3, NULL);
	check_types(*state, "{'implements': 'virtio-mem-pci'}", 1, "virtio-mem-pci");
	check_types(*state, "{'implements': 'nope'}", 0, NULL);
	check_types(*state, "{'abstract': true}", all, "object");
	check_types(*state, "{'implements': 'object', 'abstract': true}", all, NULL);
	list = rig_get(*state, "qom-list-types", "{'implements': 'x86_64-cpu', 'abstract': true}");
	assert_true(json_is_true(json_object_get(named(list, "name", "x86_64-cpu"), "abstract")));
	assert_null(json_object_get(named(list, "name", "host-x86_64-cpu"), "abstract"));
	assert_string_equal(json_string_value(json_object_get(
				    named(list, "name", "host-x86_64-cpu"), "parent")),
			    "max-x86_64-cpu");
	json_decref(list);
}

/* ---- properties of types ---- */

static void check_property(struct rig *rig, const char *command, const char *class,
			   const char *name, const char *type, const char *defval)
{
	json_t *list = rig_get(rig, command, "{'typename': '%s'}", class);
	const json_t *info = named(list, "name", name);
	const json_t *value = json_object_get(info, "default-value");
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

	if (!info)
		fail_msg("%s: %s has no %s", command, class, name);
	assert_string_equal(json_string_value(json_object_get(info, "type")), type);
	if (defval && (!text || strcmp(text, defval)))
		fail_msg("%s.%s: %s", class, name, text);
	if (!defval && text)
		fail_msg("%s.%s: has a default %s", class, name, text);
	free(text);
	json_decref(list);
}

static void test_properties_of_devices(void **state)
{
	static const char command[] = "device-list-properties";
	static const struct {
		const char *class, *name, *type, *defval;
	} cases[] = {
		{"virtio-mem-pci", "addr", "int32", "-1"},
		{"virtio-mem-pci", "prealloc", "bool", "false"},
		{"virtio-mem-pci", "dynamic-memslots", "bool", "false"},
		{"virtio-mem-pci", "unplugged-inaccessible", "OnOffAuto", "\"auto\""},
		{"virtio-mem-pci", "requested-size", "size", "0"},
		{"virtio-mem-pci", "block-size", "size", NULL},
		{"virtio-mem-pci", "size", "size", NULL},
		{"virtio-mem-pci", "memaddr", "uint64", "0"},
		{"virtio-mem-pci", "node", "uint32", "0"},
		{"virtio-mem-pci", "memdev", "link<memory-backend>", NULL},
		{"virtio-mem-pci", "virtio-backend", "child<virtio-mem>", NULL},
		{"virtio-mem-pci", "disable-legacy", "OnOffAuto", "\"on\""},
		{"virtio-mem-pci", "guard", "bool", "true"},
		{"virtio-mem-pci", "on-violation", "VirtioMemViolationAction", "\"deny\""},
		{"virtio-mem-pci", "guest-requests", "bool", "false"},
		{"virtio-mem-pci", "request-limit", "size", NULL},
		{"virtio-mem-pci", "request-rate", "size", NULL},
		{"virtio-mem-pci", "granted-size", "size", NULL},
		{"virtio-mem", "event_idx", "bool", "true"},
		{"virtio-rng-pci", "max-bytes", "uint64", "9223372036854775807"},
		{"virtio-rng-pci", "period", "uint32", "65536"},
		{"pcie-root-port", "hotplug", "bool", "true"},
		{"pcie-root-port", "port", "uint8", "0"},
		{"isa-serial", "chardev", "str", NULL},
		{"isa-serial", "iobase", "uint32", NULL},
		{"pvpanic", "ioport", "uint16", "1285"},
		{"host-x86_64-cpu", "migratable", "bool", "true"},
	};
	json_t *list;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_property(*state, command, cases[i].class, cases[i].name, cases[i].type,
			       cases[i].defval);
	list = rig_get(*state, command, "{'typename': 'virtio-mem-pci'}");
	assert_null(named(list, "name", "type"));
	assert_null(named(list, "name", "realized"));
	assert_null(named(list, "name", "id"));
	assert_null(named(list, "name", "legacy-addr"));
	json_decref(list);
	/* The transport's are not those of what is behind it. */
	list = rig_get(*state, command, "{'typename': 'virtio-mem'}");
	assert_null(named(list, "name", "addr"));
	assert_null(named(list, "name", "vectors"));
	json_decref(list);
	rig_refused(*state, "DeviceNotFound", "Device 'nope' not found", command,
		    "{'typename': 'nope'}");
	rig_refused(*state, "GenericError",
		    "Parameter 'typename' expects a non-abstract device type", command,
		    "{'typename': 'virtio-pci'}");
	rig_refused(*state, "GenericError",
		    "Parameter 'typename' expects a non-abstract device type", command,
		    "{'typename': 'memory-backend-ram'}");
}

static void test_properties_of_types(void **state)
{
	static const char command[] = "qom-list-properties";
	json_t *list;

	check_property(*state, command, "virtio-mem-pci", "type", "string", NULL);
	check_property(*state, command, "virtio-mem-pci", "realized", "bool", NULL);
	check_property(*state, command, "memory-backend-file", "reserve", "bool", NULL);
	check_property(*state, command, "memory-backend-file", "mem-path", "string", NULL);
	check_property(*state, command, "memory-backend-memfd", "hugetlbsize", "int", NULL);
	check_property(*state, command, "memory-backend", "policy", "HostMemPolicy", NULL);
	check_property(*state, command, "max-x86_64-cpu", "migratable", "bool", NULL);
	check_property(*state, command, "pc-q35-9.0-machine", "hpet", "bool", NULL);
	check_property(*state, command, "secret", "data", "string", NULL);
	/* Programs that ask for what is not there do not survive an error. */
	list = rig_get(*state, command, "{'typename': 'nope'}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	/* What takes no value at all is not there. */
	list = rig_get(*state, command, "{'typename': 'memory-backend-ram'}");
	assert_null(named(list, "name", "prealloc-context"));
	json_decref(list);
}

/* ---- the command line ---- */

static void test_options(void **state)
{
	static const struct {
		const char *option, *param, *type, *defval;
	} cases[] = {
		{"memory", "size", "size", NULL},
		{"memory", "slots", "number", NULL},
		{"memory", "maxmem", "size", NULL},
		{"smp-opts", "cpus", "number", NULL},
		{"machine", "hpet", "boolean", NULL},
		{"machine", "memory-backend", "string", NULL},
		{"machine", "mem-merge", "boolean", "on"},
		{"chardev", "append", "boolean", "off"},
		{"chardev", "server", "boolean", "off"},
		{"chardev", "signal", "boolean", "on"},
		{"chardev", "mux", "boolean", "off"},
		{"mon", "mode", "string", "readline"},
		{"sandbox", "enable", "boolean", "off"},
		{"boot-opts", "strict", "boolean", NULL},
	};
	json_t *list = rig_get(*state, "query-command-line-options", "{}"), *one;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const json_t *option = named(list, "option", cases[i].option);
		const json_t *param =
			named(json_object_get(option, "parameters"), "name", cases[i].param);
		const char *defval = json_string_value(json_object_get(param, "default"));

		if (!param)
			fail_msg("%s has no %s", cases[i].option, cases[i].param);
		assert_string_equal(json_string_value(json_object_get(param, "type")),
				    cases[i].type);
		assert_true(!defval == !cases[i].defval);
		if (defval)
			assert_string_equal(defval, cases[i].defval);
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *params = json_object_get(json_array_get(list, i), "parameters"), *p;
		size_t k;

		json_array_foreach (params, k, p) {
			const char *name = json_string_value(json_object_get(p, "name"));

			assert_string_not_equal(name, "id");
			if (named(params, "name", name) != p)
				fail_msg("%s is there twice", name);
		}
	}
	assert_int_equal(
		json_array_size(json_object_get(named(list, "option", "device"), "parameters")), 0);
	one = rig_get(*state, "query-command-line-options", "{'option': 'memory'}");
	assert_int_equal(json_array_size(one), 1);
	assert_true(json_equal(json_array_get(one, 0), (json_t *)named(list, "option", "memory")));
	json_decref(one);
	json_decref(list);
	rig_refused(*state, "GenericError", "invalid option name: nope",
		    "query-command-line-options", "{'option': 'nope'}");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes_are_sound),
		cmocka_unit_test(test_properties_are_sound),
		cmocka_unit_test(test_all_that_can_be_made_has_a_class),
		T(test_types_that_programs_look_for),
		T(test_types_by_ancestor),
		T(test_properties_of_devices),
		T(test_properties_of_types),
		T(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What people are shown of an answer. Each case gives a row of the real tables an answer of its own
 * and compares, byte for byte, what the human monitor prints; the answer is checked against the
 * types of the tables first, so that it is one that a program could get.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qmp/monitor/hmp.h"
#include "vmm/control/internal.h"

struct layout {
	const struct qmp_module *module;
	const char *name;   /* of the command, for programs */
	const char *line;   /* for people */
	const char *answer; /* JSON, with ' for " */
	const char *text;
};

static json_t *layout_answer(const struct layout *layout)
{
	char *text = strdup(layout->answer);
	json_t *value;

	assert_non_null(text);
	for (char *at = text; (at = strchr(at, '\'')); at++)
		*at = '"';
	value = json_loads(text, JSON_DECODE_ANY, NULL);
	assert_non_null(value);
	free(text);
	return value;
}

static int layout_run(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	(void)args;
	(void)err;
	*ret_value = layout_answer(command_ctx(call));
	return 0;
}

static void layout_printed(void *opaque, const char *output, size_t size)
{
	char **text = opaque;

	*text = strndup(output, size);
}

/* Without the carriage returns of lines that programs get. */
static void layout_plain(char *text)
{
	char *to = text;

	for (; *text; text++)
		if (*text != '\r')
			*to++ = *text;
	*to = '\0';
}

static void layout_check(const struct layout *layout)
{
	/* The module that has the row, and those whose types it uses. */
	const struct qmp_module *modules[] = {NULL, &control_cpus_module, NULL};
	struct command rows[2] = {{.name = NULL}};
	struct qmp_module module = *layout->module;
	struct qmp_config config = {.modules = modules, .prompt = "", .package = ""};
	struct err *err = NULL;
	json_t *answer = layout_answer(layout);
	char *text = NULL;
	struct qmp *qmp;
	uv_loop_t uv;

	for (const struct command *row = module.commands; row->name || row->human; row++)
		if (row->name && !strcmp(row->name, layout->name))
			rows[0] = *row;
	assert_non_null(rows[0].print);
	rows[0].run = layout_run;
	rows[0].human_run = NULL;
	module.commands = rows;
	modules[0] = &module;
	if (layout->module == &control_cpus_module)
		modules[1] = NULL;
	assert_int_equal(uv_loop_init(&uv), 0);
	config.uv = &uv;
	config.ctx = (void *)layout;
	qmp = qmp_new(&config, &err);
	if (!qmp)
		fail_msg("%s", err_message(err));
	if (schema_check(qmp_schema(qmp), layout->name, rows[0].returns, answer, &err))
		fail_msg("%s", err_message(err));
	assert_null(hmp_execute(qmp_human(qmp), layout->line, layout_printed, &text));
	layout_plain(text);
	assert_string_equal(text, layout->text);
	free(text);
	json_decref(answer);
	qmp_free(qmp);
	uv_run(&uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&uv), 0);
}

static const struct layout layouts[] = {
	{
		&control_run_module,
		"query-status",
		"info status",
		"{'running': true, 'singlestep': false, 'status': 'running'}",
		"VM status: running\n",
	},
	{
		&control_run_module,
		"query-status",
		"info status",
		"{'running': false, 'singlestep': false, 'status': 'paused'}",
		"VM status: paused\n",
	},
	{
		&control_run_module,
		"query-status",
		"info status",
		"{'running': false, 'singlestep': false, 'status': 'prelaunch'}",
		"VM status: paused (prelaunch)\n",
	},
	{&control_misc_module, "query-name", "info name", "{'name': 'here'}", "here\n"},
	{&control_misc_module, "query-name", "info name", "{}", ""},
	{
		&control_misc_module,
		"query-uuid",
		"info uuid",
		"{'UUID': '01234567-89ab-cdef-0123-456789abcdef'}",
		"01234567-89ab-cdef-0123-456789abcdef\n",
	},
	{
		&control_misc_module,
		"query-kvm",
		"info kvm",
		"{'enabled': true, 'present': true}",
		"kvm support: enabled\n",
	},
	{
		&control_misc_module,
		"query-iothreads",
		"info iothreads",
		"[{'id': 'io0', 'thread-id': 77, 'poll-max-ns': 1, 'poll-grow': 2, "
		"'poll-shrink': 3, 'aio-max-batch': 4}]",
		"io0:\n  thread_id=77\n  poll-max-ns=1\n  poll-grow=2\n  poll-shrink=3\n"
		"  aio-max-batch=4\n",
	},
	{
		&control_misc_module,
		"query-chardev",
		"info chardev",
		"[{'label': 'p0', 'filename': 'pty:/dev/pts/0', 'frontend-open': true}, "
		"{'label': 'n0', 'filename': 'null', 'frontend-open': false}]",
		"p0: filename=pty:/dev/pts/0\nn0: filename=null\n",
	},
	{
		&control_cpus_module,
		"query-cpus-fast",
		"info cpus",
		"[{'cpu-index': 0, 'qom-path': '/0', 'thread-id': 10, 'target': 'x86_64'}, "
		"{'cpu-index': 1, 'qom-path': '/1', 'thread-id': 11, 'target': 'x86_64'}]",
		"* CPU #0: thread_id=10\n  CPU #1: thread_id=11\n",
	},
	{
		&control_cpus_module,
		"query-hotpluggable-cpus",
		"info hotpluggable-cpus",
		"[{'type': 'T', 'vcpus-count': 1, 'qom-path': '/0', "
		"'props': {'socket-id': 1, 'core-id': 2, 'thread-id': 3, 'node-id': 4}}]",
		"Hotpluggable CPUs:\n  type: \"T\"\n  vcpus_count: \"1\"\n  qom_path: \"/0\"\n"
		"  CPUInstance Properties:\n    node-id: \"4\"\n    socket-id: \"1\"\n"
		"    core-id: \"2\"\n    thread-id: \"3\"\n",
	},
	{
		&control_memory_module,
		"query-memory-size-summary",
		"info memory_size_summary",
		"{'base-memory': 268435456, 'plugged-memory': 2097152}",
		"base memory: 268435456\nplugged memory: 2097152\n",
	},
	{
		&control_memory_module,
		"query-memory-devices",
		"info memory-devices",
		"[{'type': 'virtio-mem', 'data': {'id': 'reg0', 'memaddr': 4294967296, "
		"'node': 1, 'requested-size': 67108864, 'size': 2097152, "
		"'max-size': 1073741824, 'block-size': 2097152, 'memdev': '/objects/m0'}}]",
		"Memory device [virtio-mem]: \"reg0\"\n  memaddr: 0x100000000\n  node: 1\n"
		"  requested-size: 67108864\n  size: 2097152\n  max-size: 1073741824\n"
		"  block-size: 2097152\n  memdev: /objects/m0\n",
	},
	{
		&control_memory_module,
		"query-memdev",
		"info memdev",
		"[{'id': 'm0', 'size': 4096, 'merge': true, 'dump': false, 'prealloc': true, "
		"'share': false, 'reserve': true, 'host-nodes': [0, 1, 3, 70], 'policy': 'bind'}]",
		"memory backend: m0\n  size:  4096\n  merge: true\n  dump: false\n  prealloc: "
		"true\n"
		"  share: false\n  reserve: true\n  policy: bind\n  host nodes: 0-1,3,70\n\n",
	},
	{
		&control_pci_module,
		"query-pci",
		"info pci",
		"[{'bus': 0, 'devices': ["
		"{'bus': 0, 'slot': 0, 'function': 0, 'irq_pin': 0, 'qdev_id': '', 'regions': [], "
		"'class_info': {'class': 1536, 'desc': 'Host bridge'}, "
		"'id': {'vendor': 6966, 'device': 8, 'subsystem-vendor': 6900, 'subsystem': "
		"4352}}, "
		"{'bus': 0, 'slot': 12, 'function': 1, 'irq_pin': 1, 'irq': 11, 'qdev_id': 'p0', "
		"'class_info': {'class': 1540, 'desc': 'PCI bridge'}, "
		"'id': {'vendor': 6966, 'device': 12}, 'regions': [{'bar': 0, 'type': 'memory', "
		"'address': -1, 'size': 4096, 'prefetch': false, 'mem_type_64': false}], "
		"'pci_bridge': {'bus': {'number': 0, 'secondary': 1, 'subordinate': 2, "
		"'io_range': {'base': 61440, 'limit': 4095}, "
		"'memory_range': {'base': 4293918720, 'limit': 1048575}, "
		"'prefetchable_range': {'base': 8589934592, 'limit': 8591048703}}, 'devices': ["
		"{'bus': 1, 'slot': 0, 'function': 0, 'irq_pin': 0, 'qdev_id': 'd0', "
		"'class_info': {'class': 255}, 'id': {'vendor': 6900, 'device': 4184}, "
		"'regions': [{'bar': 4, 'type': 'memory', 'address': 8589934592, 'size': 16384, "
		"'prefetch': true, 'mem_type_64': true}]}]}}]}]",
		"  Bus  0, device   0, function 0:\n    Host bridge: PCI device 1b36:0008\n"
		"      PCI subsystem 1af4:1100\n      id \"\"\n"
		"  Bus  0, device  12, function 1:\n    PCI bridge: PCI device 1b36:000c\n"
		"      IRQ 11, pin A\n      BUS 0.\n      secondary bus 1.\n"
		"      subordinate bus 2.\n      IO range [0xf000, 0x0fff]\n"
		"      memory range [0xfff00000, 0x000fffff]\n"
		"      prefetchable memory range [0x200000000, 0x20010ffff]\n"
		"      BAR0: 32 bit memory at 0xffffffffffffffff [0x00000ffe].\n"
		"      id \"p0\"\n"
		"  Bus  1, device   0, function 0:\n    Class 0255: PCI device 1af4:1058\n"
		"      BAR4: 64 bit prefetchable memory at 0x200000000 [0x200003fff].\n"
		"      id \"d0\"\n",
	},
};

static void test_layouts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		layout_check(&layouts[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

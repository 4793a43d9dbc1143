/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables of all modules together: they make one schema and one human monitor, each row is
 * complete, and the manual page has every word that a person may type.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/control/internal.h"

/* Each row of each module. */
#define FOR_EACH_COMMAND(row)                                                  \
	for (size_t m = 0; control_modules[m]; m++)                            \
		for (const struct command *row = control_modules[m]->commands; \
		     row && (row->name || row->human); row++)

static struct schema *schema;

static int set_up(void **state)
{
	struct err *err = NULL;

	(void)state;
	schema = schema_new(control_modules, &err);
	if (!schema)
		fail_msg("%s", err_message(err));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	schema_free(schema);
	return 0;
}

static void test_rows_are_complete(void **state)
{
	(void)state;
	FOR_EACH_COMMAND(row)
	{
		const char *name = row->name ? row->name : row->human;

		if (!row->help || !*row->help)
			fail_msg("%s has no help", name);
		if (row->name && !row->run)
			fail_msg("%s does nothing for programs", name);
		if (row->human && !row->run && !row->human_run)
			fail_msg("%s does nothing for people", name);
		/* an answer that is never shown would be none for a person */
		if (row->human && row->returns && !row->print && !row->human_run)
			fail_msg("%s shows people nothing", name);
		if (row->print && !row->returns)
			fail_msg("%s shows what it never answers", name);
		if (!row->human_args != !row->params)
			fail_msg("%s: arguments and their help do not fit", name);
		if (row->name && !schema_command(schema, row->name))
			fail_msg("%s is not in the schema", name);
	}
}

/* What programs of QEMU's kind rely on, and what is ours. */
static const char control_command_names[] =
	"add-fd balloon chardev-add chardev-remove closefd device_add device_del getfd object-add "
	"object-del "
	"device-list-properties job-cancel job-dismiss memory-resize qom-get qom-list "
	"qom-list-properties qom-list-types qom-set query-command-line-options query-jobs "
	"query-stats query-stats-schemas query-virtio-mem-blocks virtio-mem-resize "
	"query-fdsets remove-fd cont human-monitor-command query-balloon query-block "
	"query-blockstats query-chardev "
	"query-cpu-definitions query-cpu-model-expansion query-cpus-fast query-current-machine "
	"query-hotpluggable-cpus "
	"query-iothreads query-kvm query-machines query-memdev query-memory-devices "
	"query-memory-size-summary query-name query-named-block-nodes query-pci query-status "
	"inject-nmi query-target query-uuid query-virtio-mem quit set-action stop system_powerdown "
	"system_reset";
static const char control_event_names[] =
	"BALLOON_CHANGE JOB_STATUS_CHANGE DEVICE_DELETED DEVICE_UNPLUG_GUEST_ERROR "
	"GUEST_CRASHLOADED "
	"GUEST_PANICKED "
	"MEMORY_DEVICE_SIZE_CHANGE MEMORY_DEVICE_SIZE_REQUEST MEMORY_DEVICE_VIOLATION "
	"POWERDOWN RESET RESUME SHUTDOWN STOP";

static void test_everything_is_there(void **state)
{
	char *names = strdup(control_command_names), *at = NULL;

	(void)state;
	for (char *name = strtok_r(names, " ", &at); name; name = strtok_r(NULL, " ", &at))
		if (!schema_command(schema, name))
			fail_msg("there is no %s", name);
	free(names);
	names = strdup(control_event_names);
	for (char *name = strtok_r(names, " ", &at); name; name = strtok_r(NULL, " ", &at))
		if (!schema_event(schema, name))
			fail_msg("there is no event %s", name);
	free(names);
}

/* Does the page have @word with no letter of a longer word around it? */
static bool page_has(const char *page, const char *word, size_t size)
{
	for (const char *at = strstr(page, word); at; at = strstr(at + 1, word))
		if (strchr(" \n", at[-1]) && !isalnum((unsigned char)at[size]) &&
		    !strchr("-_", at[size]))
			return true;
	return false;
}

static void test_manual(void **state)
{
	FILE *in = fopen(MANUAL_PATH, "r");
	char *page = NULL, *monitor;
	size_t size = 0;

	(void)state;
	assert_non_null(in);
	assert_true(getdelim(&page, &size, '\0', in) > 0);
	fclose(in);
	monitor = strstr(page, ".Sh MONITOR");
	assert_non_null(monitor);
	*strstr(monitor, ".Sh EXIT STATUS") = '\0';
	FOR_EACH_COMMAND(row)
	{
		/* "info name" or "quit|q": the last word, its first spelling */
		const char *word = row->human ? strrchr(row->human, ' ') : NULL;
		char text[64];

		if (!row->human)
			continue;
		word = word ? word + 1 : row->human;
		snprintf(text, sizeof(text), "%.*s", (int)strcspn(word, "|"), word);
		if (!page_has(monitor, text, strlen(text)))
			fail_msg("the manual page does not tell of '%s'", row->human);
	}
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_are_complete),
		cmocka_unit_test(test_everything_is_there),
		cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

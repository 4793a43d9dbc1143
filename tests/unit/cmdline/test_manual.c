/* SPDX-License-Identifier: BSD-3-Clause */
/* The manual page names every option, object and device, and every key that these take. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmdline/fixture.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/object.h"

static char *page;

static int read_page(void **state)
{
	FILE *in = fopen(MANUAL_PATH, "r");
	size_t size = 0;

	(void)state;
	return in && getdelim(&page, &size, '\0', in) > 0 ? fclose(in) : -1;
}

static int free_page(void **state)
{
	(void)state;
	free(page);
	return 0;
}

/* Is @word on the page with a space before it, and no letter of a longer word behind it? */
static void check_word(const char *kind, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = strstr(page, word); p; p = strstr(p + 1, word)) {
		if (p[-1] == ' ' && !isalnum((unsigned char)p[len]) && p[len] != '-' &&
		    p[len] != '_')
			return;
	}
	fail_msg("the manual page has no %s %s", kind, word);
}

static void check_props(const struct props *table)
{
	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++)
			check_word("key", table->list[i].name);
	}
}

static void test_options(void **state)
{
	char text[64];

	(void)state;
	for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++) {
		if (!o->name)
			continue;
		snprintf(text, sizeof(text), "Fl %s", o->name);
		if (!strcmp(o->name, "h"))
			snprintf(text, sizeof(text), "Fl help , h");
		if (!strstr(page, text))
			fail_msg("the manual page has no option -%s", o->name);
	}
}

static void test_keys(void **state)
{
	(void)state;
	for (const struct object_class *class = object_classes; class->name; class ++) {
		check_word("object", class->name);
		check_props(class->props);
	}
	for (const struct device_class *class = device_classes; class->name; class ++) {
		check_word("device", class->name);
		check_props(class->props);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, read_page, free_page);
}

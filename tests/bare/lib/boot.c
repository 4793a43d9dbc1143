/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loader's information and the command line's words.
 */
#include "boot.h"
#include "console.h"
#include "cpu.h"
#include "power.h"
#include "text.h"

extern uint64_t start_info_gpa;

const struct boot_info *boot_info(void)
{
	return (const struct boot_info *)start_info_gpa;
}

const char *boot_cmdline(void)
{
	uint64_t gpa = boot_info()->cmdline_paddr;

	return gpa == 0 ? "" : (const char *)gpa;
}

const struct boot_memory *boot_memory(uint32_t *ret_count)
{
	*ret_count = boot_info()->version >= 1 ? boot_info()->memmap_entries : 0;
	return (const struct boot_memory *)boot_info()->memmap_paddr;
}

bool boot_is_ram(uint64_t gpa, uint64_t size)
{
	uint32_t count;
	const struct boot_memory *map = boot_memory(&count);

	for (uint32_t i = 0; i < count; i++)
		if (map[i].type == BOOT_MEMORY_RAM && gpa >= map[i].addr &&
		    gpa - map[i].addr < map[i].size && size <= map[i].size - (gpa - map[i].addr))
			return true;
	return false;
}

const char *arg_text(const char *key)
{
	const char *p = boot_cmdline();

	while (*p != '\0') {
		if (text_has_prefix(p, key) && p[strlen(key)] == '=')
			return p + strlen(key) + 1;
		while (*p != '\0' && *p != ' ')
			p++;
		while (*p == ' ')
			p++;
	}
	return NULL;
}

bool arg_is(const char *key, const char *value)
{
	const char *text = arg_text(key);

	return text != NULL && text_has_prefix(text, value) &&
	       (text[strlen(value)] == '\0' || text[strlen(value)] == ' ');
}

uint64_t arg_number(const char *key, uint64_t otherwise)
{
	const char *text = arg_text(key);
	uint64_t value;

	if (text == NULL)
		return otherwise;
	if (!text_number(text, &value)) {
		console_printf("argument %s is not a number\n", key);
		power_die("arguments");
	}
	return value;
}

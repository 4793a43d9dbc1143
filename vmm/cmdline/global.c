/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -global: what management programs set of parts that every PC has and that are not here. The values
 * allowed are those that are true of a machine without them; one says of the root bus of machine pc
 * whether devices come to it. See internal.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "vmm/cmdline/internal.h"

/* What such a part would have; checked, and then forgotten, but for the last. */
struct global_part {
	uint8_t disable_s3, disable_s4;
	bool noreboot;
	bool acpi_root_pci_hotplug;
};

#define FIELD(field) PROP_FIELD(struct global_part, field)
#define TABLE(list)                          \
	{                                    \
		NULL, list, ARRAY_SIZE(list) \
	}

#define NO_S3                                                                            \
	{                                                                                \
		.name = "disable_s3", .type = PROP_UINT, FIELD(disable_s3), .max = 1,    \
		.defval = "1", .refused = "0", .why = "guests cannot suspend to memory", \
		.help = "1: no suspending to memory"                                     \
	}
#define NO_S4                                                                          \
	{                                                                              \
		.name = "disable_s4", .type = PROP_UINT, FIELD(disable_s4), .max = 1,  \
		.defval = "1", .refused = "0", .why = "guests cannot suspend to disk", \
		.help = "1: no suspending to disk"                                     \
	}

static const struct prop ich9_list[] = {
	NO_S3,
	NO_S4,
	{.name = "noreboot",
	 .type = PROP_BOOL,
	 FIELD(noreboot),
	 .defval = "on",
	 .help = "accepted; there is no watchdog that could reset the guest"},
};
const struct props cmdline_ich9_props = TABLE(ich9_list);

static const struct prop piix4_list[] = {
	NO_S3,
	NO_S4,
	{.name = "acpi-root-pci-hotplug",
	 .type = PROP_BOOL,
	 FIELD(acpi_root_pci_hotplug),
	 .defval = "on",
	 .help = "of machine pc: devices come to and go from pci.0 while the guest runs"},
};
const struct props cmdline_piix4_props = TABLE(piix4_list);

static const char *const tick_policies[] = {"discard", "delay", "slew", "merge", NULL};

static const struct prop tick_list[] = {
	{.name = "lost_tick_policy",
	 .type = PROP_ENUM,
	 .names = tick_policies,
	 .defval = "delay",
	 .help = "accepted; no timer ticks are lost"},
};
static const struct props tick_props = TABLE(tick_list);

static const struct props *global_find(const char *name, size_t size)
{
	static const struct {
		const char *name;
		const struct props *props;
	} parts[] = {
		{"ICH9-LPC", &cmdline_ich9_props},
		{"PIIX4_PM", &cmdline_piix4_props},
		{"kvm-pit", &tick_props},
		{"mc146818rtc", &tick_props},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (strlen(parts[i].name) == size && !strncmp(parts[i].name, name, size))
			return parts[i].props;
	}
	return NULL;
}

int cmdline_global(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	size_t dot = strcspn(arg, "."), equals = strcspn(arg, "=");
	const struct props *props = global_find(arg, dot);
	char what[CMDLINE_WHAT_MAX], key[32];
	struct global_part part = {.acpi_root_pci_hotplug = !cl->machine.root_fixed};
	json_t *value;
	int ret;

	if (!arg[equals] || dot > equals)
		return err_set(err, EINVAL, "%s: '%s' sets nothing; allowed: DRIVER.PROPERTY=VALUE",
			       option, arg);
	if (!props || equals - dot - 1 >= sizeof(key))
		return err_set(err, EINVAL,
			       "%s: '%s' is not there to be set; properties are set with -device",
			       option, arg);
	snprintf(what, sizeof(what), "%s %.*s", option, (int)dot, arg);
	snprintf(key, sizeof(key), "%.*s", (int)(equals - dot - 1), arg + dot + 1);
	value = json_string_nocheck(arg + equals + 1);
	if (!value)
		return cmdline_oom(err);
	ret = props_set(props, what, key, value, &part, err);
	json_decref(value);
	cl->machine.root_fixed = !part.acpi_root_pci_hotplug;
	return ret;
}

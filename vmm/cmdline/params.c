/* SPDX-License-Identifier: BSD-3-Clause */
/* What options take: see params.h. */
#include "vmm/cmdline/params.h"

#include "vmm/cmdline/internal.h"

const struct cmdline_params cmdline_params[] = {
	{"accel", {&cmdline_accel_props}},
	{"action", {&cmdline_action_props}},
	{"add-fd", {&cmdline_fd_props}},
	{"boot-opts", {&cmdline_boot_props}},
	{"chardev", {&cmdline_file_props, &cmdline_socket_props, &cmdline_stdio_props}},
	{"device", {NULL}},
	{"global", {NULL}},
	{"machine", {&cmdline_machine_props}},
	{"memory", {&cmdline_memory_props}},
	{"mon", {&cmdline_mon_props}},
	{"msg", {&cmdline_msg_props}},
	{"name", {&cmdline_name_props}},
	{"net", {NULL}},
	{"nic", {NULL}},
	{"numa", {NULL}},
	{"object", {NULL}},
	{"overcommit", {&cmdline_overcommit_props}},
	{"rtc", {&cmdline_rtc_props}},
	{"sandbox", {&cmdline_sandbox_props}},
	{"smbios", {NULL}},
	{"smp-opts", {&cmdline_smp_props}},
	{NULL, {NULL}},
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* The human monitor's command table; a handler's ctx is the struct vm. */
#ifndef VMM_CONTROL_COMMANDS_H
#define VMM_CONTROL_COMMANDS_H

#include "qmp/monitor/hmp.h"

extern const struct hmp_command control_commands[];
/* The sub-commands of "info". */
extern const struct hmp_command control_info_commands[];

/* Offer the ids of memory devices. */
void control_complete_memory_device(void *ctx, unsigned int index, struct hmp_words *words);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that QEMU has and this program has not: what is said to who sends one, which is often a
 * management program that shows it to a person. See internal.h.
 */
#include "base/num.h"
#include "qmp/words.h"
#include "vmm/control/internal.h"

/* A word stands for all names that begin with it. */
static const struct {
	const char *words, *reason;
} missing_commands[] = {
	{"block drive- nbd- eject blockdev- query-named-block query-block change- x-blockdev "
	 "transaction snapshot- savevm loadvm delvm query-bitmap",
	 "there are no disks in this version"},
	{"netdev_ set_link query-rx-filter query-vnet", "there is no network in this version"},
	{"screendump set_password expire_password change-vnc query-vnc query-spice client_migrate "
	 "display- add_client query-display",
	 "there is no display in this version"},
	{"send-key input-send-event query-mice",
	 "there are no keyboards and pointers in this version; the serial console takes input"},
	{"system_wakeup", "guests cannot suspend to memory"},
	{"watchdog-set-action",
	 "there is no watchdog in this version; set-action has what follows"},
	{"query-tpm", "there is no TPM in this version"},
	{"query-sev sev- query-sgx", "guests' memory is not encrypted in this version"},
};

const char *control_missing_reason(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(missing_commands); i++) {
		if (words_match(missing_commands[i].words, name))
			return missing_commands[i].reason;
	}
	return NULL;
}

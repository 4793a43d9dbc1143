/* SPDX-License-Identifier: BSD-3-Clause */
/* The monitors of a machine: see control.h. */
#include "vmm/control/control.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "qmp/monitor/hmp.h"
#include "vmm/chardev/monitor.h"
#include "vmm/control/commands.h"
#include "vmm/vm/vm.h"

struct control {
	struct hmp *hmp;
	struct chr_monitor **monitors;
	size_t nr_monitors;
};

struct control *control_new(struct vm *vm, struct err **err)
{
	const struct vm_config *config = vm_config(vm);
	const struct hmp_config hmp = {
		.commands = control_commands,
		.banner = "ebb " EBB_VERSION " monitor - type 'help' for more information",
		/* Scripts that drive this kind of monitor wait for this very prompt. */
		.prompt = "(qemu) ",
		.ctx = vm,
	};
	struct control *control = calloc(1, sizeof(*control));

	if (control) {
		control->hmp = hmp_new(&hmp);
		control->monitors = calloc(config->nr_monitors + 1, sizeof(*control->monitors));
	}
	if (!control || !control->hmp || !control->monitors) {
		control_free(control);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	for (size_t i = 0; i < config->nr_monitors; i++) {
		struct chardev *chr = vm_chardev(vm, config->monitors[i]->chardev);

		if (config->monitors[i]->mode == VM_MONITOR_READLINE)
			control->monitors[i] = chr_monitor_new(chr, control->hmp, err);
		else
			err_set(err, ENOTSUP, "-mon: only mode=readline can be opened yet");
		if (!control->monitors[i]) {
			control_free(control);
			return NULL;
		}
		control->nr_monitors++;
	}
	return control;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < control->nr_monitors; i++)
		chr_monitor_free(control->monitors[i]);
	free(control->monitors);
	hmp_free(control->hmp);
	free(control);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The monitors of a machine: see control.h. Here the modules are listed and tied together. */
#include "vmm/control/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "vmm/chardev/monitor.h"
#include "vmm/control/dump.h"
#include "vmm/control/metrics.h"
#include "vmm/control/resize.h"
#include "vmm/core/loop.h"

/* Of the QEMU whose commands and answers are followed here. */
#define CONTROL_QEMU_MAJOR 7
#define CONTROL_QEMU_MINOR 2
#define CONTROL_QEMU_MICRO 0

const struct qmp_module *const control_modules[] = {
	&control_run_module,
	&control_cpus_module,
	&control_cpu_models_module,
	&control_memory_module,
	&control_virtio_mem_module,
	&control_balloon_module,
	&control_pci_module,
	&control_misc_module,
	&control_objects_module,
	&control_devices_module,
	&control_jobs_module,
	&control_resize_module,
	&control_migrate_module,
	&control_migrate_info_module,
	&control_migrate_params_module,
	&control_dirty_rate_module,
	&control_dump_module,
	&control_stats_module,
	&control_qom_module,
	NULL,
};

void control_emit(struct control *control, const char *name, json_t *data)
{
	if (data)
		qmp_emit(control->qmp, name, data);
}

void control_emit_now(struct control *control, const char *name, json_t *data)
{
	if (data)
		qmp_emit_now(control->qmp, name, data);
}

static void control_event(void *opaque, const struct vm_event *event)
{
	struct control *control = opaque;

	control_run_event(control, event);
	control_devices_event(control, event);
	control_virtio_mem_event(control, event);
	control_balloon_event(control, event);
	control_resize_event(control, event);
}

static int control_start_qmp(struct control *control, struct err **err)
{
	const struct qmp_config config = {
		.modules = control_modules,
		.uv = loop_uv(control->main),
		.ctx = control,
		.major = CONTROL_QEMU_MAJOR,
		.minor = CONTROL_QEMU_MINOR,
		.micro = CONTROL_QEMU_MICRO,
		.package = "ebb " EBB_VERSION,
		.banner = "ebb " EBB_VERSION " monitor - type 'help' for more information",
		/* Scripts that drive this kind of monitor wait for this very prompt. */
		.prompt = "(qemu) ",
		.bare = vm_config(control->vm)->machine.type == VM_MACHINE_NONE
				? "there is no machine (-machine none): monitors tell what ebb can "
				  "do, and no more"
				: NULL,
		.missing = control_missing_reason,
	};

	control->qmp = qmp_new(&config, err);
	return control->qmp ? 0 : -EIO;
}

static struct chr_monitor *control_open_monitor(struct control *control,
						const struct vm_monitor_config *config,
						struct err **err)
{
	struct chardev *chr = vm_chardev(control->vm, config->chardev);

	if (config->mode == VM_MONITOR_CONTROL)
		return chr_monitor_new_control(chr, control->qmp, config->pretty, err);
	return chr_monitor_new(chr, qmp_human(control->qmp), err);
}

static int control_open_monitors(struct control *control, struct err **err)
{
	const struct vm_config *config = vm_config(control->vm);

	control->monitors = calloc(config->nr_monitors + 1, sizeof(*control->monitors));
	if (!control->monitors)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < config->nr_monitors; i++) {
		control->monitors[i] = control_open_monitor(control, config->monitors[i], err);
		if (!control->monitors[i])
			return -EIO;
		control->nr_monitors++;
	}
	return 0;
}

/* Parts in the order in which control_free() ends them the other way round. */
static int control_start(struct control *control, struct migration *migration, struct err **err)
{
	int ret = control_run_init(control, err);

	if (!ret)
		ret = control_start_qmp(control, err);
	if (!ret)
		ret = control_resize_init(control, err);
	if (!ret)
		ret = control_migrate_init(control, migration, err);
	if (!ret)
		ret = control_dump_init(control, err);
	if (!ret)
		ret = control_metrics_init(control, err);
	if (!ret)
		ret = control_open_monitors(control, err);
	return ret;
}

struct control *control_new(struct vm *vm, struct migration *migration, struct loop *main,
			    struct err **err)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	control->vm = vm;
	control->main = main;
	if (control_start(control, migration, err)) {
		control_free(control);
		return NULL;
	}
	vm_set_event_hook(vm, control_event, control);
	return control;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	vm_set_event_hook(control->vm, NULL, NULL);
	for (size_t i = 0; i < control->nr_monitors; i++)
		chr_monitor_free(control->monitors[i]);
	free(control->monitors);
	control_metrics_done(control);
	control_dump_done(control);
	control_migrate_done(control);
	control_resize_done(control);
	qmp_free(control->qmp);
	control_run_done(control);
	free(control);
}

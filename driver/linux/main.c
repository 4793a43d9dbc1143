// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The module: its parameters, and the devices that it drives, from probe to remove.
 *
 * What an earlier load of this module, or the kernel's own driver, left in use is found and taken over;
 * what a kernel before this one (kexec) left plugged is unplugged.
 *
 * A machine does not go to sleep with such a device: what its memory holds could be lost, and the
 * device's requests cannot be made while the machine sleeps.
 */
#include <linux/log2.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/vmalloc.h>

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

/* Nothing is added while so much waits for somebody to bring it into use, or two units. */
#define EBB_MEM_OFFLINE_MAX_BYTES SZ_1G

bool ebb_mem_unplug_online = true;
module_param_named(unplug_online, ebb_mem_unplug_online, bool, 0644);
MODULE_PARM_DESC(unplug_online, "give memory back that is online (default: yes)");

bool ebb_mem_memmap_on_memory = true;
module_param_named(memmap_on_memory, ebb_mem_memmap_on_memory, bool, 0444);
MODULE_PARM_DESC(memmap_on_memory, "memory holds its own struct pages where the kernel was started "
				   "with memory_hotplug.memmap_on_memory=1 (default: yes)");

bool ebb_mem_size_requests;
module_param_named(size_requests, ebb_mem_size_requests, bool, 0444);
MODULE_PARM_DESC(size_requests, "ask the device for memory, and offer it (default: no)");

/* With less, nothing that is in use could be given back; with more, the header's I3 says nothing. */
#define EBB_MEM_MOVE_MIN_MS 10
#define EBB_MEM_MOVE_MAX_MS 3600000

static int move_ms_set(const char *text, const struct kernel_param *param)
{
	return param_set_uint_minmax(text, param, EBB_MEM_MOVE_MIN_MS, EBB_MEM_MOVE_MAX_MS);
}

static const struct kernel_param_ops move_ms_ops = {.set = move_ms_set, .get = param_get_uint};

unsigned int ebb_mem_move_ms = 10000;
module_param_cb(move_ms, &move_ms_ops, &ebb_mem_move_ms, 0644);
MODULE_PARM_DESC(move_ms, "milliseconds that moving pages out of one piece of memory may take, "
			  "10 to 3600000 (default: 10000)");

static void note(void *os, const struct vmem_driver_note *what)
{
	struct device *dev = &((struct ebb_mem *)os)->vdev->dev;
	u64 mib = what->size / SZ_1M;

	switch (what->kind) {
	case VMEM_DRIVER_NOTE_STARTED:
		dev_info(dev, "started with %llu MiB plugged\n", mib);
		break;
	case VMEM_DRIVER_NOTE_UNPLUG_ALL:
		dev_info(dev, "unplugged the %llu MiB of an earlier kernel\n", mib);
		break;
	case VMEM_DRIVER_NOTE_REQUESTED:
		dev_info(dev, "%llu MiB are requested\n", mib);
		break;
	case VMEM_DRIVER_NOTE_UNUSABLE:
		dev_warn(dev, "%#llx to %#llx cannot be used\n", what->addr,
			 what->addr + what->size - 1);
		break;
	case VMEM_DRIVER_NOTE_ADD_FAILED:
		dev_warn_ratelimited(dev, "%#llx to %#llx could not be added (%d)\n", what->addr,
				     what->addr + what->size - 1, what->result);
		break;
	case VMEM_DRIVER_NOTE_REFUSED:
		dev_warn_ratelimited(dev,
				     "request %u for %#llx to %#llx is an error, says the device\n",
				     what->request, what->addr, what->addr + what->size - 1);
		break;
	case VMEM_DRIVER_NOTE_BAD_CONFIG:
		dev_err(dev, "the device's configuration is not valid: it is left alone\n");
		break;
	case VMEM_DRIVER_NOTE_GONE:
		dev_err(dev, "the device does not answer any more: memory in use stays so\n");
		break;
	default:
		dev_dbg(dev, "%s: %#llx, %#llx, %d\n", vmem_driver_note_name(what->kind),
			what->addr, what->size, what->result);
		break;
	}
}

static const struct vmem_driver_ops ops = {
	.config_read = ebb_mem_config_read,
	.submit = ebb_mem_submit,
	.submit_size = ebb_mem_submit_size,
	.add = ebb_mem_add,
	.remove = ebb_mem_remove,
	.take = ebb_mem_take,
	.give = ebb_mem_give,
	.used = ebb_mem_used,
	.note = note,
};

/* What Linux adds, takes and gives at a time, for a device with such blocks. */
static int choose_sizes(struct ebb_mem *mem, const struct vmem_config *device)
{
	struct range usable = mhp_get_pluggable_range(true);

	mem->addr = le64_to_cpu((__force __le64)device->addr);
	mem->region_size = le64_to_cpu((__force __le64)device->region_size);
	mem->block_size = le64_to_cpu((__force __le64)device->block_size);
	if (!is_power_of_2(mem->block_size) || mem->addr + mem->region_size < mem->addr) {
		dev_err(&mem->vdev->dev, "the device's block_size or region is not valid\n");
		return -EINVAL;
	}
	if (mem->addr > usable.end) {
		dev_err(&mem->vdev->dev, "the device's region, at %#llx, is beyond all addresses\n",
			mem->addr);
		return -ERANGE;
	}
	/* What is looked through block by block has an end that the device does not choose. */
	mem->end = min(mem->addr + mem->region_size, usable.end + 1);
	mem->memory_block_bytes = memory_block_size_bytes();
	mem->unit_bytes = max(mem->block_size, mem->memory_block_bytes);
	mem->chunk_bytes = max_t(u64, mem->block_size, PFN_PHYS(pageblock_nr_pages));
	return 0;
}

static int core_open(struct ebb_mem *mem, const struct vmem_config *device)
{
	struct range usable = mhp_get_pluggable_range(true);
	struct vmem_driver_config config = {
		.unit_bytes = mem->unit_bytes,
		.chunk_bytes = mem->chunk_bytes,
		.run_max_bytes = ebb_mem_run_max_bytes(mem),
		.addr_min = usable.start,
		.addr_max = usable.end,
		.offline_max_bytes = max_t(u64, EBB_MEM_OFFLINE_MAX_BYTES, 2 * mem->unit_bytes),
		.resume = ebb_mem_is_any_there(mem),
		.query_only = is_kdump_kernel(),
		.size_policy = mem->pressure.policy,
	};
	size_t bytes = vmem_driver_arena_bytes(&config, device);
	struct vmem_driver_ops *wanted = &mem->ops;

	*wanted = ops;
	if (!virtio_has_feature(mem->vdev, VMEM_F_SIZE_REQUEST))
		wanted->submit_size = NULL;
	if (bytes == 0) {
		dev_err(&mem->vdev->dev, "the device's configuration is not valid\n");
		return -EINVAL;
	}
	mem->arena = kvzalloc(bytes, GFP_KERNEL);
	if (!mem->arena)
		return -ENOMEM;
	if (vmem_driver_init(mem->arena, bytes, &config, wanted, mem, &mem->drv) !=
	    VMEM_DRIVER_OK) {
		kvfree(mem->arena);
		return -EINVAL;
	}
	ebb_mem_publish(mem);
	return 0;
}

/* What Linux has already; before the worker's first run. */
static void tell_all(struct ebb_mem *mem)
{
	u64 unit = ALIGN_DOWN(mem->addr, mem->unit_bytes);

	mutex_lock(&mem->lock);
	for (; unit < mem->end; unit += mem->unit_bytes)
		ebb_mem_tell_unit(mem, unit);
	clear_bit(EBB_MEM_OPENING, &mem->flags);
	mutex_unlock(&mem->lock);
}

static int on_sleep(struct notifier_block *nb, unsigned long event, void *unused)
{
	struct ebb_mem *mem = container_of(nb, struct ebb_mem, pm_nb);

	if (event != PM_SUSPEND_PREPARE && event != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	dev_err(&mem->vdev->dev, "a machine with this device cannot be suspended\n");
	return notifier_from_errno(-EPERM);
}

/* Everything but the device's queues and the struct itself. */
static int drive_open(struct ebb_mem *mem, const struct vmem_config *device)
{
	u16 node_id = le16_to_cpu((__force __le16)device->node_id);
	int error = ebb_mem_memory_open(mem, node_id);

	if (error)
		return error;
	error = core_open(mem, device);
	if (error)
		goto close_memory;
	error = ebb_mem_notify_open(mem);
	if (error)
		goto free_core;
	error = ebb_mem_pressure_open(mem);
	if (error)
		goto close_notify;
	mem->pm_nb.notifier_call = on_sleep;
	error = register_pm_notifier(&mem->pm_nb);
	if (error)
		goto close_pressure;
	virtio_device_ready(mem->vdev);
	tell_all(mem);
	error = ebb_mem_worker_start(mem);
	if (error)
		goto close_pm;
	return 0;
close_pm:
	unregister_pm_notifier(&mem->pm_nb);
close_pressure:
	ebb_mem_pressure_close(mem);
close_notify:
	ebb_mem_notify_close(mem);
free_core:
	kvfree(mem->arena);
close_memory:
	ebb_mem_memory_close(mem);
	return error;
}

static int dump_open(struct ebb_mem *mem, const struct vmem_config *device)
{
	int error = core_open(mem, device);

	if (error)
		return error;
	virtio_device_ready(mem->vdev);
	error = ebb_mem_dump_open(mem);
	if (error)
		kvfree(mem->arena);
	return error;
}

static int probe(struct virtio_device *vdev)
{
	struct vmem_config device;
	struct ebb_mem *mem;
	int error;

	mem = kzalloc(sizeof(*mem), GFP_KERNEL);
	if (!mem)
		return -ENOMEM;
	mem->vdev = vdev;
	vdev->priv = mem;
	mutex_init(&mem->lock);
	spin_lock_init(&mem->info_lock);
	init_waitqueue_head(&mem->answered);
	ebb_mem_worker_init(mem);
	set_bit(EBB_MEM_OPENING, &mem->flags);
	error = ebb_mem_queues_open(mem);
	if (error)
		goto free_mem;
	error = -EIO;
	if (ebb_mem_config_read(mem, &device) != VMEM_DRIVER_OK)
		goto close_queues;
	error = choose_sizes(mem, &device);
	if (error)
		goto close_queues;
	ebb_mem_pressure_defaults(mem);
	error = is_kdump_kernel() ? dump_open(mem, &device) : drive_open(mem, &device);
	if (error)
		goto close_queues;
	return 0;
close_queues:
	virtio_reset_device(vdev);
	vdev->config->del_vqs(vdev);
free_mem:
	kfree(mem);
	vdev->priv = NULL;
	return error;
}

static void drive_close(struct ebb_mem *mem)
{
	unregister_pm_notifier(&mem->pm_nb);
	ebb_mem_pressure_close(mem);
	ebb_mem_worker_stop(mem);
	ebb_mem_notify_close(mem);
	ebb_mem_memory_close(mem);
}

static void remove(struct virtio_device *vdev)
{
	struct ebb_mem *mem = vdev->priv;

	if (is_kdump_kernel())
		ebb_mem_dump_close(mem);
	else
		drive_close(mem);
	virtio_reset_device(vdev);
	vdev->config->del_vqs(vdev);
	kvfree(mem->arena);
	kfree(mem);
	vdev->priv = NULL;
}

static void config_changed(struct virtio_device *vdev)
{
	struct ebb_mem *mem = vdev->priv;

	if (is_kdump_kernel())
		return;
	vmem_driver_config_changed(mem->drv);
	ebb_mem_kick(mem);
	/* Another size may make it needless to go on moving pages. */
	mod_timer_pending(&mem->watchdog, jiffies);
}

/* VIRTIO 1.3, 6.1: all fields are little-endian with this feature alone. */
static int validate(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "the device does not keep to VIRTIO 1.0 or later\n");
		return -ENODEV;
	}
	if (!ebb_mem_size_requests || is_kdump_kernel())
		__virtio_clear_bit(vdev, VMEM_F_SIZE_REQUEST);
	return 0;
}

#ifdef CONFIG_PM_SLEEP
static int freeze(struct virtio_device *vdev)
{
	return -EPERM;
}

static int restore(struct virtio_device *vdev)
{
	return -EPERM;
}
#endif

static const unsigned int features[] = {
#if IS_ENABLED(CONFIG_NUMA) && IS_ENABLED(CONFIG_ACPI_NUMA)
	VMEM_F_ACPI_PXM,
#endif
	VMEM_F_UNPLUGGED_INACCESSIBLE,
	VMEM_F_SIZE_REQUEST,
};

static const struct virtio_device_id ids[] = {
	{VIRTIO_ID_MEM, VIRTIO_DEV_ANY_ID},
	{0},
};
MODULE_DEVICE_TABLE(virtio, ids);

static struct virtio_driver ebb_mem_driver = {
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.driver.dev_groups = ebb_mem_groups,
	.id_table = ids,
	.validate = validate,
	.probe = probe,
	.remove = remove,
	.config_changed = config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = freeze,
	.restore = restore,
#endif
};
module_virtio_driver(ebb_mem_driver);

MODULE_DESCRIPTION("Memory that comes and goes: virtio-mem devices");
MODULE_VERSION(EBB_MEM_VERSION);
MODULE_LICENSE("Dual BSD/GPL");

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The module's begin and end: which devices it drives.
 */
#include <linux/module.h>
#include <linux/virtio.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_config.h>
#include <vmem/driver.h>

static const struct virtio_device_id ebb_mem_ids[] = {
	{ VIRTIO_ID_MEM, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, ebb_mem_ids);

static int ebb_mem_probe(struct virtio_device *vdev)
{
	virtio_device_ready(vdev);
	return 0;
}

static void ebb_mem_remove(struct virtio_device *vdev)
{
	virtio_reset_device(vdev);
}

static struct virtio_driver ebb_mem_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = ebb_mem_ids,
	.probe = ebb_mem_probe,
	.remove = ebb_mem_remove,
};
module_virtio_driver(ebb_mem_driver);

MODULE_DESCRIPTION("Memory that comes and goes: virtio-mem devices");
MODULE_VERSION(EBB_MEM_VERSION);
MODULE_LICENSE("Dual BSD/GPL");

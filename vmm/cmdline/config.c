/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a configuration: see config.h. */
#include <stdlib.h>

#include "vmm/cmdline/device.h"
#include "vmm/cmdline/internal.h"

void vm_chardev_config_done(struct vm_chardev_config *chardev)
{
	free(chardev->id);
	free(chardev->path);
	free(chardev->host);
	free(chardev->port);
	free(chardev->fd_name);
	free(chardev->logfile);
}

void vm_memdev_config_free(struct vm_memdev_config *memdev)
{
	free(memdev->id);
	free(memdev->mem_path);
	free(memdev);
}

void vm_rng_backend_config_free(struct vm_rng_backend_config *rng)
{
	free(rng->id);
	free(rng->filename);
	free(rng);
}

void vm_iothread_config_free(struct vm_iothread_config *iothread)
{
	free(iothread->id);
	free(iothread);
}

void vm_secret_config_free(struct vm_secret_config *secret)
{
	free(secret->id);
	free(secret);
}

void vm_chardev_config_free(struct vm_chardev_config *chardev)
{
	vm_chardev_config_done(chardev);
	free(chardev);
}

void vm_device_config_free(struct vm_device_config *device)
{
	device_config_done(device);
	free(device);
}

static void config_free_objects(struct vm_config *config)
{
	for (size_t i = 0; i < config->nr_memdevs; i++)
		vm_memdev_config_free(config->memdevs[i]);
	free(config->memdevs);
	for (size_t i = 0; i < config->nr_rngs; i++)
		vm_rng_backend_config_free(config->rngs[i]);
	free(config->rngs);
	for (size_t i = 0; i < config->nr_iothreads; i++)
		vm_iothread_config_free(config->iothreads[i]);
	free(config->iothreads);
	for (size_t i = 0; i < config->nr_secrets; i++)
		vm_secret_config_free(config->secrets[i]);
	free(config->secrets);
}

static void config_free_devices(struct vm_config *config)
{
	for (size_t i = 0; i < config->nr_devices; i++)
		vm_device_config_free(config->devices[i]);
	free(config->devices);
	for (size_t i = 0; i < config->nr_chardevs; i++)
		vm_chardev_config_free(config->chardevs[i]);
	free(config->chardevs);
	for (size_t i = 0; i < config->nr_monitors; i++) {
		free(config->monitors[i]->id);
		free(config->monitors[i]->chardev_id);
		free(config->monitors[i]);
	}
	free(config->monitors);
	for (size_t i = 0; i < config->nr_fds; i++)
		free(config->fds[i].opaque);
	free(config->fds);
}

void vm_config_free(struct vm_config *config)
{
	if (!config)
		return;
	free(config->output);
	free(config->machine.memory_backend);
	cmdline_cpu_done(&config->cpu);
	for (size_t i = 0; i < VM_NUMA_NODES_MAX; i++)
		free(config->numa.nodes[i].memdev_id);
	config_free_objects(config);
	config_free_devices(config);
	free(config->kernel);
	free(config->initrd);
	free(config->append);
	free(config->name);
	free(config->process);
	free(config->incoming);
	free(config->pidfile);
	free(config->metrics_path);
	cmdline_smbios_done(&config->smbios);
	free(config);
}

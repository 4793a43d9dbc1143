/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's ACPI tables and boot files, and bringing it to its first instruction. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/isa/power.h"
#include "vmm/isa/rtc.h"
#include "vmm/isa/serial.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/platform.h"
#include "vmm/pci/pci.h"
#include "vmm/vm/vm_internal.h"

#define KERNEL_MAGIC_OFFSET 0x202 /* of "HdrS" in a bzImage (Linux boot protocol) */

static unsigned int vm_cpu_node(const struct vm *vm, unsigned int cpu)
{
	for (unsigned int i = 0; i < vm->config->numa.nr_nodes; i++)
		if (vm->config->numa.nodes[i].cpus >> cpu & 1)
			return i;
	return 0;
}

int vm_build_acpi(struct vm *vm, struct err **err)
{
	const struct vm_config *c = vm->config;
	const struct cpuid_topology topology = vm_cpu_topology(vm);
	unsigned int nr_nodes = c->numa.nr_nodes;
	uint8_t *distances = calloc(nr_nodes, nr_nodes);
	struct acpi_cpu cpus[VM_CPUS_MAX];
	struct acpi_image image;
	struct acpi_config acpi = {
		.layout = vm->layout,
		.cpus = cpus,
		.nr_cpus = c->smp.cpus,
		.pci_slots = pci_root_slots(vm->pci),
	};
	int ret;

	if (!distances)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < c->smp.cpus; i++)
		cpus[i] = (struct acpi_cpu){cpuid_apic_id(&topology, i), vm_cpu_node(vm, i)};
	for (unsigned int i = 0; i < nr_nodes; i++)
		memcpy(distances + (size_t)i * nr_nodes, c->numa.dist[i], nr_nodes);
	if (c->numa.dist_given)
		acpi.distances = distances;
	for (size_t i = 0; i < c->nr_devices; i++) {
		const struct vm_device_config *d = c->devices[i];

		if (d->type == VM_DEVICE_ISA_SERIAL)
			acpi.serial[d->isa_serial.index] = (struct acpi_serial){
				.present = true,
				.port = d->isa_serial.iobase,
				.gsi = d->isa_serial.irq,
			};
		else if (d->type == VM_DEVICE_PVPANIC)
			acpi.pvpanic_port = d->pvpanic.ioport;
	}
	ret = acpi_image_build(&acpi, &image, err);
	free(distances);
	if (ret)
		return ret;
	acpi_image_done(&vm->acpi);
	vm->acpi = image;
	return 0;
}

int vm_build_smbios(struct vm *vm, struct err **err)
{
	const struct smbios_config smbios = {.config = vm->config, .layout = vm->layout};

	return smbios_image_build(&smbios, &vm->smbios, err);
}

static int vm_open(const char *option, const char *path, int *ret_fd, struct err **err)
{
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*ret_fd < 0)
		return err_set(err, errno, "%s '%s': %s", option, path, strerror(errno));
	return 0;
}

/* A stock kernel on a KVM that interprets guest code would stop at once, so say it before. */
static int vm_check_kernel(const struct vm *vm, struct err **err)
{
	char magic[4];

	if (kvm_host_has_virtualization() ||
	    pread(vm->kernel_fd, magic, sizeof(magic), KERNEL_MAGIC_OFFSET) != sizeof(magic) ||
	    memcmp(magic, "HdrS", sizeof(magic)) != 0)
		return 0;
	return err_set(
		err, ENOTSUP,
		"-kernel '%s': this host's KVM cannot run a stock kernel, because its CPU has "
		"neither AMD-V (svm) nor VT-x (vmx); it runs small PVH guests only",
		vm->config->kernel);
}

int vm_build_boot(struct vm *vm, struct err **err)
{
	int ret = vm_open("-kernel", vm->config->kernel, &vm->kernel_fd, err);

	if (!ret && vm->config->initrd)
		ret = vm_open("-initrd", vm->config->initrd, &vm->initrd_fd, err);
	if (!ret)
		ret = vm_check_kernel(vm, err);
	return ret;
}

static void vm_boot_apply(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	boot_cpu_apply(opaque, regs, sregs);
}

static void vm_reset_devices(struct vm *vm)
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->serial)
			serial_reset(vm->devices[i]->serial);
	power_reset(vm->power);
	rtc_reset(vm->rtc);
	/* Virtio devices are reset by their place on the bus. */
	pci_host_reset(vm->pci);
}

static int vm_reset_devices_and_kvm(struct vm *vm, struct err **err)
{
	/* Before the controllers: devices lower their interrupt lines. */
	vm_reset_devices(vm);
	return kvm_vm_reset(vm->kvm, err);
}

/* What starts this vCPU is loaded later. */
static void vm_boot_nothing(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	(void)opaque;
	(void)regs;
	(void)sregs;
}

int vm_reset_parts(struct vm *vm, struct err **err)
{
	int ret = vm_reset_devices_and_kvm(vm, err);

	return ret ? ret : vcpus_reset(vm->vcpus, vm_boot_nothing, NULL, err);
}

int vm_reset_machine(struct vm *vm, struct err **err)
{
	const struct boot_config boot = {
		.layout = vm->layout,
		.kernel_fd = vm->kernel_fd,
		.initrd_fd = vm->initrd_fd,
		.kernel_path = vm->config->kernel,
		.initrd_path = vm->config->initrd,
		.cmdline = vm->config->append,
		.acpi_rsdp_gpa = vm->acpi.gpa,
	};
	struct boot_cpu_state cpu;
	int ret = vm_reset_devices_and_kvm(vm, err);

	if (ret)
		return ret;
	ret = boot_load(vm->gm, &boot, &cpu, err);
	if (ret)
		return ret;
	ret = acpi_image_write(&vm->acpi, vm->gm);
	if (!ret)
		ret = smbios_image_write(&vm->smbios, vm->gm);
	if (ret)
		return err_set(err, -ret, "the firmware's tables do not fit into guest memory");
	return vcpus_reset(vm->vcpus, vm_boot_apply, &cpu, err);
}

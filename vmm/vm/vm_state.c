/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of a machine's parts as sections: see vm_state.h for the contract. */
#include "vmm/vm/vm_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/isa/power.h"
#include "vmm/isa/pvpanic.h"
#include "vmm/isa/rtc.h"
#include "vmm/isa/serial.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/pci/pci.h"
#include "vmm/piix3/piix3.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/vm/vm_internal.h"

/* One section: which part it is of. */
struct vm_part {
	const struct vm_part_kind *kind;
	char id[VM_DEVICE_NAME_MAX];
	struct vm_device *device; /* of a device */
	unsigned int index;       /* of a vCPU */
};

struct vm_part_kind {
	const char *name;
	uint32_t version;
	int (*save)(struct vm *vm, const struct vm_part *part, struct pack *out, struct err **err);
	int (*load)(struct vm *vm, const struct vm_part *part, uint32_t version, struct unpack *in,
		    struct err **err);
};

/* ---- the parts that there is one of ---- */

static int vm_save_cpu(struct vm *vm, const struct vm_part *part, struct pack *out,
		       struct err **err)
{
	return vcpus_save(vm->vcpus, part->index, out, err);
}

static int vm_load_cpu(struct vm *vm, const struct vm_part *part, uint32_t version,
		       struct unpack *in, struct err **err)
{
	return vcpus_load(vm->vcpus, part->index, version, in, err);
}

static int vm_save_irqchip(struct vm *vm, const struct vm_part *part, struct pack *out,
			   struct err **err)
{
	(void)part;
	return kvm_irqchip_save(vm->kvm, out, err);
}

static int vm_load_irqchip(struct vm *vm, const struct vm_part *part, uint32_t version,
			   struct unpack *in, struct err **err)
{
	(void)part;
	return kvm_irqchip_load(vm->kvm, version, in, err);
}

static int vm_save_clock(struct vm *vm, const struct vm_part *part, struct pack *out,
			 struct err **err)
{
	(void)part;
	return kvm_clock_save(vm->kvm, out, err);
}

static int vm_load_clock(struct vm *vm, const struct vm_part *part, uint32_t version,
			 struct unpack *in, struct err **err)
{
	(void)part;
	return kvm_clock_load(vm->kvm, version, in, err);
}

static int vm_save_rtc(struct vm *vm, const struct vm_part *part, struct pack *out,
		       struct err **err)
{
	(void)part;
	(void)err;
	rtc_save(vm->rtc, out);
	return 0;
}

static int vm_load_rtc(struct vm *vm, const struct vm_part *part, uint32_t version,
		       struct unpack *in, struct err **err)
{
	(void)part;
	return rtc_load(vm->rtc, version, in, err);
}

static int vm_save_power(struct vm *vm, const struct vm_part *part, struct pack *out,
			 struct err **err)
{
	(void)part;
	(void)err;
	power_save(vm->power, out);
	return 0;
}

static int vm_load_power(struct vm *vm, const struct vm_part *part, uint32_t version,
			 struct unpack *in, struct err **err)
{
	(void)part;
	return power_load(vm->power, version, in, err);
}

static int vm_save_pci(struct vm *vm, const struct vm_part *part, struct pack *out,
		       struct err **err)
{
	(void)part;
	(void)err;
	pci_host_save(vm->pci, out);
	return 0;
}

static int vm_load_pci(struct vm *vm, const struct vm_part *part, uint32_t version,
		       struct unpack *in, struct err **err)
{
	(void)part;
	return pci_host_load(vm->pci, version, in, err);
}

static int vm_save_piix3(struct vm *vm, const struct vm_part *part, struct pack *out,
			 struct err **err)
{
	(void)part;
	(void)err;
	piix3_bridge_save(vm->piix3, out);
	return 0;
}

static int vm_load_piix3(struct vm *vm, const struct vm_part *part, uint32_t version,
			 struct unpack *in, struct err **err)
{
	(void)part;
	return piix3_bridge_load(vm->piix3, version, in, err);
}

/* ---- devices ---- */

static int vm_save_virtio(struct vm *vm, const struct vm_part *part, struct pack *out,
			  struct err **err)
{
	(void)vm;
	(void)err;
	virtio_pci_save(part->device->transport, out);
	return 0;
}

static int vm_load_virtio(struct vm *vm, const struct vm_part *part, uint32_t version,
			  struct unpack *in, struct err **err)
{
	(void)vm;
	return virtio_pci_load(part->device->transport, version, in, err);
}

static int vm_save_serial(struct vm *vm, const struct vm_part *part, struct pack *out,
			  struct err **err)
{
	(void)vm;
	(void)err;
	serial_save(part->device->serial, out);
	return 0;
}

static int vm_load_serial(struct vm *vm, const struct vm_part *part, uint32_t version,
			  struct unpack *in, struct err **err)
{
	(void)vm;
	return serial_load(part->device->serial, version, in, err);
}

static int vm_save_pvpanic(struct vm *vm, const struct vm_part *part, struct pack *out,
			   struct err **err)
{
	(void)vm;
	(void)err;
	pvpanic_save(part->device->pvpanic, out);
	return 0;
}

static int vm_load_pvpanic(struct vm *vm, const struct vm_part *part, uint32_t version,
			   struct unpack *in, struct err **err)
{
	(void)vm;
	return pvpanic_load(part->device->pvpanic, version, in, err);
}

static int vm_save_port(struct vm *vm, const struct vm_part *part, struct pack *out,
			struct err **err)
{
	(void)vm;
	(void)err;
	pci_port_save(part->device->port, out);
	return 0;
}

static int vm_load_port(struct vm *vm, const struct vm_part *part, uint32_t version,
			struct unpack *in, struct err **err)
{
	(void)vm;
	return pci_port_load(part->device->port, version, in, err);
}

static int vm_save_uhci(struct vm *vm, const struct vm_part *part, struct pack *out,
			struct err **err)
{
	(void)vm;
	(void)err;
	piix3_uhci_save(part->device->uhci, out);
	return 0;
}

static int vm_load_uhci(struct vm *vm, const struct vm_part *part, uint32_t version,
			struct unpack *in, struct err **err)
{
	(void)vm;
	return piix3_uhci_load(part->device->uhci, version, in, err);
}

/* ---- their order ---- */

static const struct vm_part_kind vm_part_run = {"run-state", VM_RUN_STATE_VERSION,
						vm_save_run_state, vm_load_run_state};
static const struct vm_part_kind vm_part_cpu = {"cpu", VCPU_STATE_VERSION, vm_save_cpu,
						vm_load_cpu};
static const struct vm_part_kind vm_part_after_devices[] = {
	{"irqchip", KVM_IRQCHIP_STATE_VERSION, vm_save_irqchip, vm_load_irqchip},
	{"clock", KVM_CLOCK_STATE_VERSION, vm_save_clock, vm_load_clock},
};
static const struct vm_part_kind vm_part_platform[] = {
	{"rtc", RTC_STATE_VERSION, vm_save_rtc, vm_load_rtc},
	{"power", POWER_STATE_VERSION, vm_save_power, vm_load_power},
	{"pci-host", PCI_HOST_STATE_VERSION, vm_save_pci, vm_load_pci},
};
static const struct vm_part_kind vm_part_piix3 = {"piix3", PIIX3_BRIDGE_STATE_VERSION,
						  vm_save_piix3, vm_load_piix3};
/* In the order of enum vm_device_type. */
static const struct vm_part_kind vm_part_devices[] = {
	{"virtio-mem-pci", VIRTIO_PCI_STATE_VERSION, vm_save_virtio, vm_load_virtio},
	{"virtio-rng-pci", VIRTIO_PCI_STATE_VERSION, vm_save_virtio, vm_load_virtio},
	{"isa-serial", SERIAL_STATE_VERSION, vm_save_serial, vm_load_serial},
	{"pvpanic", PVPANIC_STATE_VERSION, vm_save_pvpanic, vm_load_pvpanic},
	{"pcie-root-port", PCI_PORT_STATE_VERSION, vm_save_port, vm_load_port},
	{"virtio-balloon-pci", VIRTIO_PCI_STATE_VERSION, vm_save_virtio, vm_load_virtio},
	{"piix3-usb-uhci", PIIX3_UHCI_STATE_VERSION, vm_save_uhci, vm_load_uhci},
};

static int vm_part_compare(const void *a, const void *b)
{
	const struct vm_part *x = a, *y = b;

	return strcmp(x->id, y->id);
}

/* The sections of this machine in order; for the caller to free(). NULL when memory is out. */
static struct vm_part *vm_parts(struct vm *vm, size_t *ret_nr, struct err **err)
{
	unsigned int nr_cpus = vcpus_count(vm->vcpus);
	struct vm_part *parts = calloc(2 + nr_cpus + ARRAY_SIZE(vm_part_platform) + vm->nr_devices +
					       ARRAY_SIZE(vm_part_after_devices),
				       sizeof(*parts));
	size_t nr = 0;

	if (!parts) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	parts[nr++].kind = &vm_part_run;
	for (unsigned int i = 0; i < nr_cpus; i++, nr++) {
		parts[nr] = (struct vm_part){.kind = &vm_part_cpu, .index = i};
		snprintf(parts[nr].id, sizeof(parts[nr].id), "%u", i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(vm_part_platform); i++)
		parts[nr++].kind = &vm_part_platform[i];
	if (vm->piix3)
		parts[nr++].kind = &vm_part_piix3;
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];

		parts[nr + i].kind = &vm_part_devices[d->config->type];
		parts[nr + i].device = d;
		vm_device_name(vm, d, parts[nr + i].id);
	}
	/* They may have come in another order at the other side. */
	qsort(parts + nr, vm->nr_devices, sizeof(*parts), vm_part_compare);
	nr += vm->nr_devices;
	for (size_t i = 0; i < ARRAY_SIZE(vm_part_after_devices); i++)
		parts[nr++].kind = &vm_part_after_devices[i];
	*ret_nr = nr;
	return parts;
}

/* "cpu '0'", "rtc"; for sentences. Returns @buf. */
#define VM_PART_TEXT_MAX (VM_DEVICE_NAME_MAX + 40)
static const char *vm_part_text(const char *name, const char *id, char buf[VM_PART_TEXT_MAX])
{
	if (*id)
		snprintf(buf, VM_PART_TEXT_MAX, "%s '%s'", name, id);
	else
		snprintf(buf, VM_PART_TEXT_MAX, "%s", name);
	return buf;
}

/* ---- save ---- */

static int vm_save_part(struct vm *vm, const struct vm_part *part,
			int (*fn)(void *opaque, const struct vm_section *section, struct err **err),
			void *opaque, struct err **err)
{
	char text[VM_PART_TEXT_MAX];
	struct pack out = {0};
	int ret = part->kind->save(vm, part, &out, err);

	if (ret)
		err_prefix(err, "the state of %s cannot be saved",
			   vm_part_text(part->kind->name, part->id, text));
	else if (pack_failed(&out))
		ret = err_set(err, ENOMEM, "out of memory");
	if (!ret) {
		const struct vm_section section = {
			.name = part->kind->name,
			.id = part->id,
			.version = part->kind->version,
			.data = out.bytes,
			.size = out.size,
		};

		ret = fn(opaque, &section, err);
	}
	pack_done(&out);
	return ret;
}

/* All sections are of one moment: no device's thread has anything left to do when the first is taken. */
static void vm_settle(struct vm *vm)
{
	loop_settle(vm->io);
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->loop)
			loop_settle(vm->devices[i]->loop);
	kvm_vm_settle(vm->kvm);
}

int vm_save_sections(struct vm *vm,
		     int (*fn)(void *opaque, const struct vm_section *section, struct err **err),
		     void *opaque, struct err **err)
{
	struct vm_part *parts;
	size_t nr;
	int ret = 0;

	parts = vm_parts(vm, &nr, err);
	if (!parts)
		return -ENOMEM;
	vm_settle(vm);
	for (size_t i = 0; i < nr && !ret; i++)
		ret = vm_save_part(vm, &parts[i], fn, opaque, err);
	free(parts);
	return ret;
}

/* ---- load ---- */

static int vm_load_part(struct vm *vm, const struct vm_part *part, const struct vm_section *s,
			struct err **err)
{
	struct unpack in = unpack_begin(s->data, s->size);
	char text[VM_PART_TEXT_MAX];
	int ret;

	vm_part_text(part->kind->name, part->id, text);
	if (!s->version || s->version > part->kind->version)
		return err_set(err, EINVAL,
			       "the state of %s has version %u; this program knows it up to %u",
			       text, s->version, part->kind->version);
	ret = part->kind->load(vm, part, s->version, &in, err);
	if (!ret && !unpack_ended(&in))
		ret = err_set(err, EINVAL, "it is %s", unpack_failed(&in) ? "damaged" : "too long");
	if (ret)
		err_prefix(err, "the state of %s cannot be loaded", text);
	return ret;
}

int vm_load_section(struct vm *vm, const struct vm_section *s, struct err **err)
{
	char text[VM_PART_TEXT_MAX], wanted[VM_PART_TEXT_MAX];
	struct vm_part *parts;
	size_t nr;
	int ret;

	parts = vm_parts(vm, &nr, err);
	if (!parts)
		return -ENOMEM;
	vm_part_text(s->name, s->id, text);
	if (vm->nr_loaded == nr) {
		ret = err_set(err, EINVAL, "there is one state too many, of %s", text);
	} else {
		const struct vm_part *part = &parts[vm->nr_loaded];

		vm_part_text(part->kind->name, part->id, wanted);
		if (strcmp(s->name, part->kind->name) || strcmp(s->id, part->id))
			ret = err_set(err, EINVAL, "there is the state of %s instead of that of %s",
				      text, wanted);
		else
			ret = vm_load_part(vm, part, s, err);
	}
	if (!ret)
		vm->nr_loaded++;
	free(parts);
	return ret;
}

int vm_load_end(struct vm *vm, struct err **err)
{
	struct vm_part *parts;
	char text[VM_PART_TEXT_MAX];
	size_t nr;
	int ret = 0;

	parts = vm_parts(vm, &nr, err);
	if (!parts)
		return -ENOMEM;
	if (vm->nr_loaded < nr) {
		const struct vm_part *part = &parts[vm->nr_loaded];

		ret = err_set(err, EINVAL, "the state of %s is missing",
			      vm_part_text(part->kind->name, part->id, text));
	}
	free(parts);
	return ret;
}

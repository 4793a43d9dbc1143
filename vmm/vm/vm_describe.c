/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a machine consists of, for comparing it with another process's: a list of facts, each with a
 * subject and what there is to say of it, both as text for people (vm_state.h, I1).
 *
 * I1  Two machines whose facts are the same have every register, address and interrupt at the same
 *     place. What is not in the list (where memory comes from, how it is guarded, who watches)
 *     may be another on the other side.
 *
 * Packed: le32 number of facts, then subject and value of each.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "qmp/size.h"
#include "vmm/machine/layout.h"
#include "vmm/pci/pci.h"
#include "vmm/vm/vm_internal.h"
#include "vmm/vm/vm_state.h"

#define FACT_SUBJECT_MAX 256
#define FACT_VALUE_MAX   512
/* Of a machine with all CPUs, nodes and slots there may be; bounds what is read. */
#define FACTS_MAX 8192u

struct fact {
	char subject[FACT_SUBJECT_MAX], value[FACT_VALUE_MAX];
};

struct facts {
	struct fact *list;
	size_t nr, room;
	bool failed; /* memory is out */
};

static struct fact *facts_add(struct facts *facts)
{
	if (facts->nr == facts->room) {
		size_t room = facts->room ? facts->room * 2 : 32;
		struct fact *list = reallocarray(facts->list, room, sizeof(*list));

		if (!list) {
			facts->failed = true;
			return NULL;
		}
		facts->list = list;
		facts->room = room;
	}
	return &facts->list[facts->nr++];
}

/* One more fact, by its subject; the value follows. */
__attribute__((format(printf, 3, 4))) static void fact(struct facts *facts, const char *subject,
						       const char *fmt, ...)
{
	struct fact *f = facts_add(facts);
	va_list ap;

	if (!f)
		return;
	snprintf(f->subject, sizeof(f->subject), "%s", subject);
	va_start(ap, fmt);
	vsnprintf(f->value, sizeof(f->value), fmt, ap);
	va_end(ap);
}

static void fact_size(struct facts *facts, const char *subject, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	fact(facts, subject, "%s", size_format(bytes, text));
}

/* ---- what there is to tell ---- */

static void facts_of_cpus(struct facts *facts, const struct vm *vm)
{
	const struct vm_smp_config *smp = &vm->config->smp;

	fact(facts, "the number of CPUs", "%u", smp->cpus);
	fact(facts, "the topology of the CPUs", "%u sockets of %u dies of %u cores of %u threads",
	     smp->sockets, smp->dies, smp->cores, smp->threads);
}

static void facts_of_nodes(struct facts *facts, const struct vm *vm)
{
	const struct vm_numa_config *numa = &vm->config->numa;
	char subject[FACT_SUBJECT_MAX], value[FACT_VALUE_MAX];

	fact(facts, "the number of NUMA nodes", "%u", numa->nr_nodes);
	for (unsigned int i = 0; i < numa->nr_nodes; i++) {
		size_t at = 0;

		snprintf(subject, sizeof(subject), "boot memory of NUMA node %u", i);
		fact_size(facts, subject, numa->nodes[i].mem_bytes);
		snprintf(subject, sizeof(subject), "the CPUs of NUMA node %u (a bit each)", i);
		fact(facts, subject, "0x%" PRIx64, numa->nodes[i].cpus);
		if (!numa->dist_given)
			continue;
		for (unsigned int to = 0; to < numa->nr_nodes; to++)
			at += (size_t)snprintf(value + at, sizeof(value) - at, "%s%u",
					       to ? " " : "", numa->dist[i][to]);
		snprintf(subject, sizeof(subject), "the distances of NUMA node %u", i);
		fact(facts, subject, "%s", value);
	}
}

static void fact_range(struct facts *facts, const char *subject, struct range range)
{
	if (range.size)
		fact(facts, subject, "0x%" PRIx64 " to 0x%" PRIx64, range.start,
		     range_end(range) - 1);
	else
		fact(facts, subject, "nowhere");
}

static void facts_of_memory(struct facts *facts, const struct vm *vm)
{
	const struct machine_layout *l = vm->layout;

	fact_size(facts, "boot memory", l->ram_bytes);
	/* Room for alignment depends on which devices there were at power-on; each has its address. */
	fact_size(facts, "maxmem", l->maxmem_bytes);
	fact_range(facts, "the 32-bit PCI window", l->window32);
	fact_range(facts, "the 64-bit PCI window", l->window64);
	fact_range(facts, "PCI configuration space", l->ecam);
}

static void facts_of_mem(struct facts *facts, const struct vm_device *d, const char *name)
{
	const struct vm_virtio_mem_config *c = &d->config->virtio_mem;
	char subject[FACT_SUBJECT_MAX];

	snprintf(subject, sizeof(subject), "the place of memory device '%s'", name);
	fact_range(facts, subject, d->block.gpa);
	snprintf(subject, sizeof(subject), "the block size of memory device '%s'", name);
	fact_size(facts, subject, c->block_size_bytes);
	snprintf(subject, sizeof(subject), "the NUMA node of memory device '%s'", name);
	fact(facts, subject, "%u", c->node);
	snprintf(subject, sizeof(subject), "unplugged-inaccessible of memory device '%s'", name);
	fact(facts, subject, "%s", c->unplugged_inaccessible == VM_OFF ? "off" : "on");
	/* Nothing is said where it is off: so it is with those who do not know it. */
	if (!c->guest_requests)
		return;
	snprintf(subject, sizeof(subject), "the guest-requests queue of memory device '%s'", name);
	fact(facts, subject, "on");
}

/* "bus 'pcie.0', slot 3, function 0", "port 0x3f8". */
static void fact_place(const struct vm *vm, const struct vm_device *d, char *buf, size_t size)
{
	struct pci_device *pci = vm_pci_device(vm, d->config);

	if (pci) {
		const char *bus = pci_bus_id(pci_device_bus(pci));

		snprintf(buf, size, "bus '%s', slot %u, function %u", bus ? bus : "pci.0",
			 pci_device_slot(pci), pci_device_function(pci));
	} else if (d->config->type == VM_DEVICE_ISA_SERIAL) {
		snprintf(buf, size, "port 0x%x, interrupt %u", d->config->isa_serial.iobase,
			 d->config->isa_serial.irq);
	} else {
		snprintf(buf, size, "port 0x%x", d->config->pvpanic.ioport);
	}
}

static void facts_of_device(struct facts *facts, const struct vm *vm, const struct vm_device *d)
{
	char name[VM_DEVICE_NAME_MAX], place[FACT_SUBJECT_MAX], subject[FACT_SUBJECT_MAX + 32];

	vm_device_name(vm, d, name);
	fact_place(vm, d, place, sizeof(place));
	snprintf(subject, sizeof(subject), "the device at %s", place);
	fact(facts, subject, "%s '%s'", vm_device_type_name(d->config->type), name);
	if (d->mem)
		facts_of_mem(facts, d, name);
	if (d->port) {
		snprintf(subject, sizeof(subject), "hot-plug of port '%s'", name);
		fact(facts, subject, "%s", d->config->root_port.hotplug ? "on" : "off");
	}
}

/* -ENOMEM leaves nothing to free. */
static int facts_of_vm(struct facts *facts, const struct vm *vm, bool uuid, struct err **err)
{
	const struct vm_config *c = vm->config;
	char text[33] = "none";

	fact(facts, "the kind of machine", "%s", c->machine.type == VM_MACHINE_Q35 ? "q35" : "pc");
	for (size_t i = 0; i < sizeof(c->uuid) && c->has_uuid; i++)
		snprintf(text + 2 * i, 3, "%02x", c->uuid[i]);
	if (uuid)
		fact(facts, "the UUID", "%s", text);
	facts_of_cpus(facts, vm);
	facts_of_memory(facts, vm);
	facts_of_nodes(facts, vm);
	for (size_t i = 0; i < vm->nr_devices; i++)
		facts_of_device(facts, vm, vm->devices[i]);
	if (!facts->failed)
		return 0;
	free(facts->list);
	return err_set(err, ENOMEM, "out of memory");
}

int vm_state_describe(const struct vm *vm, bool uuid, struct pack *out, struct err **err)
{
	struct facts facts = {0};
	int ret = facts_of_vm(&facts, vm, uuid, err);

	if (ret)
		return ret;
	pack_u32(out, (uint32_t)facts.nr);
	for (size_t i = 0; i < facts.nr; i++) {
		pack_text(out, facts.list[i].subject);
		pack_text(out, facts.list[i].value);
	}
	free(facts.list);
	return pack_failed(out) ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* ---- comparing ---- */

static const struct fact *facts_find(const struct facts *facts, const char *subject)
{
	for (size_t i = 0; i < facts->nr; i++)
		if (!strcmp(facts->list[i].subject, subject))
			return &facts->list[i];
	return NULL;
}

/* The other side's text, as it can be shown. */
static void facts_clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static int facts_read(struct facts *facts, const void *description, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(description, size);
	uint32_t nr = unpack_u32_max(&in, FACTS_MAX);

	for (uint32_t i = 0; i < nr && !unpack_failed(&in); i++) {
		struct fact *f = facts_add(facts);

		if (!f)
			return err_set(err, ENOMEM, "out of memory");
		unpack_text(&in, f->subject, sizeof(f->subject));
		unpack_text(&in, f->value, sizeof(f->value));
		facts_clean(f->subject);
		facts_clean(f->value);
	}
	return unpack_ended(&in)
		       ? 0
		       : err_set(err, EINVAL, "the description of the machine is damaged");
}

static int facts_differ(const struct facts *there, const struct facts *here, struct err **err)
{
	for (size_t i = 0; i < there->nr; i++) {
		const struct fact *t = &there->list[i], *h = facts_find(here, t->subject);

		if (!h)
			return err_set(err, EINVAL,
				       "%s is %s at the source, and this machine has none",
				       t->subject, t->value);
		if (strcmp(t->value, h->value))
			return err_set(err, EINVAL, "%s is %s at the source, and %s here",
				       t->subject, t->value, h->value);
	}
	for (size_t i = 0; i < here->nr; i++)
		if (!facts_find(there, here->list[i].subject))
			return err_set(err, EINVAL, "%s is %s here, and the source has none",
				       here->list[i].subject, here->list[i].value);
	return 0;
}

int vm_state_compare(const struct vm *vm, const void *description, size_t size, struct err **err)
{
	struct facts there = {0}, here = {0};
	int ret = facts_read(&there, description, size, err);

	/* The source says whether the UUIDs are of interest. */
	if (!ret)
		ret = facts_of_vm(&here, vm, facts_find(&there, "the UUID"), err);
	if (!ret) {
		ret = facts_differ(&there, &here, err);
		free(here.list);
	}
	free(there.list);
	return ret;
}

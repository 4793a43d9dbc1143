/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a vCPU left the guest for: accesses go to the buses, missing memory to the owner of the
 * vCPUs, and the rest ends in a sentence. See vcpu.h for the contract.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/core/bus.h"
#include "vmm/kvm/vcpu_internal.h"

/* Not in the headers of Linux before 6.8. */
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

/*
 * How often in a row one instruction may fail to reach its memory, though it was said each time that
 * something was done about it. A vCPU can lose a race against others that plug and unplug for long;
 * this only keeps a mistake in who answers from being an endless loop.
 */
#define VCPU_FAULTS_MAX 4096

/* What KVM_EXIT_MEMORY_FAULT has in the union of struct kvm_run. */
struct vcpu_fault {
	uint64_t flags, gpa, size;
};

static void vcpu_handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct bus *pio = v->vcpus->config.pio;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			bus_write(pio, run->io.port, run->io.size, value);
		} else {
			bus_read(pio, run->io.port, run->io.size, &value);
			memcpy(data, &value, run->io.size);
		}
	}
}

static void vcpu_handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct bus *mmio = v->vcpus->config.mmio;
	uint64_t addr = run->mmio.phys_addr;
	uint8_t *data = run->mmio.data;
	uint32_t left = run->mmio.len;

	/* An unaligned access can be of any length up to 8: natural pieces, as a bus would see. */
	while (left) {
		unsigned int size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		uint64_t value = 0;

		if (run->mmio.is_write) {
			memcpy(&value, data, size);
			bus_write(mmio, addr, size, value);
		} else {
			bus_read(mmio, addr, size, &value);
			memcpy(data, &value, size);
		}
		addr += size;
		data += size;
		left -= size;
	}
}

static bool vcpu_fail(struct vcpu *v, const char *why)
{
	vcpu_halt(v);
	v->vcpus->config.ops->failed(v->vcpus->config.opaque, v->index, why);
	return false;
}

bool vcpu_fail_run(struct vcpu *v, int code)
{
	char why[160];

	snprintf(why, sizeof(why), "KVM cannot run the guest at %#llx: %s",
		 (unsigned long long)vcpu_instruction_gva(v->fd), strerror(code));
	return vcpu_fail(v, why);
}

/* Where memory was missing, if the kernel tells it; what it told is used once. */
static struct vcpu_fault vcpu_fault_take(struct vcpu *v)
{
	struct vcpu_fault fault = {.gpa = UINT64_MAX};

	if (v->run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		memcpy(&fault, &v->run->hw, sizeof(fault));
	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	return fault;
}

/*
 * The guest's instruction could not reach memory: true when it shall be tried again, else a
 * sentence is in @why.
 */
static bool vcpu_memory_fault(struct vcpu *v, const struct vcpu_fault *fault, char *why,
			      size_t why_size)
{
	const struct vcpus_config *config = &v->vcpus->config;
	uint64_t gva = vcpu_instruction_gva(v->fd);

	if (gva != v->fault_gva)
		v->nr_faults = 0;
	v->fault_gva = gva;
	if (v->nr_faults++ < VCPU_FAULTS_MAX)
		return config->ops->memory_fault(config->opaque, v->index, fault->gpa, fault->size,
						 why, why_size);
	snprintf(why, why_size,
		 "the guest's instruction at %#llx cannot reach its memory, tried %u times",
		 (unsigned long long)gva, v->nr_faults);
	v->nr_faults = 0;
	return false;
}

/*
 * KVM's interpreter gave an instruction up. It does so as well when a locked one cannot reach its
 * memory: true when something was done about that.
 */
static bool vcpu_retry_interpreted(struct vcpu *v)
{
	const struct vcpu_fault unknown = {.gpa = UINT64_MAX};
	char why[256];

	return v->vcpus->config.ops->memory_fault &&
	       vcpu_memory_fault(v, &unknown, why, sizeof(why)) && !vcpu_instruction_retry(v->fd);
}

static bool vcpu_handle_internal(struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	char why[256];
	size_t len;
	uint32_t size;

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		snprintf(why, sizeof(why), "KVM reports internal error %u at %#llx",
			 run->internal.suberror, (unsigned long long)vcpu_instruction_gva(v->fd));
		return vcpu_fail(v, why);
	}
	if (vcpu_retry_interpreted(v))
		return true;
	len = (size_t)snprintf(
		why, sizeof(why),
		"KVM had to interpret an instruction that it does not know, at %#llx%s",
		(unsigned long long)vcpu_instruction_gva(v->fd),
		kvm_host_has_virtualization()
			? ""
			: " (this host's CPU has no virtualization, so KVM "
			  "interprets guest code and stock kernels cannot run)");
	if (run->emulation_failure.ndata >= 3 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		size = run->emulation_failure.insn_size;
		if (size > sizeof(run->emulation_failure.insn_bytes))
			size = sizeof(run->emulation_failure.insn_bytes);
		for (uint32_t i = 0; i < size && len + 8 < sizeof(why); i++)
			len += (size_t)snprintf(why + len, sizeof(why) - len, "%s%02x",
						i ? " " : ": ",
						run->emulation_failure.insn_bytes[i]);
	}
	return vcpu_fail(v, why);
}

bool vcpu_handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	char why[160];

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		v->nr_faults = 0;
		vcpu_handle_io(v);
		return true;
	case KVM_EXIT_MMIO:
		v->nr_faults = 0;
		vcpu_handle_mmio(v);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_DIRTY_RING_FULL:
		return kvm_ring_full(v->vcpus->config.kvm) ||
		       vcpu_fail(v, "KVM lost count of the pages that the guest wrote: its ring "
				    "is too small (dirty-ring-size)");
	case KVM_EXIT_SHUTDOWN:
		vcpu_halt(v);
		v->vcpus->config.ops->shutdown(v->vcpus->config.opaque, v->index);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		return vcpu_handle_internal(v);
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(why, sizeof(why),
			 "the host's CPU refuses to enter the guest (reason %#llx)",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return vcpu_fail(v, why);
	default:
		snprintf(why, sizeof(why),
			 "KVM left the guest for a reason unknown here (%u) at %#llx",
			 run->exit_reason, (unsigned long long)vcpu_instruction_gva(v->fd));
		return vcpu_fail(v, why);
	}
}

bool vcpu_fail_poisoned(struct vcpu *v)
{
	struct vcpu_fault fault = vcpu_fault_take(v);
	char where[48] = "", why[160];

	if (fault.gpa != UINT64_MAX)
		snprintf(where, sizeof(where), " behind guest address %#llx",
			 (unsigned long long)fault.gpa);
	snprintf(why, sizeof(why),
		 "the host's memory%s is damaged (a hardware memory error), and the guest needs "
		 "it at %#llx",
		 where, (unsigned long long)vcpu_instruction_gva(v->fd));
	return vcpu_fail(v, why);
}

bool vcpu_handle_fault(struct vcpu *v)
{
	struct vcpu_fault fault = vcpu_fault_take(v);
	char why[256] = "";

	if (!v->vcpus->config.ops->memory_fault)
		return vcpu_fail_run(v, EFAULT);
	return vcpu_memory_fault(v, &fault, why, sizeof(why)) || vcpu_fail(v, why);
}

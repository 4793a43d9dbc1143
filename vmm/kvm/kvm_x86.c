/* SPDX-License-Identifier: BSD-3-Clause */
/* The x86 part of a KVM virtual machine: see kvm.h for the contract. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/kvm/kvm_internal.h"
#include "vmm/machine/platform.h"

#define CPUID_1_ECX_VMX        (1u << 5)
#define CPUID_80000001_ECX_SVM (1u << 2)

/* Not in the headers of Linux before 6.12. */
#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1u << 7)
#endif
#ifndef KVM_CAP_DISABLE_QUIRKS2
#define KVM_CAP_DISABLE_QUIRKS2 213 /* Linux 5.18 */
#endif

#define KVM_PIC_PINS         16
#define KVM_IOAPIC_TIMER_PIN 2

bool kvm_host_has_virtualization(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_1_ECX_VMX))
		return true;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & CPUID_80000001_ECX_SVM);
}

/*
 * Where the kernel offers it, removing a memory slot zaps that slot's mappings only, not all of the
 * VM, which the guest would have to fault in again one by one. An unplug does no worse without it
 * but for its time, so a refusal is no error.
 */
static void kvm_zap_slots_alone(struct kvm_vm *kvm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DISABLE_QUIRKS2,
		.args = {KVM_X86_QUIRK_SLOT_ZAP_ALL},
	};

	if ((unsigned int)kvm_vm_capability(kvm, KVM_CAP_DISABLE_QUIRKS2) &
	    KVM_X86_QUIRK_SLOT_ZAP_ALL)
		ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap);
}

/*
 * So that a vCPU that stops between an instruction and what the CPU made of it goes on elsewhere with
 * the same: exceptions with what they have not told the guest yet, and the end by a triple fault.
 * Where the kernel cannot, such a vCPU does its instruction again.
 */
static void kvm_tell_events_exactly(struct kvm_vm *kvm)
{
	static const uint32_t caps[] = {KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_X86_TRIPLE_FAULT_EVENT};

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		struct kvm_enable_cap cap = {.cap = caps[i], .args = {1}};

		if (kvm_vm_capability(kvm, (int)caps[i]))
			ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap);
	}
}

bool kvm_message_valid(uint64_t address)
{
	return address >= PLATFORM_LAPIC_BASE &&
	       address - PLATFORM_LAPIC_BASE < PLATFORM_LAPIC_SIZE;
}

/*
 * Guests mask what they do not use: a request that nobody took waits in the 8259s for the next
 * kernel, which has not masked them yet when it first allows interrupts.
 */
int kvm_vm_reset(struct kvm_vm *kvm, struct err **err)
{
	return kvm_irqchips_set(kvm, kvm->power_on, "reset", err);
}

int kvm_vm_init_arch(struct kvm_vm *kvm, struct err **err)
{
	/* VT-x needs these pages of guest addresses for itself, in real mode. */
	uint64_t identity_map = PLATFORM_KVM_IDENTITY_BASE;

	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)PLATFORM_KVM_TSS_BASE) < 0)
		return err_set(err, errno, "KVM refuses the place of its own pages: %s",
			       strerror(errno));
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_set(err, errno, "KVM cannot create the interrupt controllers: %s",
			       strerror(errno));
	kvm_zap_slots_alone(kvm);
	kvm_tell_events_exactly(kvm);
	return kvm_irqchips_get(kvm, kvm->power_on, err);
}

unsigned int kvm_wired_routes(struct kvm_irq_routing_entry *entries, unsigned int max)
{
	unsigned int n = 0;

	for (uint32_t gsi = 0; gsi < KVM_WIRED_GSIS; gsi++) {
		if (gsi < KVM_PIC_PINS && gsi != KVM_IOAPIC_TIMER_PIN && n < max) {
			entries[n].gsi = gsi;
			entries[n].type = KVM_IRQ_ROUTING_IRQCHIP;
			entries[n].u.irqchip.irqchip =
				gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
			entries[n++].u.irqchip.pin = gsi % 8;
		}
		/* As on every PC the timer, input 0, is wired to pin 2. */
		if (gsi != KVM_IOAPIC_TIMER_PIN && n < max) {
			entries[n].gsi = gsi;
			entries[n].type = KVM_IRQ_ROUTING_IRQCHIP;
			entries[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
			entries[n++].u.irqchip.pin = gsi ? gsi : KVM_IOAPIC_TIMER_PIN;
		}
	}
	return n;
}

static struct kvm_cpuid2 *kvm_cpuid_of(int dev_fd, struct err **err)
{
	/* The kernel says E2BIG when the table is too small; its own limit is 256 entries. */
	for (uint32_t n = 64; n <= 4096; n *= 2) {
		struct kvm_cpuid2 *cpuid =
			calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));

		if (!cpuid) {
			err_set(err, ENOMEM, "out of memory");
			return NULL;
		}
		cpuid->nent = n;
		if (ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
			return cpuid;
		free(cpuid);
		if (errno != E2BIG)
			break;
	}
	err_set(err, errno, "KVM does not tell what CPUID it supports: %s", strerror(errno));
	return NULL;
}

struct kvm_cpuid2 *kvm_supported_cpuid(const struct kvm_vm *kvm, struct err **err)
{
	return kvm_cpuid_of(kvm->dev_fd, err);
}

struct kvm_cpuid2 *kvm_host_cpuid(struct err **err)
{
	struct kvm_cpuid2 *cpuid;
	int fd = kvm_open(err);

	if (fd < 0)
		return NULL;
	cpuid = kvm_cpuid_of(fd, err);
	close(fd);
	return cpuid;
}

uint64_t kvm_feature_msr(const struct kvm_vm *kvm, uint32_t index)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));
	int fd = kvm ? kvm->dev_fd : kvm_open(NULL);
	uint64_t value = 0;

	if (msrs && fd >= 0 && ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_GET_MSR_FEATURES) > 0) {
		msrs->nmsrs = 1;
		msrs->entries[0].index = index;
		if (ioctl(fd, KVM_GET_MSRS, msrs) == 1)
			value = msrs->entries[0].data;
	}
	if (!kvm && fd >= 0)
		close(fd);
	free(msrs);
	return value;
}

struct kvm_msr_list *kvm_msr_indices(const struct kvm_vm *kvm, struct err **err)
{
	struct kvm_msr_list probe = {.nmsrs = 0}, *list;

	/* The first call is there to fail and to tell the number. */
	ioctl(kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, &probe);
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	list->nmsrs = probe.nmsrs;
	if (ioctl(kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		err_set(err, errno, "KVM does not tell its list of MSRs: %s", strerror(errno));
		free(list);
		return NULL;
	}
	return list;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small virtual machine on the real /dev/kvm: 64 KiB of memory, a few ports, and guests of some
 * instructions that run in 32-bit protected mode without paging, which every KVM can do, also one
 * that interprets its guests.
 *
 * Guests are written with GUEST() and take absolute addresses from the constants below.
 */
#ifndef TESTS_UNIT_KVM_FIXTURE_H
#define TESTS_UNIT_KVM_FIXTURE_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"

#define GUEST_RAM    0x10000
#define GUEST_CODE   0x1000
#define GUEST_DATA   0x2000
#define GUEST_REMOTE 0x100000   /* where tests put slots of their own */
#define GUEST_MMIO   0xd0000000 /* registers that are recorded */

#define GUEST_MSR 0x12340000 /* IA32_SYSENTER_EIP, by the vCPU's identity */

#define PORT_OUT 0x10 /* ports that record: 0x10 to 0x17 */

/* Code of a guest, with its name as an array of bytes. */
#define GUEST(name, code)                                                        \
	extern const uint8_t name[] __attribute__((visibility("hidden")));       \
	extern const uint8_t name##_end[] __attribute__((visibility("hidden"))); \
	__asm__(".pushsection .rodata\n.code32\n" #name ":\n" code "\n" #name    \
		"_end:\n.code64\n.popsection\n")

/* The same for a vCPU that is started by a message and so begins in real mode. */
#define GUEST16(name, code)                                                      \
	extern const uint8_t name[] __attribute__((visibility("hidden")));       \
	extern const uint8_t name##_end[] __attribute__((visibility("hidden"))); \
	__asm__(".pushsection .rodata\n.code16\n" #name ":\n" code "\n" #name    \
		"_end:\n.code64\n.popsection\n")

/* Instructions that start all other vCPUs at GUEST_AP_CODE. */
#define GUEST_AP_CODE 0x3000
#define GUEST_START_APS                  \
	"movl $0x1ff, 0xfee000f0\n"      \
	"movl $0x000c4500, 0xfee00300\n" \
	"movl $0x000c4603, 0xfee00300\n"

#define ACCESSES_MAX 64

struct access {
	bool write;
	uint64_t offset, value;
	unsigned int size;
};

/* Registers that note each access and answer reads with bytes that count up. */
struct recorder {
	struct bus_region region;
	struct access access[ACCESSES_MAX];
	atomic_uint n; /* how many are complete; more than the array holds are only counted */
	sem_t seen;
	/* what runs inside each access, if not NULL */
	void (*inside)(void *opaque);
	void *opaque;
};

struct machine;

/* As memory_fault of struct vcpu_ops. */
typedef bool machine_fault_fn(struct machine *m, unsigned int index, uint64_t gpa, uint64_t size,
			      char *why, size_t why_size);

struct machine {
	struct kvm_vm *kvm;
	struct hv *hv;
	struct bus *pio, *mmio;
	struct recorder port, reg;
	struct vcpus *vcpus;
	struct kvm_cpuid2 *cpuid;
	uint8_t *ram;
	/* what the vCPUs said */
	atomic_uint shutdowns, failures;
	unsigned int failed_vcpu;
	char why[256];
	sem_t said;
	machine_fault_fn *memory_fault; /* may be NULL */
	void *fault_opaque;
	/* the start state of vCPU 0 as it was before machine_boot() changed it */
	struct kvm_sregs start_sregs;
};

/* False when this process may not open /dev/kvm, after a message that says why. */
bool machine_possible(void);

void machine_init(struct machine *m, unsigned int nr_vcpus);
/* With a handler of memory that cannot be reached. */
void machine_init_faults(struct machine *m, unsigned int nr_vcpus, machine_fault_fn *memory_fault,
			 void *fault_opaque);
/* With rings of written pages; false when the kernel has none, and then there is no machine. */
bool machine_init_rings(struct machine *m, unsigned int nr_vcpus, uint32_t nr_entries);
void machine_done(struct machine *m);

/* Reset to the start of a guest's code; the vCPUs are paused before and after. */
void machine_load(struct machine *m, const uint8_t *code, const uint8_t *end);
#define machine_boot(m, guest) machine_load(m, guest, guest##_end)

/* Put code elsewhere in the memory, after machine_load(). */
void machine_load_more(struct machine *m, uint32_t gpa, const uint8_t *code, const uint8_t *end);
#define machine_boot_ap(m, guest) machine_load_more(m, GUEST_AP_CODE, guest, guest##_end)

/* The next value that the guest wrote to a port, when it comes. */
uint64_t machine_next_out(struct machine *m);

/* A 32-bit word of the guest's memory. */
uint32_t machine_peek(const struct machine *m, uint32_t gpa);
void machine_poke(struct machine *m, uint32_t gpa, uint32_t value);
/* Wait until the word is another than @old. */
void machine_wait_change(const struct machine *m, uint32_t gpa, uint32_t old);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Single instructions as functions: ports, model-specific registers, device memory, interrupts.
 *
 * I1  Device memory is reached with plain MOV of the size that the name says, so that whoever
 *     decodes the access sees the simplest form there is.
 * I2  Waits are bounded in time-stamp ticks (CPU_PATIENCE), never in loop turns: the speed of a
 *     guest differs by a factor of a thousand between hosts.
 */
#ifndef BARE_CPU_H
#define BARE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ten seconds or more on any clock of up to 4 GHz. */
#define CPU_PATIENCE 40000000000ull

#define CPU_MSR_APIC_BASE    0x1bu
#define CPU_MSR_TSC_DEADLINE 0x6e0u

struct cpu_id {
	uint32_t eax, ebx, ecx, edx;
};

static inline void cpu_outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void cpu_outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void cpu_outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t cpu_inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t cpu_inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t cpu_inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void cpu_outsb(uint16_t port, const void *bytes, size_t count)
{
	__asm__ volatile("rep outsb" : "+S"(bytes), "+c"(count) : "d"(port) : "memory");
}

static inline uint8_t mmio_read8(uint64_t gpa)
{
	uint8_t value;

	__asm__ volatile("movb (%1), %0" : "=a"(value) : "r"(gpa) : "memory");
	return value;
}

static inline uint16_t mmio_read16(uint64_t gpa)
{
	uint16_t value;

	__asm__ volatile("movw (%1), %0" : "=a"(value) : "r"(gpa) : "memory");
	return value;
}

static inline uint32_t mmio_read32(uint64_t gpa)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0" : "=a"(value) : "r"(gpa) : "memory");
	return value;
}

static inline void mmio_write8(uint64_t gpa, uint8_t value)
{
	__asm__ volatile("movb %0, (%1)" : : "a"(value), "r"(gpa) : "memory");
}

static inline void mmio_write16(uint64_t gpa, uint16_t value)
{
	__asm__ volatile("movw %0, (%1)" : : "a"(value), "r"(gpa) : "memory");
}

static inline void mmio_write32(uint64_t gpa, uint32_t value)
{
	__asm__ volatile("movl %0, (%1)" : : "a"(value), "r"(gpa) : "memory");
}

/* Guest memory that the host may change at any time. */
static inline uint64_t cpu_load64(uint64_t gpa)
{
	return *(volatile uint64_t *)gpa;
}

static inline void cpu_store64(uint64_t gpa, uint64_t value)
{
	*(volatile uint64_t *)gpa = value;
}

static inline uint64_t cpu_rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline struct cpu_id cpu_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpu_id id;

	__asm__ volatile("cpuid"
			 : "=a"(id.eax), "=b"(id.ebx), "=c"(id.ecx), "=d"(id.edx)
			 : "a"(leaf), "c"(subleaf));
	return id;
}

static inline uint64_t cpu_ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline uint64_t cpu_flags(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
	return flags;
}

static inline void cpu_set_flags(uint64_t flags)
{
	__asm__ volatile("pushq %0; popfq" : : "r"(flags) : "memory", "cc");
}

static inline uint64_t cpu_cr0(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr0, %0" : "=r"(value));
	return value;
}

static inline uint64_t cpu_cr2(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr2, %0" : "=r"(value));
	return value;
}

static inline uint64_t cpu_cr4(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr4, %0" : "=r"(value));
	return value;
}

static inline void cpu_set_cr0(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr0" : : "r"(value) : "memory");
}

static inline void cpu_set_cr4(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr4" : : "r"(value) : "memory");
}

static inline uint64_t cpu_cr3(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr3, %0" : "=r"(value));
	return value;
}

static inline void cpu_set_cr3(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr3" : : "r"(value) : "memory");
}

static inline void cpu_flush_tlb(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr3, %0; movq %0, %%cr3" : "=r"(value) : : "memory");
}

static inline void cpu_interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

static inline void cpu_interrupts_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

/*
 * Sleep until an interrupt was taken; interrupts are off before and after. No interrupt is lost
 * between the caller's last look and the sleep, because STI takes effect one instruction later.
 */
static inline void cpu_sleep(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Order earlier accesses to memory before later ones, also stores before loads. */
static inline void cpu_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void __attribute__((noreturn)) cpu_stop(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

#endif

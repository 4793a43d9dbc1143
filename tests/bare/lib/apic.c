/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Local APIC and I/O APIC. Both modes of the local APIC have the same registers; x2APIC's number is
 * 0x800 + offset / 16, but for the 64-bit command register.
 */
#include "apic.h"
#include "cpu.h"

#define REG_ID          0x020u
#define REG_EOI         0x0b0u
#define REG_SPURIOUS    0x0f0u
#define REG_ICR_LOW     0x300u
#define REG_ICR_HIGH    0x310u
#define REG_LVT_TIMER   0x320u
#define REG_TIMER_INIT  0x380u
#define REG_TIMER_LEFT  0x390u
#define REG_TIMER_DIV   0x3e0u
#define XAPIC_GPA       0xfee00000u
#define BASE_ENABLE     0x800u
#define BASE_X2         0x400u
#define SPURIOUS_ENABLE 0x100u
#define ICR_PENDING     0x1000u
#define LVT_MASKED      0x10000u
#define LVT_PERIODIC    0x20000u
#define LVT_DEADLINE    0x40000u
#define DIV_BY_1        0xbu
#define PIC1_MASK       0x21u
#define PIC2_MASK       0xa1u

#define IOAPIC_INDEX   0x00u
#define IOAPIC_DATA    0x10u
#define IOAPIC_VERSION 0x01u
#define IOAPIC_ENTRY   0x10u
#define ENTRY_LEVEL    0x8000u

static bool apic_x2;

static void apic_write(unsigned int reg, uint32_t value)
{
	if (apic_x2)
		cpu_wrmsr(0x800 + reg / 16, value);
	else
		mmio_write32(XAPIC_GPA + reg, value);
}

static uint32_t apic_read(unsigned int reg)
{
	if (apic_x2)
		return (uint32_t)cpu_rdmsr(0x800 + reg / 16);
	return mmio_read32(XAPIC_GPA + reg);
}

void apic_init(void)
{
	uint64_t base = cpu_rdmsr(CPU_MSR_APIC_BASE);

	/* a machine that still has 8259s may have left one of their inputs open */
	cpu_outb(PIC1_MASK, 0xff);
	cpu_outb(PIC2_MASK, 0xff);
	apic_x2 = (cpu_cpuid(1, 0).ecx & 1u << 21) != 0;
	if ((base & BASE_ENABLE) == 0)
		cpu_wrmsr(CPU_MSR_APIC_BASE, base | BASE_ENABLE);
	if (apic_x2)
		cpu_wrmsr(CPU_MSR_APIC_BASE, base | BASE_ENABLE | BASE_X2);
	apic_write(REG_SPURIOUS, SPURIOUS_ENABLE | APIC_SPURIOUS_VECTOR);
	apic_write(REG_LVT_TIMER, LVT_MASKED);
}

uint32_t apic_id(void)
{
	uint32_t id = apic_read(REG_ID);

	return apic_x2 ? id : id >> 24;
}

bool apic_is_x2(void)
{
	return apic_x2;
}

void apic_eoi(void)
{
	apic_write(REG_EOI, 0);
}

void apic_ipi(uint32_t to_apic_id, uint32_t command)
{
	if (apic_x2) {
		cpu_wrmsr(0x800 + REG_ICR_LOW / 16, (uint64_t)to_apic_id << 32 | command);
		return;
	}
	apic_write(REG_ICR_HIGH, to_apic_id << 24);
	apic_write(REG_ICR_LOW, command);
	while ((apic_read(REG_ICR_LOW) & ICR_PENDING) != 0)
		cpu_relax();
}

void apic_timer(uint32_t count, bool periodic, unsigned int vector)
{
	apic_write(REG_TIMER_DIV, DIV_BY_1);
	apic_write(REG_LVT_TIMER, vector | (periodic ? LVT_PERIODIC : 0));
	apic_write(REG_TIMER_INIT, count);
}

void apic_timer_deadline_mode(unsigned int vector)
{
	apic_write(REG_LVT_TIMER, vector | LVT_DEADLINE);
	cpu_fence();
}

uint32_t apic_timer_left(void)
{
	return apic_read(REG_TIMER_LEFT);
}

static void ioapic_write(uint32_t gpa, uint32_t reg, uint32_t value)
{
	mmio_write32(gpa + IOAPIC_INDEX, reg);
	mmio_write32(gpa + IOAPIC_DATA, value);
}

void apic_route_gsi(uint32_t ioapic_gpa, unsigned int gsi, unsigned int vector, bool level)
{
	ioapic_write(ioapic_gpa, IOAPIC_ENTRY + 2 * gsi + 1, apic_id() << 24);
	ioapic_write(ioapic_gpa, IOAPIC_ENTRY + 2 * gsi, vector | (level ? ENTRY_LEVEL : 0));
}

unsigned int apic_ioapic_inputs(uint32_t ioapic_gpa)
{
	mmio_write32(ioapic_gpa + IOAPIC_INDEX, IOAPIC_VERSION);
	return (mmio_read32(ioapic_gpa + IOAPIC_DATA) >> 16 & 0xff) + 1;
}

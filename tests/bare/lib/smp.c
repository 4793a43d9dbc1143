/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other processors. Fields of struct smp_cpu: `online` and `fn` are written with release by
 * one side and read with acquire by the other; `arg` is covered by `fn`.
 */
#include <stddef.h>

#include "acpi.h"
#include "apic.h"
#include "cpu.h"
#include "mem.h"
#include "smp.h"
#include "text.h"
#include "trap.h"

#define AP_PAGE_GPA    0x8000u
#define AP_STACK_PAGES 4u
/* Between INIT and SIPI real hardware wants 10 ms; a virtual local APIC wants nothing. */
#define AP_SIPI_PATIENCE (CPU_PATIENCE / 4)

extern uint8_t ap_page_start[], ap_page_end[];
extern uint64_t ap_stack_top;

static struct smp_cpu smp_cpus[SMP_MAX];
static unsigned int smp_nr;
static struct smp_cpu *smp_starting;

static bool smp_wait_online(const struct smp_cpu *cpu, uint64_t patience)
{
	uint64_t start = cpu_ticks();

	while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE)) {
		if (cpu_ticks() - start > patience)
			return false;
		cpu_relax();
	}
	return true;
}

static bool smp_start_one(struct smp_cpu *cpu)
{
	uint64_t stack = (uint64_t)mem_pages(AP_STACK_PAGES);

	ap_stack_top = stack + AP_STACK_PAGES * MEM_PAGE_BYTES;
	__atomic_store_n(&smp_starting, cpu, __ATOMIC_RELEASE);
	apic_ipi(cpu->apic_id, APIC_IPI_INIT);
	apic_ipi(cpu->apic_id, APIC_IPI_STARTUP | AP_PAGE_GPA / MEM_PAGE_BYTES);
	/* the second start-up message is ignored by a processor that runs already */
	apic_ipi(cpu->apic_id, APIC_IPI_STARTUP | AP_PAGE_GPA / MEM_PAGE_BYTES);
	return smp_wait_online(cpu, AP_SIPI_PATIENCE);
}

unsigned int smp_start(void)
{
	uint32_t ids[SMP_MAX];
	unsigned int count = acpi_cpus(ids, SMP_MAX);

	memcpy((void *)(uint64_t)AP_PAGE_GPA, ap_page_start, (size_t)(ap_page_end - ap_page_start));
	smp_cpus[0] = (struct smp_cpu){.apic_id = apic_id(), .online = true};
	smp_nr = 1;
	for (unsigned int i = 0; i < count; i++) {
		if (ids[i] == smp_cpus[0].apic_id || smp_nr == SMP_MAX)
			continue;
		smp_cpus[smp_nr] = (struct smp_cpu){.apic_id = ids[i]};
		if (smp_start_one(&smp_cpus[smp_nr]))
			smp_nr++;
	}
	return smp_nr;
}

unsigned int smp_count(void)
{
	return smp_nr;
}

const struct smp_cpu *smp_cpu(unsigned int cpu)
{
	return &smp_cpus[cpu];
}

void smp_begin(void (*fn)(void *arg, unsigned int cpu), void *arg)
{
	for (unsigned int i = 1; i < smp_nr; i++) {
		smp_cpus[i].arg = arg;
		__atomic_store_n(&smp_cpus[i].fn, fn, __ATOMIC_RELEASE);
		apic_ipi(smp_cpus[i].apic_id, APIC_IPI_FIXED | APIC_IPI_VECTOR);
	}
}

bool smp_end(void)
{
	uint64_t start = cpu_ticks();

	for (unsigned int i = 1; i < smp_nr; i++) {
		while (__atomic_load_n(&smp_cpus[i].fn, __ATOMIC_ACQUIRE) != NULL) {
			if (cpu_ticks() - start > CPU_PATIENCE)
				return false;
			cpu_relax();
		}
	}
	return true;
}

bool smp_run(void (*fn)(void *arg, unsigned int cpu), void *arg)
{
	smp_begin(fn, arg);
	return smp_end();
}

void smp_ap_main(void)
{
	struct smp_cpu *self = __atomic_load_n(&smp_starting, __ATOMIC_ACQUIRE);
	unsigned int index = (unsigned int)(self - smp_cpus);

	trap_init();
	apic_init();
	__atomic_store_n(&self->online, true, __ATOMIC_RELEASE);
	for (;;) {
		void (*fn)(void *arg, unsigned int cpu);

		while ((fn = __atomic_load_n(&self->fn, __ATOMIC_ACQUIRE)) == NULL)
			cpu_sleep();
		fn(self->arg, index);
		__atomic_store_n(&self->fn, NULL, __ATOMIC_RELEASE);
	}
}

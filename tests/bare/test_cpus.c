/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpus: all processors start and know who they are; what CPUID calls them is printed. timer: local APIC timers and the time-stamp
 * counter's deadline.
 *
 *	cpus=N		how many there must be
 *	sockets= cores= threads=
 *			what CPUID must tell of the topology
 */
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/smp.h"
#include "lib/trap.h"
#include "tests.h"

#define ADDS         2000u
#define LEAF_TOPO    0xbu
#define LEAF_NAME    0x80000002u
#define LEAVES_NAME  3u
#define LEVEL_THREAD 1u
#define LEVEL_CORE   2u
#define TIMER_VECTOR 0x28u
#define TIMER_COUNT  5000000u
#define TSC_DEADLINE (1u << 24)

struct cpu_facts {
	uint32_t apic, initial, x2, thread_shift, core_shift, threads, logical;
};

struct cpus_work {
	uint64_t sum;
	uint64_t once[SMP_MAX];
	struct cpu_facts facts[SMP_MAX];
};

static void cpus_read_facts(struct cpu_facts *facts)
{
	facts->apic = apic_id();
	facts->initial = cpu_cpuid(1, 0).ebx >> 24;
	facts->x2 = cpu_cpuid(LEAF_TOPO, 0).edx;
	for (uint32_t i = 0; i < 8; i++) {
		struct cpu_id id = cpu_cpuid(LEAF_TOPO, i);
		uint32_t level = id.ecx >> 8 & 0xff;

		if (level == 0)
			break;
		if (level == LEVEL_THREAD) {
			facts->thread_shift = id.eax & 0x1f;
			facts->threads = id.ebx & 0xffff;
		} else {
			/* the last level's shift leads to the package */
			facts->core_shift = id.eax & 0x1f;
			facts->logical = id.ebx & 0xffff;
		}
	}
}

static void cpus_work(void *arg, unsigned int cpu)
{
	struct cpus_work *work = arg;

	for (unsigned int i = 0; i < ADDS; i++)
		__atomic_add_fetch(&work->sum, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&work->once[cpu], 1, __ATOMIC_RELAXED);
	cpus_read_facts(&work->facts[cpu]);
}

static void cpus_check_topology(const struct cpus_work *work, unsigned int count)
{
	uint64_t cores = arg_number("cores", 0), threads = arg_number("threads", 1);
	uint64_t sockets = arg_number("sockets", 1);
	uint32_t packages = 0;
	bool same = true;

	for (unsigned int i = 0; i < count; i++) {
		const struct cpu_facts *f = &work->facts[i];
		bool first = true;

		same = same && f->threads == threads && f->logical == threads * cores;
		for (unsigned int j = 0; j < i; j++)
			first = first && f->x2 >> f->core_shift !=
						 work->facts[j].x2 >> work->facts[j].core_shift;
		packages += first;
	}
	check(same, "cpus-topology", "leaf 0xB gives %u threads a core, %u processors a package",
	      work->facts[0].threads, work->facts[0].logical);
	check_equal(packages, sockets, "cpus-packages");
}

/* "told 306c4 GenuineIntel Intel Core Processor (Haswell)" */
static void cpus_tell(void)
{
	struct cpu_id id = cpu_cpuid(0, 0);
	const uint32_t vendor[4] = {id.ebx, id.edx, id.ecx, 0};
	uint32_t name[13] = {0};

	for (uint32_t i = 0; i < LEAVES_NAME; i++) {
		id = cpu_cpuid(LEAF_NAME + i, 0);
		name[4 * i] = id.eax;
		name[4 * i + 1] = id.ebx;
		name[4 * i + 2] = id.ecx;
		name[4 * i + 3] = id.edx;
	}
	console_printf("told %x %s %s\n", cpu_cpuid(1, 0).eax, (const char *)vendor,
		       (const char *)name);
}

void test_cpus(void)
{
	static struct cpus_work work;
	unsigned int count = smp_start();
	bool ids = true, unique = true, once = true;

	if (!check_equal(count, arg_number("cpus", 1), "cpus-online"))
		return;
	check(smp_run(cpus_work, &work), "cpus-run", "a processor did not finish");
	cpus_work(&work, 0);
	check_equal(work.sum, (uint64_t)count * ADDS, "cpus-atomic-sum");
	for (unsigned int i = 0; i < count; i++) {
		const struct cpu_facts *f = &work.facts[i];

		console_printf("cpu %u apic %u initial %u x2 %u shifts %u %u\n", i, f->apic,
			       f->initial, f->x2, f->thread_shift, f->core_shift);
		once = once && work.once[i] == 1;
		ids = ids && f->apic == smp_cpu(i)->apic_id && f->initial == (f->apic & 0xff) &&
		      f->x2 == f->apic;
		for (unsigned int j = 0; j < i; j++)
			unique = unique && f->apic != work.facts[j].apic;
	}
	cpus_tell();
	check(once, "cpus-once", "a processor did not run the work exactly once");
	check(ids, "cpus-ids", "APIC id, MADT and CPUID differ");
	check(unique, "cpus-unique", "two processors have one id");
	if (arg_text("cores") != NULL)
		cpus_check_topology(&work, count);
}

static bool timer_wait(unsigned int vector, uint64_t count)
{
	uint64_t start = cpu_ticks();

	/* a periodic tick on another vector would hide a lost interrupt: HLT alone would hang */
	cpu_interrupts_on();
	while (trap_count(vector) < count && cpu_ticks() - start < CPU_PATIENCE)
		cpu_relax();
	cpu_interrupts_off();
	return trap_count(vector) >= count;
}

void test_timer(void)
{
	uint64_t before = cpu_ticks(), one;

	check(cpu_ticks() > before, "timer-tsc", "the time-stamp counter stands still");
	apic_timer(TIMER_COUNT, false, TIMER_VECTOR);
	check(timer_wait(TIMER_VECTOR, 1), "timer-one-shot", "no interrupt");
	check_equal(apic_timer_left(), 0, "timer-one-shot-left");
	one = cpu_ticks() - before;
	apic_timer(TIMER_COUNT, true, TIMER_VECTOR);
	check(timer_wait(TIMER_VECTOR, 4), "timer-periodic", "%lu interrupts of 4",
	      trap_count(TIMER_VECTOR));
	apic_timer(0, false, TIMER_VECTOR);
	apic_timer(TIMER_COUNT, false, TIMER_VECTOR);
	while (trap_count(TIMER_VECTOR) < 5)
		cpu_sleep(); /* a lost wake-up hangs here and the run's time limit tells */
	check(true, "timer-hlt", "unreachable");
	if ((cpu_cpuid(1, 0).ecx & TSC_DEADLINE) == 0)
		return;
	apic_timer_deadline_mode(TIMER_VECTOR + 1);
	before = cpu_ticks();
	cpu_wrmsr(CPU_MSR_TSC_DEADLINE, before + one);
	check(timer_wait(TIMER_VECTOR + 1, 1), "timer-deadline", "no interrupt");
	check(cpu_ticks() - before >= one, "timer-deadline-late-enough", "came too early");
	check_equal(cpu_rdmsr(CPU_MSR_TSC_DEADLINE), 0, "timer-deadline-disarmed");
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All processors at once.
 *
 *	storm		every processor stores into closed blocks until a line comes in:
 *			"storm: begins", then "storm writes=N"
 *	race BLOCK ROUNDS LOOK
 *			the other processors store into BLOCK in a loop, whatever becomes of it, and count
 *			in an open block beside it; this one plugs and unplugs BLOCK so often. Each
 *			LOOK rounds it prints "race look ROUND" while BLOCK is unplugged and waits for a
 *			line. At the end: "race rounds=N writes=N kept=N stale=N lost=N answers=N"
 *	    kept	words that were found in BLOCK before it was unplugged: how hard it was tried
 *	    stale	words that were there after a plug but were written before it, or that were
 *			there at all while it was unplugged
 *	    lost	additions to the open blocks that got lost
 *	    answers	requests that were not acknowledged
 *	race-walk BLOCK ROUNDS LOOK
 *			the same, but they walk page tables in BLOCK, with loads and stores
 *
 * I1  What a racing processor stores is a sequence number that it published first. So a word that
 *     is older than what was published when a plug was asked for was stored before the plug.
 */
#include "attack.h"
#include "lib/check.h"
#include "lib/console.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/smp.h"
#include "lib/text.h"
#include "lib/trap.h"

#define RACE_WORDS    64u   /* places in the block that are stored to */
#define RACE_PATIENCE 1000u /* milliseconds are waited for, not seconds */
#define STORM_BURST   64u
#define RACE_LOCKED   32u /* one store in so many is a locked one */
#define PTE_TABLE     0x3ull
#define RACE_GVA      0x500000000000ull

extern uint64_t page_pml4[512];

struct race_cpu {
	uint64_t published, writes, added;
	uint64_t pad[5];
};

struct race {
	struct attack *attack;
	uint64_t gpa, stride; /* of the words in the block */
	uint64_t beside;      /* an open block, 8 bytes for each processor from here */
	bool stop;
	struct race_cpu cpus[SMP_MAX];
	/* results */
	uint64_t rounds, kept, stale, answers;
};

static uint64_t race_published(const uint64_t *published)
{
	return __atomic_load_n(published, __ATOMIC_SEQ_CST);
}

static bool race_stopped(const struct race *race)
{
	return __atomic_load_n(&race->stop, __ATOMIC_ACQUIRE);
}

/* Each processor has a word of its own at each place. */
static void race_store(void *arg, unsigned int cpu)
{
	struct race *race = arg;
	struct race_cpu *self = &race->cpus[cpu];
	uint64_t beside = race->beside + 8 * cpu;

	while (!race_stopped(race)) {
		uint64_t seq = ++self->writes;
		uint64_t gpa = race->gpa + seq % RACE_WORDS * race->stride + 8 * cpu;

		__atomic_store_n(&self->published, seq, __ATOMIC_SEQ_CST);
		if (seq % RACE_LOCKED == 0)
			__asm__ volatile("xchgq %0, (%1)" : "+r"(seq) : "r"(gpa) : "memory");
		else
			cpu_store64(gpa, seq);
		__asm__ volatile("lock incq (%0)" : : "r"(beside) : "memory", "cc");
		self->added++;
	}
}

/* Words of any processor in the block: how many there are, and how many are older than @since. */
static void race_look(struct race *race, const uint64_t *since, uint64_t *ret_stale)
{
	for (unsigned int i = 0; i < RACE_WORDS; i++) {
		for (unsigned int cpu = 1; cpu < smp_count(); cpu++) {
			uint64_t word = cpu_load64(race->gpa + i * race->stride + 8 * cpu);

			if (word == 0)
				continue;
			if (since == NULL)
				race->kept++;
			else if (word < since[cpu])
				++*ret_stale;
		}
	}
}

/* Wait for a word of somebody: a race that nobody runs is none. */
static void race_wait_store(struct race *race)
{
	uint64_t start = cpu_ticks(), before = race->kept;

	while (race->kept == before && cpu_ticks() - start < CPU_PATIENCE / RACE_PATIENCE)
		race_look(race, NULL, NULL);
}

static void race_round(struct race *race, unsigned int block)
{
	uint64_t since[SMP_MAX];

	for (unsigned int cpu = 1; cpu < smp_count(); cpu++)
		since[cpu] = race_published(&race->cpus[cpu].published);
	race->answers += attack_plug(race->attack, block, 1) != VMEM_RESP_ACK;
	race_look(race, since, &race->stale);
	race_wait_store(race);
	race->answers += attack_unplug(race->attack, block, 1) != VMEM_RESP_ACK;
	/* nothing at all may be there now, however new */
	for (unsigned int cpu = 1; cpu < smp_count(); cpu++)
		since[cpu] = UINT64_MAX;
	race_look(race, since, &race->stale);
}

static void race_wait_host(uint64_t round)
{
	char line[LINES_MAX];

	console_printf("race look %lu\n", round);
	attack_wait_line(line);
}

static void attack_race(struct attack *a, unsigned int block, uint64_t rounds, uint64_t look)
{
	static struct race race;
	uint64_t writes = 0, lost = 0;
	unsigned int beside = block == 0 ? 1 : block - 1;

	memset(&race, 0, sizeof(race));
	race.attack = a;
	race.gpa = attack_gpa(a, block);
	race.stride = a->vmem->block_size / RACE_WORDS & ~63ull;
	race.beside = attack_gpa(a, beside) + a->vmem->block_size / 2;
	for (unsigned int cpu = 1; cpu < smp_count(); cpu++)
		cpu_store64(race.beside + 8 * cpu, 0);
	smp_begin(race_store, &race);
	for (race.rounds = 0; race.rounds < rounds && race.answers == 0; race.rounds++) {
		race_round(&race, block);
		if (look != 0 && race.rounds % look == look - 1)
			race_wait_host(race.rounds);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
	check(smp_end(), "race-end", "a processor does not come back");
	for (unsigned int cpu = 1; cpu < smp_count(); cpu++) {
		writes += race.cpus[cpu].writes;
		lost += race.cpus[cpu].added - cpu_load64(race.beside + 8 * cpu);
	}
	attack_fill(a, beside);
	console_printf("race rounds=%lu writes=%lu kept=%lu stale=%lu lost=%lu answers=%lu\n",
		       race.rounds, writes, race.kept, race.stale, lost, race.answers);
}

static void race_walk_access(void *arg)
{
	uint64_t n = *(uint64_t *)arg;
	uint64_t gva = RACE_GVA + (n % 512) * MEM_PAGE_BYTES;

	if (n % 2 == 0)
		cpu_load64(gva);
	else
		cpu_store64(gva, n);
}

/* One processor only: exceptions can be caught on one at a time. */
static void race_walk(void *arg, unsigned int cpu)
{
	struct race *race = arg;
	struct race_cpu *self = &race->cpus[cpu];
	struct trap_fault fault;

	while (cpu == 1 && !race_stopped(race)) {
		self->writes++;
		cpu_flush_tlb();
		if (trap_try(race_walk_access, &self->writes, &fault))
			__atomic_add_fetch(&self->added, 1, __ATOMIC_SEQ_CST);
	}
}

/* Until the other processor used the table, or gave up on it. */
static void race_wait_use(const struct race *race)
{
	uint64_t before = race_published(&race->cpus[1].added), start = cpu_ticks();

	while (race_published(&race->cpus[1].added) - before < 3 &&
	       cpu_ticks() - start < CPU_PATIENCE / RACE_PATIENCE)
		cpu_relax();
}

static void attack_race_walk(struct attack *a, unsigned int block, uint64_t rounds, uint64_t look)
{
	static struct race race;
	uint64_t *pdpt = mem_pages(1), *pd = mem_pages(1), page = (uint64_t)mem_pages(1);

	memset(&race, 0, sizeof(race));
	race.gpa = attack_gpa(a, block);
	pd[RACE_GVA >> 21 & 511] = race.gpa | PTE_TABLE;
	pdpt[RACE_GVA >> 30 & 511] = (uint64_t)pd | PTE_TABLE;
	page_pml4[RACE_GVA >> 39 & 511] = (uint64_t)pdpt | PTE_TABLE;
	smp_begin(race_walk, &race);
	for (race.rounds = 0; race.rounds < rounds && race.answers == 0; race.rounds++) {
		race.answers += attack_plug(a, block, 1) != VMEM_RESP_ACK;
		for (unsigned int i = 0; i < 512; i++)
			cpu_store64(race.gpa + 8 * i, page | PTE_TABLE);
		race_wait_use(&race);
		race.answers += attack_unplug(a, block, 1) != VMEM_RESP_ACK;
		race.stale += cpu_load64(race.gpa + race.rounds % 512 * 8) != 0;
		if (look != 0 && race.rounds % look == look - 1)
			race_wait_host(race.rounds);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
	check(smp_end(), "race-end", "a processor does not come back");
	page_pml4[RACE_GVA >> 39 & 511] = 0;
	cpu_flush_tlb();
	console_printf("race-walk rounds=%lu writes=%lu kept=%lu stale=%lu lost=0 answers=%lu\n",
		       race.rounds, race.cpus[1].writes, race.cpus[1].added, race.stale,
		       race.answers);
}

/* A burst of stores, each somewhere else in the closed blocks. */
static void storm_burst(struct race *race, unsigned int cpu)
{
	const struct attack *a = race->attack;
	struct race_cpu *self = &race->cpus[cpu];
	uint64_t bytes = a->blocks * a->vmem->block_size;

	for (unsigned int i = 0; i < STORM_BURST; i++) {
		uint64_t n = ++self->added * 0x9e3779b97f4a7c15ull + cpu;
		uint64_t gpa = a->vmem->addr + ((n >> 8) % bytes & ~7ull);

		if (!attack_is_closed(a, gpa))
			continue;
		self->writes++;
		if (n % 2 == 0)
			cpu_store64(gpa, ATTACK_SECRET);
		else
			__asm__ volatile("lock incq (%0)" : : "r"(gpa) : "memory", "cc");
	}
}

static void storm_work(void *arg, unsigned int cpu)
{
	struct race *race = arg;

	while (!race_stopped(race))
		storm_burst(race, cpu);
}

static void attack_storm(struct attack *a)
{
	static struct race race;
	char line[LINES_MAX];
	uint64_t writes = 0;

	memset(&race, 0, sizeof(race));
	race.attack = a;
	smp_begin(storm_work, &race);
	console_printf("storm: begins\n");
	cpu_interrupts_off();
	while (!lines_get(line))
		storm_burst(&race, 0);
	__atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
	check(smp_end(), "storm-end", "a processor does not come back");
	for (unsigned int cpu = 0; cpu < smp_count(); cpu++)
		writes += race.cpus[cpu].writes;
	console_printf("storm writes=%lu\n", writes);
}

bool attack_race_order(struct attack *a, const struct attack_order *order)
{
	uint64_t block = order->value[0];

	if (strcmp(order->verb, "storm") == 0) {
		attack_storm(a);
		return true;
	}
	if (order->nr_values != 3 || block >= a->blocks)
		return false;
	if (strcmp(order->verb, "race") == 0)
		attack_race(a, (unsigned int)block, order->value[1], order->value[2]);
	else if (strcmp(order->verb, "race-walk") == 0)
		attack_race_walk(a, (unsigned int)block, order->value[1], order->value[2]);
	else
		return false;
	return true;
}

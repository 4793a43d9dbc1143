/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loads and stores of every width and kind (Intel SDM volume 2), at closed blocks and across their
 * borders.
 *
 *	kinds		"kinds NAME..." of those below
 *	probe KIND	use it on ordinary memory: "probe KIND ok". Not every KVM knows every
 *			instruction where it interprets the guest: then the machine stops here
 *	hit KIND	each closed block (of very many: those beside open ones, and some): at its start,
 *			off its middle, at its end; each border between an open and a closed block:
 *			across it. Afterwards the closed bytes
 *			must be zero, and so must what was read:
 *			"hit KIND blocks=N borders=N faults=N wrong=N"
 *
 * I1  Each kind touches its `size` bytes from an address on, and these alone. What it found there
 *     (all of it or'ed together) is its result; 0 for those that do not read.
 * I2  Interrupts are off while a kind has borrowed the stack pointer.
 */
#include <stddef.h>

#include "attack.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/trap.h"

#define HIT_BLOCKS 64u /* far from open ones that are hit, about */
#define CR0_MP     (1ull << 1)
#define CR0_EM     (1ull << 2)
#define CR4_OSFXSR (1ull << 9)
#define CPUID_SSE2 (1u << 26)

struct attack_kind {
	const char *name;
	uint64_t (*fn)(uint64_t gpa);
	uint16_t size, align;
	bool writes;
	bool sse; /* CPUID must have it */
};

/* A store, and a read-modify-write whose register then holds what was there. */
#define STORE(name, insn, reg)                                  \
	static uint64_t name(uint64_t gpa)                      \
	{                                                       \
		__asm__ volatile(insn " " reg ", (%1)"          \
				 :                              \
				 : "a"(ATTACK_SECRET), "r"(gpa) \
				 : "memory", "cc");             \
		return 0;                                       \
	}
#define SWAP(name, insn, reg, type)                                                                \
	static uint64_t name(uint64_t gpa)                                                         \
	{                                                                                          \
		uint64_t value = ATTACK_SECRET;                                                    \
                                                                                                   \
		__asm__ volatile(insn " " reg ", (%1)" : "+a"(value) : "r"(gpa) : "memory", "cc"); \
		return (type)value;                                                                \
	}
#define LOAD(name, insn, reg)                                                                   \
	static uint64_t name(uint64_t gpa)                                                      \
	{                                                                                       \
		uint64_t value = 0;                                                             \
                                                                                                \
		__asm__ volatile(insn " (%1), " reg : "+a"(value) : "r"(gpa) : "memory", "cc"); \
		return value;                                                                   \
	}
#define ALONE(name, insn)                                             \
	static uint64_t name(uint64_t gpa)                            \
	{                                                             \
		__asm__ volatile(insn : : "r"(gpa) : "memory", "cc"); \
		return 0;                                             \
	}

/* clang-format off */
STORE(kind_mov1, "movb", "%%al")
STORE(kind_mov2, "movw", "%%ax")
STORE(kind_mov4, "movl", "%%eax")
STORE(kind_mov8, "movq", "%%rax")
STORE(kind_movnti, "movnti", "%%rax")
STORE(kind_add, "lock addq", "%%rax")
STORE(kind_or, "lock orb", "%%al")
STORE(kind_xor, "xorl", "%%eax")
SWAP(kind_xchg1, "xchgb", "%%al", uint8_t)
SWAP(kind_xchg4, "xchgl", "%%eax", uint32_t)
SWAP(kind_xchg8, "xchgq", "%%rax", uint64_t)
SWAP(kind_xadd, "lock xaddq", "%%rax", uint64_t)
ALONE(kind_movi, "movl $0x5ec2e7c0, (%0)")
ALONE(kind_inc, "lock incl (%0)")
ALONE(kind_dec, "decw (%0)")
ALONE(kind_not, "notq (%0)")
ALONE(kind_bts, "lock btsq $5, (%0)")
LOAD(kind_read1, "movb", "%%al")
LOAD(kind_read2, "movw", "%%ax")
LOAD(kind_read4, "movl", "%%eax")
LOAD(kind_read8, "movq", "%%rax")
LOAD(kind_readz, "movzwl", "%%eax")
LOAD(kind_reado, "orq", "%%rax")
/* clang-format on */

static uint64_t kind_cmpxchg4(uint64_t gpa)
{
	uint32_t found = 0;

	__asm__ volatile("lock cmpxchgl %k2, (%1)"
			 : "+a"(found)
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "memory", "cc");
	return found;
}

static uint64_t kind_cmpxchg8(uint64_t gpa)
{
	uint64_t found = 0;

	__asm__ volatile("lock cmpxchgq %2, (%1)"
			 : "+a"(found)
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "memory", "cc");
	return found;
}

static uint64_t kind_stosb(uint64_t gpa)
{
	uint64_t count = 24;

	__asm__ volatile("rep stosb" : "+D"(gpa), "+c"(count) : "a"(ATTACK_SECRET) : "memory");
	return 0;
}

static uint64_t kind_stosq(uint64_t gpa)
{
	uint64_t count = 6;

	__asm__ volatile("rep stosq" : "+D"(gpa), "+c"(count) : "a"(ATTACK_SECRET) : "memory");
	return 0;
}

static uint64_t kind_movsb(uint64_t gpa)
{
	uint8_t from[24];
	const uint8_t *source = from;
	uint64_t count = sizeof(from);

	memset(from, 0x5e, sizeof(from));
	__asm__ volatile("rep movsb" : "+D"(gpa), "+S"(source), "+c"(count) : : "memory");
	return 0;
}

/* From closed memory to closed memory, eight bytes on. */
static uint64_t kind_movsq(uint64_t gpa)
{
	uint64_t source = gpa, to = gpa + 8;

	__asm__ volatile("movsq" : "+D"(to), "+S"(source) : : "memory");
	return 0;
}

static uint64_t kind_push(uint64_t gpa)
{
	__asm__ volatile("movq %%rsp, %%rbx; leaq 8(%0), %%rsp; pushq %1; movq %%rbx, %%rsp"
			 :
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "rbx", "memory");
	return 0;
}

static uint64_t kind_pushf(uint64_t gpa)
{
	__asm__ volatile("movq %%rsp, %%rbx; leaq 8(%0), %%rsp; pushfq; movq %%rbx, %%rsp"
			 :
			 : "r"(gpa)
			 : "rbx", "memory");
	return 0;
}

/* The return address of a call. */
static uint64_t kind_call(uint64_t gpa)
{
	__asm__ volatile("movq %%rsp, %%rbx; leaq 8(%0), %%rsp; call 1f\n1:\tmovq %%rbx, %%rsp"
			 :
			 : "r"(gpa)
			 : "rbx", "memory");
	return 0;
}

static uint64_t kind_popm(uint64_t gpa)
{
	__asm__ volatile("pushq %1; popq (%0)" : : "r"(gpa), "r"(ATTACK_SECRET) : "memory");
	return 0;
}

static uint64_t kind_movups(uint64_t gpa)
{
	__asm__ volatile("movq %1, %%xmm0; punpcklqdq %%xmm0, %%xmm0; movups %%xmm0, (%0)"
			 :
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "memory");
	return 0;
}

static uint64_t kind_movaps(uint64_t gpa)
{
	__asm__ volatile("movq %1, %%xmm0; movaps %%xmm0, (%0)"
			 :
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "memory");
	return 0;
}

static uint64_t kind_movntps(uint64_t gpa)
{
	__asm__ volatile("movq %1, %%xmm0; movntps %%xmm0, (%0)"
			 :
			 : "r"(gpa), "r"(ATTACK_SECRET)
			 : "memory");
	return 0;
}

static uint64_t kind_readups(uint64_t gpa)
{
	uint64_t low, high;

	__asm__ volatile("movups (%2), %%xmm0; movq %%xmm0, %0; psrldq $8, %%xmm0; movq %%xmm0, %1"
			 : "=r"(low), "=r"(high)
			 : "r"(gpa)
			 : "memory");
	return low | high;
}

static uint64_t kind_lods(uint64_t gpa)
{
	uint64_t all = 0;

	for (unsigned int i = 0; i < 3; i++) {
		uint64_t value;

		__asm__ volatile("lodsq" : "=a"(value), "+S"(gpa) : : "memory");
		all |= value;
	}
	return all;
}

static uint64_t kind_copy(uint64_t gpa)
{
	uint64_t copy[4] = {~0ull, ~0ull, ~0ull, ~0ull}, *to = copy, count = sizeof(copy);

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(gpa), "+c"(count) : : "memory");
	return copy[0] | copy[1] | copy[2] | copy[3];
}

/* How many bytes are not zero: where the scan for one ended. */
static uint64_t kind_scas(uint64_t gpa)
{
	uint64_t count = 16;
	uint8_t equal;

	__asm__ volatile("testl %%eax, %%eax; repe scasb; sete %2"
			 : "+D"(gpa), "+c"(count), "=r"(equal)
			 : "a"(0)
			 : "memory", "cc");
	return equal ? count : count + 1;
}

static uint64_t kind_pop(uint64_t gpa)
{
	uint64_t value;

	__asm__ volatile("movq %%rsp, %%rbx; movq %1, %%rsp; popq %0; movq %%rbx, %%rsp"
			 : "=&r"(value)
			 : "r"(gpa)
			 : "rbx", "memory");
	return value;
}

static const struct attack_kind kinds[] = {
	{"mov1", kind_mov1, 1, 1, true, false},
	{"mov2", kind_mov2, 2, 1, true, false},
	{"mov4", kind_mov4, 4, 1, true, false},
	{"mov8", kind_mov8, 8, 1, true, false},
	{"movi", kind_movi, 4, 1, true, false},
	{"movnti", kind_movnti, 8, 1, true, true},
	{"stosb", kind_stosb, 24, 1, true, false},
	{"stosq", kind_stosq, 48, 1, true, false},
	{"movsb", kind_movsb, 24, 1, true, false},
	{"movsq", kind_movsq, 16, 1, true, false},
	{"xchg1", kind_xchg1, 1, 1, true, false},
	{"xchg4", kind_xchg4, 4, 1, true, false},
	{"xchg8", kind_xchg8, 8, 1, true, false},
	{"cmpxchg4", kind_cmpxchg4, 4, 1, true, false},
	{"cmpxchg8", kind_cmpxchg8, 8, 1, true, false},
	{"xadd", kind_xadd, 8, 1, true, false},
	{"add", kind_add, 8, 1, true, false},
	{"or", kind_or, 1, 1, true, false},
	{"xor", kind_xor, 4, 1, true, false},
	{"inc", kind_inc, 4, 1, true, false},
	{"dec", kind_dec, 2, 1, true, false},
	{"not", kind_not, 8, 1, true, false},
	{"bts", kind_bts, 8, 1, true, false},
	{"push", kind_push, 8, 1, true, false},
	{"pushf", kind_pushf, 8, 1, true, false},
	{"call", kind_call, 8, 1, true, false},
	{"popm", kind_popm, 8, 1, true, false},
	{"movups", kind_movups, 16, 1, true, true},
	{"movaps", kind_movaps, 16, 16, true, true},
	{"movntps", kind_movntps, 16, 16, true, true},
	{"read1", kind_read1, 1, 1, false, false},
	{"read2", kind_read2, 2, 1, false, false},
	{"read4", kind_read4, 4, 1, false, false},
	{"read8", kind_read8, 8, 1, false, false},
	{"readz", kind_readz, 2, 1, false, false},
	{"reado", kind_reado, 8, 1, false, false},
	{"lods", kind_lods, 24, 1, false, false},
	{"copy", kind_copy, 32, 1, false, false},
	{"scas", kind_scas, 16, 1, false, false},
	{"pop", kind_pop, 8, 1, false, false},
	{"readups", kind_readups, 16, 1, false, true},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct hit {
	const struct attack *attack;
	const struct attack_kind *kind;
	uint64_t gpa, found;
	unsigned int blocks, borders, faults, wrong;
	uint64_t first_wrong;
};

static const struct attack_kind *kind_find(const char *name)
{
	for (unsigned int i = 0; name != NULL && i < KINDS; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

static bool kind_is_there(const struct attack_kind *kind)
{
	return !kind->sse || (cpu_cpuid(1, 0).edx & CPUID_SSE2) != 0;
}

static void kind_prepare(const struct attack_kind *kind)
{
	if (!kind->sse)
		return;
	cpu_set_cr0((cpu_cr0() & ~CR0_EM) | CR0_MP);
	cpu_set_cr4(cpu_cr4() | CR4_OSFXSR);
}

static void hit_run(void *arg)
{
	struct hit *hit = arg;

	hit->found = hit->kind->fn(hit->gpa);
}

static void hit_is_wrong(struct hit *hit, uint64_t gpa)
{
	if (hit->wrong++ == 0)
		hit->first_wrong = gpa;
}

/* The closed bytes among those that were hit, eight at a time where they begin at such a place. */
static void hit_read_back(struct hit *hit)
{
	uint64_t start = hit->gpa & ~7ull, end = hit->gpa + hit->kind->size;

	for (uint64_t gpa = start; gpa < end; gpa += 8)
		if (attack_is_closed(hit->attack, gpa) && cpu_load64(gpa) != 0)
			hit_is_wrong(hit, gpa);
}

/* @border: open memory is within reach, so that what is found there may be anything. */
static void hit_at(struct hit *hit, uint64_t gpa, bool border)
{
	struct trap_fault fault;

	hit->gpa = gpa & ~(uint64_t)(hit->kind->align - 1);
	hit->found = 0;
	if (!trap_try(hit_run, hit, &fault))
		hit->faults++;
	else if (!border && hit->found != 0)
		hit_is_wrong(hit, hit->gpa);
	hit_read_back(hit);
}

static bool hit_is_beside(const struct attack *a, unsigned int block)
{
	return (block > 0 && a->open[block - 1]) || (block + 1 < a->blocks && a->open[block + 1]);
}

static void hit_blocks(struct hit *hit)
{
	const struct attack *a = hit->attack;
	uint64_t bs = a->vmem->block_size;
	unsigned int every = a->blocks / HIT_BLOCKS + 1;

	for (unsigned int i = 0; i < a->blocks; i++) {
		uint64_t gpa = attack_gpa(a, i);

		if (a->open[i] || (i % every != 0 && !hit_is_beside(a, i)))
			continue;
		hit->blocks++;
		hit_at(hit, gpa, false);
		hit_at(hit, gpa + bs / 2 + 1, false);
		hit_at(hit, gpa + bs - hit->kind->size, false);
	}
}

/* An access of one byte cannot lie across anything: it is done on both sides. */
static void hit_borders(struct hit *hit)
{
	const struct attack *a = hit->attack;
	unsigned int half = hit->kind->size / 2;

	for (unsigned int i = 1; i < a->blocks; i++) {
		uint64_t gpa = attack_gpa(a, i);

		if (a->open[i - 1] == a->open[i])
			continue;
		hit->borders++;
		hit_at(hit, gpa - half, true);
		if (hit->kind->align > 1)
			hit_at(hit, gpa - hit->kind->size, true);
		if (!hit->kind->writes)
			continue;
		attack_fill_edges(a, a->open[i] ? i : i - 1);
	}
}

static void attack_hit(const struct attack *a, const struct attack_kind *kind)
{
	struct hit hit = {.attack = a, .kind = kind};

	kind_prepare(kind);
	cpu_interrupts_off();
	hit_blocks(&hit);
	hit_borders(&hit);
	console_printf("hit %s blocks=%u borders=%u faults=%u wrong=%u", kind->name, hit.blocks,
		       hit.borders, hit.faults, hit.wrong);
	if (hit.wrong != 0)
		console_printf(" first=0x%lx", hit.first_wrong - a->vmem->addr);
	console_printf("\n");
}

static void attack_probe(const struct attack_kind *kind)
{
	struct hit hit = {.kind = kind, .gpa = (uint64_t)mem_pages(1)};
	struct trap_fault fault;

	kind_prepare(kind);
	cpu_interrupts_off();
	if (trap_try(hit_run, &hit, &fault))
		console_printf("probe %s ok\n", kind->name);
	else
		console_printf("probe %s vector=%lu\n", kind->name, fault.vector);
}

bool attack_cpu_order(struct attack *a, const struct attack_order *order)
{
	const struct attack_kind *kind = kind_find(order->name);

	if (strcmp(order->verb, "kinds") == 0) {
		console_printf("kinds");
		for (unsigned int i = 0; i < KINDS; i++)
			if (kind_is_there(&kinds[i]))
				console_printf(" %s", kinds[i].name);
		console_printf("\n");
	} else if (kind == NULL) {
		return false;
	} else if (strcmp(order->verb, "probe") == 0) {
		attack_probe(kind);
	} else if (strcmp(order->verb, "hit") == 0) {
		attack_hit(a, kind);
	} else {
		return false;
	}
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the processor does by itself in closed blocks: it walks page tables there, sets accessed and
 * dirty bits, fetches instructions, pushes exception frames (Intel SDM volume 3, chapters 4 and 6).
 *
 *	walk BLOCK	let BLOCK hold a page table, and load and store through it. If the block is
 *			open its entries are good, without accessed and dirty bits; it is then
 *			unplugged and used again: "walk open=N before=WORD read=WORD write=WORD", each
 *			"secret" (the right page was reached), "zero", "fault" or "other"
 *	shot HOW BLOCK	what a guest may not survive; if it does: "shot HOW survived"
 *	    sidt	store the descriptor table's register there: KVM's own interpreter of
 *			instructions has no way to let that leave the guest
 *	    fxsave	store the floating-point registers there
 *	    cmpxchg16	exchange 16 bytes there
 *	    fetch	call into the last 16 bytes of BLOCK (the next one must be open)
 *	    jmp		jump to its start, and on
 *	    frame	take an exception on a stack in BLOCK
 *	    idt		take one with the descriptor table in BLOCK
 *	    cr3		let CR3 point at BLOCK
 *	    cr3-open	the same while it is open, with the right content, then unplug it
 */
#include <stddef.h>

#include "attack.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/trap.h"

#define PTE_TABLE  0x3ull            /* present, writable */
#define WALK_GVA   0x600000000000ull /* in no other mapping */
#define OP_RET     0xc3u
#define SHOT_FETCH 16u /* bytes of instructions */

extern uint64_t page_pml4[512];

struct walk {
	uint64_t gva, value;
	bool write;
};

static void walk_access(void *arg)
{
	struct walk *walk = arg;

	if (walk->write)
		cpu_store64(walk->gva, ATTACK_SECRET);
	else
		walk->value = cpu_load64(walk->gva);
}

static const char *walk_try(bool write)
{
	struct walk walk = {.gva = WALK_GVA, .write = write};
	struct trap_fault fault;

	cpu_flush_tlb();
	if (!trap_try(walk_access, &walk, &fault))
		return fault.vector == TRAP_PF ? "fault" : "other";
	if (write)
		return "done";
	return walk.value == ATTACK_SECRET ? "secret" : walk.value == 0 ? "zero" : "other";
}

/* Tables above the block's, in ordinary memory; the block's own entries are the caller's. */
static void walk_map(uint64_t table_gpa)
{
	static uint64_t *pdpt, *pd;

	if (pdpt == NULL) {
		pdpt = mem_pages(1);
		pd = mem_pages(1);
	}
	pd[WALK_GVA >> 21 & 511] = table_gpa | PTE_TABLE;
	pdpt[WALK_GVA >> 30 & 511] = (uint64_t)pd | PTE_TABLE;
	page_pml4[WALK_GVA >> 39 & 511] = (uint64_t)pdpt | PTE_TABLE;
}

static void attack_walk(struct attack *a, unsigned int block)
{
	uint64_t gpa = attack_gpa(a, block), *page = mem_pages(1);
	bool open = a->open[block];
	const char *before = "none", *read, *write;

	page[0] = ATTACK_SECRET;
	walk_map(gpa);
	if (open) {
		for (unsigned int i = 0; i < 512; i++)
			cpu_store64(gpa + 8 * i, (uint64_t)page | PTE_TABLE);
		before = walk_try(false);
		/* without accessed and dirty bits again, for whoever remembers the way */
		for (unsigned int i = 0; i < 512; i++)
			cpu_store64(gpa + 8 * i, (uint64_t)page | PTE_TABLE);
		cpu_flush_tlb();
		check_equal(attack_unplug(a, block, 1), VMEM_RESP_ACK, "walk-unplug");
	}
	read = walk_try(false);
	write = walk_try(true);
	page_pml4[WALK_GVA >> 39 & 511] = 0;
	cpu_flush_tlb();
	console_printf("walk open=%u before=%s read=%s write=%s\n", open, before, read, write);
}

/* A closed block reads as zeros: ADD %AL, (%RAX), two bytes each, up to the next block's RET. */
static void shot_fetch(void *arg)
{
	static uint8_t scratch[8];
	uint64_t entry = *(uint64_t *)arg;

	__asm__ volatile("call *%0" : : "r"(entry), "a"(scratch) : "memory", "cc");
}

static void shot_jmp(void *arg)
{
	static uint8_t scratch[8];
	uint64_t entry = *(uint64_t *)arg;

	__asm__ volatile("jmp *%0" : : "r"(entry), "a"(scratch) : "memory", "cc");
}

static void shot_frame(void *arg)
{
	uint64_t stack = *(uint64_t *)arg;

	__asm__ volatile("movq %0, %%rsp; ud2" : : "r"(stack) : "memory");
}

static void shot_idt(void *arg)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {4095, *(uint64_t *)arg};

	__asm__ volatile("lidt %0; ud2" : : "m"(pointer) : "memory");
}

static void shot_sidt(void *arg)
{
	__asm__ volatile("sidt (%0)" : : "r"(*(uint64_t *)arg) : "memory");
}

static void shot_fxsave(void *arg)
{
	__asm__ volatile("fxsave (%0)" : : "r"(*(uint64_t *)arg) : "memory");
}

static void shot_cmpxchg16(void *arg)
{
	uint64_t low = 0, high = 0;

	__asm__ volatile("lock cmpxchg16b (%2)"
			 : "+a"(low), "+d"(high)
			 : "r"(*(uint64_t *)arg), "b"(ATTACK_SECRET), "c"(ATTACK_SECRET)
			 : "memory", "cc");
}

static void shot_cr3(void *arg)
{
	uint64_t before = cpu_cr3();

	cpu_set_cr3(*(uint64_t *)arg);
	cpu_set_cr3(before);
}

static const struct shot {
	const char *name;
	void (*fn)(void *arg);
	bool open; /* the block is, until the attack */
} shots[] = {
	{"sidt", shot_sidt, false},
	{"fxsave", shot_fxsave, false},
	{"cmpxchg16", shot_cmpxchg16, false},
	{"fetch", shot_fetch, false},
	{"jmp", shot_jmp, false},
	{"frame", shot_frame, false},
	{"idt", shot_idt, false},
	{"cr3", shot_cr3, false},
	{"cr3-open", shot_cr3, true},
};

static const struct shot *shot_find(const char *name)
{
	for (unsigned int i = 0; i < sizeof(shots) / sizeof(shots[0]); i++)
		if (strcmp(shots[i].name, name) == 0)
			return &shots[i];
	return NULL;
}

static void attack_shot(struct attack *a, const char *how, unsigned int block)
{
	uint64_t gpa = attack_gpa(a, block), end = gpa + a->vmem->block_size, at = gpa;
	const struct shot *shot = shot_find(how);
	struct trap_fault fault;

	if (shot == NULL) {
		console_printf("attack: no shot %s\n", how);
		return;
	}
	if (shot->fn == shot_fetch) {
		at = end - SHOT_FETCH;
		*(volatile uint8_t *)end = OP_RET;
	} else if (shot->fn == shot_frame) {
		at = end;
	}
	cpu_interrupts_off();
	if (shot->open) {
		memcpy((void *)gpa, page_pml4, sizeof(page_pml4));
		cpu_set_cr3(gpa);
		attack_unplug(a, block, 1);
		cpu_flush_tlb();
	}
	trap_try(shot->fn, &at, &fault);
	console_printf("shot %s survived\n", how);
}

bool attack_walk_order(struct attack *a, const struct attack_order *order)
{
	uint64_t block = order->value[0];

	if (order->nr_values != 1 || block >= a->blocks)
		return false;
	if (strcmp(order->verb, "walk") == 0)
		attack_walk(a, (unsigned int)block);
	else if (strcmp(order->verb, "shot") == 0 && order->name != NULL)
		attack_shot(a, order->name, (unsigned int)block);
	else
		return false;
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest that touches closed memory in a present slot sees, and what the monitor sees of it,
 * on the real KVM: memory_fault of vcpu.h. Skipped where /dev/kvm cannot be opened.
 *
 * Closed memory is what mprotect() makes of it: as private memory (only writes fail) or as files that
 * cannot be watched (reads fail too). Where guest code runs on a CPU, KVM_RUN fails with
 * EFAULT and the handler lays the slot anew; where KVM interprets guest code, the access leaves the
 * guest at once. The guest, and the bus, must see the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tests/unit/kvm/region.h"

static void region_protect_closed(struct region *r, int protection)
{
	for (unsigned int i = 1; i < REGION_PAGES; i += 2)
		assert_int_equal(mprotect(r->memory + i * PAGE, PAGE, protection), 0);
}

#define DONE                 \
	"outl %eax, $0x10\n" \
	"9: hlt\n"           \
	"jmp 9b"

/* clang-format off */
GUEST(guest_moves,
      "movl $0x11223344, %eax\n"
      "movl %eax, 0x101000\n"
      "movw %ax, 0x101004\n"
      "movb %al, 0x101fff\n"
      "movb %ah, 0x103000\n"
      DONE);
GUEST(guest_fill,
      "cld\n"
      "movb $0x5a, %al\n"
      "movl $0x101010, %edi\n"
      "movl $5, %ecx\n"
      "rep stosb\n"
      DONE);
GUEST(guest_fill_across,
      "cld\n"
      "movl $0x01020304, %eax\n"
      "movl $0x100ff8, %edi\n"
      "movl $4, %ecx\n"
      "rep stosl\n"
      "movl $0x101ff8, %edi\n"
      "movl $4, %ecx\n"
      "rep stosl\n"
      DONE);
GUEST(guest_copy,
      "cld\n"
      "movl $0x77777777, 0x100000\n"
      "movl $0x88888888, 0x100004\n"
      "movl $0x100000, %esi\n"
      "movl $0x101000, %edi\n"
      "movl $2, %ecx\n"
      "rep movsl\n"
      DONE);
GUEST(guest_locked,
      "lock incl 0x101000\n"
      "movl $5, %ebx\n"
      "lock xaddl %ebx, 0x101004\n"
      "movl $6, %ebx\n"
      "xchgl %ebx, 0x101008\n"
      "xorl %eax, %eax\n"
      "movl $7, %ebx\n"
      "lock cmpxchgl %ebx, 0x10100c\n"
      "lock orb $0x40, 0x101010\n"
      DONE);
GUEST(guest_vector,
      "movl %cr4, %eax\n"
      "orl $0x600, %eax\n"
      "movl %eax, %cr4\n"
      "movl $0x11111111, 0x100000\n"
      "movl $0x22222222, 0x100004\n"
      "movl $0x33333333, 0x100008\n"
      "movl $0x44444444, 0x10000c\n"
      "movups 0x100000, %xmm0\n"
      "movups %xmm0, 0x101020\n"
      DONE);
GUEST(guest_stack,
      "movl $0x101040, %esp\n"
      "pushl $0x55555555\n"
      "call 1f\n"
      "1: movl $0x10000, %esp\n"
      DONE);
GUEST(guest_straddle,
      "movl $0xaabbccdd, 0x100ffe\n"
      "movl $0xaabbccdd, 0x101ffe\n"
      DONE);
/* Only of memory that cannot be read either. */
GUEST(guest_loads,
      "movl %cr4, %eax\n"
      "orl $0x600, %eax\n"
      "movl %eax, %cr4\n"
      "movl $0xffffffff, %eax\n"
      "movl 0x101000, %eax\n"
      "movl %eax, 0x100000\n"
      "movzwl 0x101004, %ebx\n"
      "movb 0x101fff, %cl\n"
      "cmpl $0, 0x101008\n"
      "cld\n"
      "movl $0xffffffff, 0x102000\n"
      "movl $0x101010, %esi\n"
      "movl $0x102000, %edi\n"
      "movl $2, %ecx\n"
      "rep movsb\n"
      "movups 0x101020, %xmm0\n"
      "movl $0xaabbccdd, 0x100ffc\n"
      "movl 0x100ffe, %eax\n"
      "movl %eax, 0x102010\n"
      DONE);
GUEST(guest_fetch,
      "movl $0x101000, %eax\n"
      "jmp *%eax");
/* clang-format on */

struct closed_case {
	const char *name;
	const uint8_t *code, *end;
	struct access want[12]; /* up to the first of no size */
	struct {
		uint32_t offset, value;
	} memory[4]; /* what open pages hold afterwards */
};

#define CASE(guest) .name = #guest, .code = guest, .end = guest##_end

static const struct closed_case closed_cases[] = {
	{CASE(guest_moves), .want = {{true, 0x1000, 0x11223344, 4},
				     {true, 0x1004, 0x3344, 2},
				     {true, 0x1fff, 0x44, 1},
				     {true, 0x3000, 0x33, 1}}},
	{CASE(guest_fill), .want = {{true, 0x1010, 0x5a, 1},
				    {true, 0x1011, 0x5a, 1},
				    {true, 0x1012, 0x5a, 1},
				    {true, 0x1013, 0x5a, 1},
				    {true, 0x1014, 0x5a, 1}}},
	{CASE(guest_fill_across),
	 .want = {{true, 0x1000, 0x01020304, 4},
		  {true, 0x1004, 0x01020304, 4},
		  {true, 0x1ff8, 0x01020304, 4},
		  {true, 0x1ffc, 0x01020304, 4}},
	 .memory = {{0xff8, 0x01020304},
		    {0xffc, 0x01020304},
		    {0x2000, 0x01020304},
		    {0x2004, 0x01020304}}},
	{CASE(guest_copy), .want = {{true, 0x1000, 0x77777777, 4}, {true, 0x1004, 0x88888888, 4}},
	 .memory = {{0, 0x77777777}, {4, 0x88888888}}},
	{CASE(guest_locked), .want = {{false, 0x1000, 0, 4},
				      {true, 0x1000, 1, 4},
				      {false, 0x1004, 0, 4},
				      {true, 0x1004, 5, 4},
				      {false, 0x1008, 0, 4},
				      {true, 0x1008, 6, 4},
				      {false, 0x100c, 0, 4},
				      {true, 0x100c, 7, 4},
				      {false, 0x1010, 0, 1},
				      {true, 0x1010, 0x40, 1}}},
	{CASE(guest_vector),
	 .want = {{true, 0x1020, 0x2222222211111111, 8}, {true, 0x1028, 0x4444444433333333, 8}},
	 .memory = {{0, 0x11111111}, {12, 0x44444444}}},
	{CASE(guest_stack), .want = {{true, 0x103c, 0x55555555, 4}, {true, 0x1038, 0x100f, 4}}},
	{CASE(guest_straddle), .want = {{true, 0x1000, 0xaabb, 2}, {true, 0x1ffe, 0xccdd, 2}},
	 .memory = {{0xffc, 0xccdd0000}, {0x2000, 0xaabb}}},
};

static const struct closed_case load_case = {
	CASE(guest_loads),
	.want = {{false, 0x1000, 0, 4},
		 {false, 0x1004, 0, 2},
		 {false, 0x1fff, 0, 1},
		 {false, 0x1008, 0, 4},
		 {false, 0x1010, 0, 1},
		 {false, 0x1011, 0, 1},
		 {false, 0x1020, 0, 8},
		 {false, 0x1028, 0, 8},
		 {false, 0x1000, 0, 2}},
	.memory = {{0xffc, 0xaabbccdd}, {0x2000, 0xffff0000}, {0x2010, 0x0000aabb}},
};

/* An interpreter may have read, and then given the instruction up, before it is done again. */
static void closed_drop_repeated_reads(struct recorder *seen)
{
	unsigned int n = atomic_load(&seen->n), kept = 0;

	assert_true(n <= ACCESSES_MAX);
	for (unsigned int i = 0; i < n; i++) {
		const struct access *a = &seen->access[i];
		const struct access *last = kept ? &seen->access[kept - 1] : NULL;

		if (last && !a->write && !last->write && a->offset == last->offset)
			continue;
		seen->access[kept++] = *a;
	}
	atomic_store(&seen->n, kept);
}

static void closed_check(struct region *r, const struct closed_case *c)
{
	unsigned int n = 0;

	while (n < ARRAY_SIZE(c->want) && c->want[n].size)
		n++;
	for (unsigned int i = 0; i < num_min(n, atomic_load(&r->seen.n)); i++) {
		const struct access *a = &r->seen.access[i], *want = &c->want[i];

		if (a->write != want->write || a->offset != want->offset || a->size != want->size ||
		    (a->write && a->value != want->value))
			fail_msg("%s: access %u: %s of %u bytes at %#lx: %#lx", c->name, i,
				 a->write ? "write" : "read", a->size, (unsigned long)a->offset,
				 (unsigned long)a->value);
	}
	assert_int_equal(atomic_load(&r->seen.n), n);
	for (unsigned int i = 0; i < ARRAY_SIZE(c->memory); i++) {
		uint32_t word;

		memcpy(&word, r->memory + c->memory[i].offset, sizeof(word));
		if (c->memory[i].value)
			assert_int_equal(word, c->memory[i].value);
	}
	for (unsigned int i = 1; i < REGION_PAGES; i += 2)
		for (unsigned int j = 0; j < PAGE; j++)
			assert_int_equal(r->memory[i * PAGE + j], 0);
	assert_int_equal(atomic_load(&r->open_exits), 0);
}

static void closed_start(struct region *r, const uint8_t *code, const uint8_t *end)
{
	for (unsigned int page = 0; page < REGION_PAGES; page += 2)
		memset(r->memory + page * PAGE, 0, PAGE);
	if (!region_is_whole(r))
		assert_int_equal(region_lay(r, true), 0);
	atomic_store(&r->seen.n, 0);
	atomic_store(&r->faults, 0);
	machine_load(&r->m, code, end);
	vcpus_resume(r->m.vcpus);
	while (!atomic_load(&r->m.port.n) && !atomic_load(&r->m.failures))
		sched_yield();
	vcpus_pause(r->m.vcpus);
}

static void closed_run(struct region *r, const struct closed_case *c, int protection)
{
	region_protect_closed(r, protection);
	closed_start(r, c->code, c->end);
	region_check(r);
	print_message("%s: %u faults (%s address), %u accesses left the guest\n", c->name,
		      atomic_load(&r->faults), r->fault_gpa == UINT64_MAX ? "no" : "with",
		      atomic_load(&r->seen.n));
	/* An address that is told is a closed one. */
	if (atomic_load(&r->faults) && r->fault_gpa != UINT64_MAX)
		assert_int_equal((r->fault_gpa - GUEST_REMOTE) / PAGE % 2, 1);
	if (kvm_host_has_virtualization())
		assert_int_equal(atomic_load(&r->faults), 1);
	else
		closed_drop_repeated_reads(&r->seen);
	region_protect_closed(r, PROT_READ);
	closed_check(r, c);
}

/*
 * Every kind of instruction, done again after the slot was laid anew, leaves the guest with address
 * and data, changes nothing that is closed, and does its part to what is open.
 */
static void test_closed_to_writes(void **state)
{
	struct region r;

	(void)state;
	region_init(&r, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(closed_cases); i++)
		closed_run(&r, &closed_cases[i], PROT_READ);
	region_done(&r);
}

static void test_closed_to_all(void **state)
{
	struct region r;

	(void)state;
	region_init(&r, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(closed_cases); i++)
		closed_run(&r, &closed_cases[i], PROT_NONE);
	closed_run(&r, &load_case, PROT_NONE);
	region_done(&r);
}

/* Instructions cannot come from there, however often the handler says that it helped. */
static void test_closed_to_fetches(void **state)
{
	struct region r;

	(void)state;
	region_init(&r, 1);
	region_protect_closed(&r, PROT_NONE);
	closed_start(&r, guest_fetch, guest_fetch_end);
	assert_int_equal(atomic_load(&r.m.failures), 1);
	assert_non_null(strstr(r.m.why, "0x101000"));
	assert_int_equal(atomic_load(&r.m.port.n), 0);
	region_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closed_to_writes),
		cmocka_unit_test(test_closed_to_all),
		cmocka_unit_test(test_closed_to_fetches),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: closed", tests, NULL, NULL);
}

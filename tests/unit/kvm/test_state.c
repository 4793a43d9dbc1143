/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Machines saved and loaded on the real KVM: guests go on where they were, accesses are done once,
 * interrupts that waited come, clocks go on. vcpu.h, kvm.h. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tests/unit/kvm/move.h"

static int setup(void **state)
{
	struct move *mv = malloc(sizeof(*mv));

	assert_non_null(mv);
	move_init(mv);
	*state = mv;
	return 0;
}

static int teardown(void **state)
{
	move_done(*state);
	free(*state);
	return 0;
}

/* ---- guests that go on ---- */

/* A sum of squares, all of it in registers but for what is told, each some thousand turns. */
/* clang-format off */
GUEST(guest_sum,
      "xorl %ebx, %ebx\n"
      "xorl %esi, %esi\n"
      "1: incl %ebx\n"
      "movl %ebx, %eax\n"
      "mull %ebx\n"
      "addl %eax, %esi\n"
      "movl %ebx, 0x2000\n"
      "testl $0xfff, %ebx\n"
      "jnz 1b\n"
      "movl %ebx, 0x2004\n"
      "movl %esi, %eax\n"
      "outl %eax, $0x10\n"
      "jmp 1b");
/* clang-format on */

static uint32_t sum_of_squares(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 1; i <= n; i++)
		sum += i * i;
	return sum;
}

/* The next sums that it tells; the first may be the one that it was about to tell. */
static void check_sums(struct machine *m)
{
	uint32_t at = machine_peek(m, GUEST_DATA + 4);

	atomic_store(&m->port.n, 0);
	vcpus_resume(m->vcpus);
	while (atomic_load(&m->port.n) < 3)
		sched_yield();
	vcpus_pause(m->vcpus);
	if (m->port.access[0].value != sum_of_squares(at))
		at += 0x1000;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(m->port.access[i].value, sum_of_squares(at + i * 0x1000));
}

static void test_goes_on(void **state)
{
	struct move *mv = *state;

	machine_boot(mv->from, guest_sum);
	vcpus_resume(mv->from->vcpus);
	machine_wait_change(mv->from, GUEST_DATA + 4, 0);
	machine_wait_change(mv->from, GUEST_DATA, machine_peek(mv->from, GUEST_DATA));
	vcpus_pause(mv->from->vcpus);
	move_all(mv);
	check_sums(mv->to);
	/* What was saved can go on as well, from the same place. */
	check_sums(mv->from);
}

/* Counts through a port, and again and again reads what must be there. */
/* clang-format off */
GUEST(guest_accesses,
      "xorl %ebx, %ebx\n"
      "1: incl %ebx\n"
      "movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "xorl %eax, %eax\n"
      "inl $0x10, %eax\n"
      "cmpl $0x84838281, %eax\n"
      "jne 2f\n"
      "xorl %eax, %eax\n"
      "movl 0xd0000000, %eax\n"
      "cmpl $0x84838281, %eax\n"
      "jne 2f\n"
      "incl 0x2000\n"
      "cmpl 0x2000, %ebx\n"
      "je 1b\n"
      "2: incl 0x2004\n"
      "hlt\n"
      "jmp 2b");
/* clang-format on */

#define MOVES 20

/* The last count that was told before @m told its first: @counted, or one that was under way. */
static uint32_t told_before(const struct machine *m, uint32_t counted)
{
	const struct access *first = &m->port.access[0];
	bool under_way = !first->write || first->value == counted + 2;

	return counted + under_way;
}

/* Each count is told after the one before; between two of them a value is read. */
static void check_told(const struct machine *m, uint32_t told)
{
	for (unsigned int i = 0; i < atomic_load(&m->port.n) && i < ACCESSES_MAX; i++)
		if (m->port.access[i].write)
			assert_int_equal(m->port.access[i].value, ++told);
	assert_int_equal(machine_peek(m, GUEST_DATA + 4), 0);
	assert_int_equal(atomic_load(&m->failures), 0);
}

/* Wherever it is saved, no access is lost, done twice, or without its value. */
static void test_accesses_are_whole(void **state)
{
	struct move *mv = *state;
	uint32_t told = 0;

	machine_boot(mv->from, guest_accesses);
	for (unsigned int i = 0; i < MOVES; i++) {
		vcpus_resume(mv->from->vcpus);
		machine_wait_change(mv->from, GUEST_DATA, machine_peek(mv->from, GUEST_DATA));
		vcpus_pause(mv->from->vcpus);
		check_told(mv->from, told);
		move_all(mv);
		vcpus_resume(mv->to->vcpus);
		while (!atomic_load(&mv->to->port.n))
			sched_yield();
		vcpus_pause(mv->to->vcpus);
		told = told_before(mv->to, machine_peek(mv->from, GUEST_DATA));
		move_next(mv);
	}
}

/* ---- interrupts ---- */

#define GO_ON       GUEST_DATA /* the guest waits until this is set */
#define TICKS       (GUEST_DATA + 8)
#define INTERRUPTED 0x77

/*
 * The tables for one interrupt, vector 0x30, whose handler tells it; then the local APIC is on, and the
 * 8259s are out of the way.
 */
/* clang-format off */
#define GUEST_INTERRUPTS(name) \
      "movl $0x0000ffff, 0x4008\n" \
      "movl $0x00cf9b00, 0x400c\n" \
      "movl $0x0000ffff, 0x4010\n" \
      "movl $0x00cf9300, 0x4014\n" \
      "movw $0x17, 0x4100\n" \
      "movl $0x4000, 0x4102\n" \
      "lgdt 0x4100\n" \
      "movl $(0x80000 + 0x1000 + 9f - " #name "), 0x5180\n" \
      "movl $0x8e00, 0x5184\n" \
      "movw $0x3ff, 0x4110\n" \
      "movl $0x5000, 0x4112\n" \
      "lidt 0x4110\n" \
      "movb $0xff, %al\n" \
      "outb %al, $0x21\n" \
      "outb %al, $0xa1\n" \
      "movl $0x1ff, 0xfee000f0\n"
/* Does not go back: not every KVM that interprets its guests knows how. */
#define GUEST_HANDLER \
      "9: movl $0x10000, %esp\n" \
      "movl $0x77, %eax\n" \
      "outl %eax, $0x10\n" \
      "movl $0, 0xfee000b0\n" \
      "sti\n" \
      "8: hlt\n" \
      "jmp 8b"

GUEST(guest_closed,
      GUEST_INTERRUPTS(guest_closed)
      "outl %eax, $0x10\n"
      "1: cmpl $0, 0x2000\n"
      "je 1b\n"
      "sti\n"
      "2: hlt\n"
      "jmp 2b\n"
      GUEST_HANDLER);

/* After as many ticks as it is told. */
GUEST(guest_deadline,
      GUEST_INTERRUPTS(guest_deadline)
      "movl $0x40030, 0xfee00320\n"
      "rdtsc\n"
      "addl 0x2008, %eax\n"
      "adcl 0x200c, %edx\n"
      "movl $0x6e0, %ecx\n"
      "wrmsr\n"
      "outl %eax, $0x10\n"
      "sti\n"
      "2: hlt\n"
      "jmp 2b\n"
      GUEST_HANDLER);

/* Input 5 is level-triggered and masked until it may go on. */
GUEST(guest_masked,
      GUEST_INTERRUPTS(guest_masked)
      "movl $0x1b, 0xfec00000\n"
      "movl $0, 0xfec00010\n"
      "movl $0x1a, 0xfec00000\n"
      "movl $0x18030, 0xfec00010\n"
      "outl %eax, $0x10\n"
      "sti\n"
      "1: cmpl $0, 0x2000\n"
      "je 1b\n"
      "movl $0x08030, 0xfec00010\n"
      "2: hlt\n"
      "jmp 2b\n"
      GUEST_HANDLER);
/* clang-format on */

/* Start the guest, until it says that all is ready. */
static void interrupts_boot(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	machine_load(m, code, end);
	vcpus_resume(m->vcpus);
	machine_next_out(m);
}

static void check_interrupted(struct machine *m)
{
	machine_poke(m, GO_ON, 1);
	vcpus_resume(m->vcpus);
	assert_int_equal(machine_next_out(m), INTERRUPTED);
	vcpus_pause(m->vcpus);
}

static void test_message_waits(void **state)
{
	struct move *mv = *state;
	struct hv *hv = mv->from->hv;
	struct hv_msi msi = {.fd = -1};

	assert_int_equal(hv->ops->msi_new(hv, &msi), 0);
	assert_int_equal(hv->ops->msi_route(hv, &msi, true, 0xfee00000, 0x30), 0);
	interrupts_boot(mv->from, guest_closed, guest_closed_end);
	hv_msi_trigger(&msi);
	vcpus_pause(mv->from->vcpus);
	move_all(mv);
	check_interrupted(mv->to);
	/* It waits here as well, and messages still come after kvm_vm_settle(). */
	check_interrupted(mv->from);
	hv_msi_trigger(&msi);
	check_interrupted(mv->from);
	hv->ops->msi_free(hv, &msi);
}

/* About a tenth of a second; and so many times it may be too short for a host that is busy. */
#define DEADLINE_TICKS  (UINT64_C(1) << 28)
#define DEADLINE_LONGER 8

/* Stopped before its deadline came: a longer one where the host took too long for that. */
static void deadline_boot(struct machine *m)
{
	uint64_t ticks = DEADLINE_TICKS;

	do {
		assert_true(ticks <= DEADLINE_TICKS << DEADLINE_LONGER);
		machine_boot(m, guest_deadline);
		machine_poke(m, TICKS, (uint32_t)ticks);
		machine_poke(m, TICKS + 4, (uint32_t)(ticks >> 32));
		vcpus_resume(m->vcpus);
		machine_next_out(m);
		vcpus_pause(m->vcpus);
		ticks *= 2;
	} while (atomic_load(&m->port.n) > 1);
}

static void test_deadline_comes(void **state)
{
	struct move *mv = *state;

	if (!kvm_vm_capability(mv->from->kvm, KVM_CAP_TSC_DEADLINE_TIMER))
		skip();
	deadline_boot(mv->from);
	move_all(mv);
	check_interrupted(mv->to);
	assert_int_equal(atomic_load(&mv->to->port.n), 1);
	check_interrupted(mv->from);
}

/* A device whose line is high drives it again, before the controllers are loaded. */
static void test_line_stays_high(void **state)
{
	struct move *mv = *state;

	interrupts_boot(mv->from, guest_masked, guest_masked_end);
	hv_line_set(mv->from->hv, 5, true);
	vcpus_pause(mv->from->vcpus);
	hv_line_set(mv->to->hv, 5, true);
	move_all(mv);
	check_interrupted(mv->to);
	hv_line_set(mv->to->hv, 5, false);
}

static void test_controllers_are_the_same(void **state)
{
	static const uint32_t ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
				       KVM_IRQCHIP_IOAPIC};
	struct move *mv = *state;

	interrupts_boot(mv->from, guest_masked, guest_masked_end);
	vcpus_pause(mv->from->vcpus);
	hv_line_set(mv->from->hv, 3, true);
	hv_line_set(mv->from->hv, 3, false);
	hv_line_set(mv->from->hv, 12, true);
	hv_line_set(mv->from->hv, 12, false);
	move_all(mv);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct kvm_irqchip from = {.chip_id = ids[i]}, to = {.chip_id = ids[i]};

		assert_int_equal(ioctl(kvm_vm_fd(mv->from->kvm), KVM_GET_IRQCHIP, &from), 0);
		assert_int_equal(ioctl(kvm_vm_fd(mv->to->kvm), KVM_GET_IRQCHIP, &to), 0);
		assert_memory_equal(&from.chip, &to.chip, sizeof(from.chip));
	}
}

/* ---- other vCPUs ---- */

/* clang-format off */
GUEST(guest_start,
      "outl %eax, $0x10\n"
      "1: cmpl $0, 0x2000\n"
      "je 1b\n"
      GUEST_START_APS
      "2: hlt\n"
      "jmp 2b");
GUEST16(guest_started,
      "xorw %ax, %ax\n"
      "movw %ax, %ds\n"
      "1: incl 0x2004\n"
      "jmp 1b");
/* clang-format on */

/* One that never ran waits for its message in the other machine, too; one that runs goes on. */
static void test_second_vcpu(void **state)
{
	struct move *mv = *state;

	machine_boot(mv->from, guest_start);
	machine_boot_ap(mv->from, guest_started);
	vcpus_resume(mv->from->vcpus);
	machine_next_out(mv->from);
	vcpus_pause(mv->from->vcpus);
	move_all(mv);
	machine_poke(mv->to, GO_ON, 1);
	vcpus_resume(mv->to->vcpus);
	machine_wait_change(mv->to, GUEST_DATA + 4, 0);
	vcpus_pause(mv->to->vcpus);
	move_next(mv);
	move_all(mv);
	vcpus_resume(mv->to->vcpus);
	machine_wait_change(mv->to, GUEST_DATA + 4, machine_peek(mv->from, GUEST_DATA + 4));
	vcpus_pause(mv->to->vcpus);
	assert_int_equal(atomic_load(&mv->to->failures), 0);
}

/* After a move a reset is a reset. */
static void test_reset_after_move(void **state)
{
	struct move *mv = *state;

	interrupts_boot(mv->from, guest_masked, guest_masked_end);
	vcpus_pause(mv->from->vcpus);
	move_all(mv);
	assert_int_equal(kvm_vm_reset(mv->to->kvm, NULL), 0);
	machine_boot(mv->to, guest_sum);
	check_sums(mv->to);
}

/* ---- clocks ---- */

#define NS_PER_S UINT64_C(1000000000)

static uint64_t guest_clock(const struct machine *m)
{
	struct kvm_clock_data clock;

	memset(&clock, 0, sizeof(clock));
	assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_CLOCK, &clock), 0);
	return clock.clock;
}

/* Stands still from stop to start, wherever that is, and goes on from there. */
static void test_clock_goes_on(void **state)
{
	struct kvm_clock_data early = {.clock = 5000 * NS_PER_S};
	struct move *mv = *state;
	uint64_t before, after;

	if (!kvm_vm_capability(mv->from->kvm, KVM_CAP_ADJUST_CLOCK))
		skip();
	assert_int_equal(ioctl(kvm_vm_fd(mv->from->kvm), KVM_SET_CLOCK, &early), 0);
	machine_boot(mv->from, guest_sum);
	before = guest_clock(mv->from);
	move_all(mv);
	after = guest_clock(mv->to);
	assert_true(before >= early.clock);
	assert_true(after >= before);
	assert_true(after - before < 60 * NS_PER_S);
}

/* Tells the upper half, then the lower one. */
/* clang-format off */
GUEST(guest_tsc,
      "1: rdtsc\n"
      "movl %eax, %ebx\n"
      "movl %edx, %eax\n"
      "outl %eax, $0x14\n"
      "movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "jmp 1b");
/* clang-format on */

/* As it was read after the start: what is told first may have been read before the last stop. */
static uint64_t told_tsc(struct machine *m)
{
	const struct access *half = &m->port.access[1];

	atomic_store(&m->port.n, 0);
	vcpus_resume(m->vcpus);
	while (atomic_load(&m->port.n) < 4)
		sched_yield();
	vcpus_pause(m->vcpus);
	if (half->offset == 0)
		half++;
	return half[0].value << 32 | half[1].value;
}

/* The time stamp counter, which a new machine begins near 0, is set to what it was. */
static void test_tsc_goes_on(void **state)
{
	struct move *mv = *state;
	uint64_t before, after;

	machine_boot(mv->from, guest_tsc);
	before = told_tsc(mv->from);
	for (unsigned int i = 0; i < 3; i++) {
		move_all(mv);
		after = told_tsc(mv->to);
		assert_true(after > before);
		/* A minute of the fastest CPU. */
		assert_true(after - before < UINT64_C(60) * 8 * NS_PER_S);
		before = after;
		move_next(mv);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_goes_on),         TEST(test_accesses_are_whole),
		TEST(test_message_waits),   TEST(test_deadline_comes),
		TEST(test_line_stays_high), TEST(test_controllers_are_the_same),
		TEST(test_second_vcpu),     TEST(test_reset_after_move),
		TEST(test_clock_goes_on),   TEST(test_tsc_goes_on),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: state", tests, NULL, NULL);
}

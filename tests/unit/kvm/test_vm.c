/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtual machine on the real KVM: memory slots, doorbells, messages and wired interrupts, as a
 * guest sees them. kvm.h and hv.h. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/unit/kvm/fixture.h"

#define PAGE 4096

static int setup(void **state)
{
	struct machine *m = malloc(sizeof(*m));

	assert_non_null(m);
	machine_init(m, 1);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	machine_done(*state);
	free(*state);
	return 0;
}

static void test_new_and_free(void **state)
{
	struct err *err = NULL;

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		struct kvm_vm *kvm = kvm_vm_new(&err);

		assert_non_null(kvm);
		assert_null(err);
		assert_true(kvm_vm_fd(kvm) >= 0);
		assert_true(kvm_vm_run_size(kvm) >= sizeof(struct kvm_run));
		assert_true(kvm_vm_capability(kvm, KVM_CAP_USER_MEMORY) > 0);
		assert_int_equal(kvm_vm_capability(kvm, 0x7fffffff), 0);
		kvm_vm_free(kvm);
	}
	kvm_vm_free(NULL);
}

static void test_lists_of_the_kernel(void **state)
{
	struct machine *m = *state;
	struct kvm_msr_list *msrs = kvm_msr_indices(m->kvm, NULL);
	bool leaf_1 = false, tsc = false;

	for (uint32_t i = 0; i < m->cpuid->nent; i++)
		leaf_1 |= m->cpuid->entries[i].function == 1;
	assert_true(leaf_1);
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		tsc |= msrs->indices[i] == 0x10;
	assert_true(tsc);
	free(msrs);
}

/* ---- memory slots ---- */

/* Told to by a word of its memory, reads or writes where slots come and go. */
/* clang-format off */
GUEST(guest_probe,
      "1: movl 0x2000, %ecx\n"
      "testl %ecx, %ecx\n"
      "jz 1b\n"
      "movl $0, 0x2000\n"
      "cmpl $1, %ecx\n"
      "jne 2f\n"
      "movl 0x100000, %eax\n"
      "outl %eax, $0x10\n"
      "jmp 1b\n"
      "2: movl %ecx, 0x100000\n"
      "movl %ecx, %eax\n"
      "outl %eax, $0x10\n"
      "jmp 1b");
/* clang-format on */

static uint64_t probe(struct machine *m, uint32_t what)
{
	machine_poke(m, GUEST_DATA, what);
	return machine_next_out(m);
}

static uint32_t *new_page(void)
{
	uint32_t *page =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	return page;
}

static const struct range remote = {GUEST_REMOTE, PAGE};

static void test_slots(void **state)
{
	struct machine *m = *state;
	uint32_t *page = new_page(), *other = new_page(), first, again, second;

	page[0] = 0xabcd;
	other[0] = 0x1234;
	machine_boot(m, guest_probe);
	vcpus_resume(m->vcpus);
	assert_int_equal(probe(m, 1), 0xffffffff);
	/* Seen at once, while the guest runs. */
	assert_int_equal(m->hv->ops->slot_add(m->hv, remote, page, false, &first), 0);
	assert_int_equal(probe(m, 1), 0xabcd);
	probe(m, 7);
	assert_int_equal(page[0], 7);
	/* Two never overlap, and one that is refused takes no number. */
	assert_true(m->hv->ops->slot_add(m->hv, remote, other, false, &second) < 0);
	assert_int_equal(probe(m, 1), 7);
	assert_int_equal(m->hv->ops->slot_add(m->hv, (struct range){GUEST_REMOTE + PAGE, PAGE},
					      other, false, &second),
			 0);
	assert_int_not_equal(second, first);
	/* Gone at once; the number is used again. */
	assert_int_equal(m->hv->ops->slot_remove(m->hv, first), 0);
	assert_int_equal(probe(m, 1), 0xffffffff);
	probe(m, 9);
	assert_int_equal(page[0], 7);
	assert_int_equal(m->hv->ops->slot_add(m->hv, remote, page, false, &again), 0);
	assert_int_equal(again, first);
	assert_int_equal(probe(m, 1), 7);
	assert_int_equal(m->hv->ops->slot_remove(m->hv, again), 0);
	assert_int_equal(m->hv->ops->slot_remove(m->hv, second), 0);
	munmap(page, PAGE);
	munmap(other, PAGE);
}

static void test_readonly_slot(void **state)
{
	struct machine *m = *state;
	struct recorder rom = {.n = 0};
	uint32_t *page = new_page(), slot;

	rom.region = (struct bus_region){
		.name = "rom", .range = remote, .ops = m->reg.region.ops, .opaque = &rom};
	sem_init(&rom.seen, 0, 0);
	bus_add(m->mmio, &rom.region);
	page[0] = 0xabcd;
	assert_int_equal(m->hv->ops->slot_add(m->hv, remote, page, true, &slot), 0);
	machine_boot(m, guest_probe);
	vcpus_resume(m->vcpus);
	assert_int_equal(probe(m, 1), 0xabcd);
	assert_int_equal(atomic_load(&rom.n), 0);
	probe(m, 7);
	assert_int_equal(page[0], 0xabcd);
	assert_int_equal(atomic_load(&rom.n), 1);
	assert_true(rom.access[0].write);
	assert_int_equal(rom.access[0].value, 7);
	vcpus_pause(m->vcpus);
	assert_int_equal(m->hv->ops->slot_remove(m->hv, slot), 0);
	bus_remove(m->mmio, &rom.region);
	sem_destroy(&rom.seen);
	munmap(page, PAGE);
}

GUEST(guest_count_remote, "1: incl 0x100000\n"
			  "incl 0x2000\n"
			  "jmp 1b");

/* After slot_remove() returned no vCPU reaches the memory, though it was just using it. */
static void test_remove_under_use(void **state)
{
	struct machine *m = *state;
	uint32_t *page = new_page(), slot, at;

	machine_boot(m, guest_count_remote);
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < 50; i++) {
		assert_int_equal(m->hv->ops->slot_add(m->hv, remote, page, false, &slot), 0);
		at = __atomic_load_n(page, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(page, __ATOMIC_SEQ_CST) == at)
			sched_yield();
		assert_int_equal(m->hv->ops->slot_remove(m->hv, slot), 0);
		at = __atomic_load_n(page, __ATOMIC_SEQ_CST);
		/* The guest goes on elsewhere. */
		machine_wait_change(m, GUEST_DATA, machine_peek(m, GUEST_DATA));
		machine_wait_change(m, GUEST_DATA, machine_peek(m, GUEST_DATA));
		assert_int_equal(__atomic_load_n(page, __ATOMIC_SEQ_CST), at);
	}
	vcpus_pause(m->vcpus);
	munmap(page, PAGE);
}

/* ---- doorbells ---- */

/* clang-format off */
GUEST(guest_ring,
      "movl $0x55, %eax\n"
      "movl %eax, 0xd0000000\n"
      "movw %ax, 0xd0000000\n"
      "movb %al, 0xd0000000\n"
      "movl %eax, 0xd0000004\n"
      "movl 0xd0000000, %eax\n"
      "outl %eax, $0x10\n"
      "1: hlt\n"
      "jmp 1b");
/* clang-format on */

static uint64_t count_of(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		assert_int_equal(errno, EAGAIN);
	return count;
}

static void run_ring(struct machine *m)
{
	machine_boot(m, guest_ring);
	vcpus_resume(m->vcpus);
	machine_next_out(m);
	vcpus_pause(m->vcpus);
}

static void test_doorbells(void **state)
{
	struct machine *m = *state;
	const struct hv_ops *ops = m->hv->ops;
	int any = eventfd(0, EFD_NONBLOCK), word = eventfd(0, EFD_NONBLOCK);

	run_ring(m);
	assert_int_equal(atomic_load(&m->reg.n), 5);
	/* Writes of the size there; others, other addresses and reads go to the bus. */
	assert_int_equal(ops->doorbell_add(m->hv, GUEST_MMIO, 2, word), 0);
	run_ring(m);
	assert_int_equal(count_of(word), 1);
	assert_int_equal(atomic_load(&m->reg.n), 4);
	assert_int_equal(m->reg.access[1].size, 1);
	/* Of any size. */
	assert_int_equal(ops->doorbell_remove(m->hv, GUEST_MMIO, 2, word), 0);
	assert_int_equal(ops->doorbell_add(m->hv, GUEST_MMIO, 0, any), 0);
	run_ring(m);
	assert_int_equal(count_of(any), 3);
	assert_int_equal(count_of(word), 0);
	assert_int_equal(atomic_load(&m->reg.n), 2);
	/* Twice the same is refused, as is taking off what is not there. */
	assert_int_equal(ops->doorbell_add(m->hv, GUEST_MMIO, 0, word), -EEXIST);
	assert_int_equal(ops->doorbell_remove(m->hv, GUEST_MMIO, 4, any), -ENOENT);
	assert_int_equal(ops->doorbell_remove(m->hv, GUEST_MMIO, 0, any), 0);
	run_ring(m);
	assert_int_equal(count_of(any), 0);
	assert_int_equal(atomic_load(&m->reg.n), 5);
	close(any);
	close(word);
}

/* ---- interrupts ---- */

/* Takes its local APIC into use and tells which of the vectors 0x40 to 0x5f are requested. */
/* clang-format off */
GUEST(guest_requests,
      "movl $0x1ff, 0xfee000f0\n"
      "outl %eax, $0x10\n"
      "xorl %ebx, %ebx\n"
      "1: movl 0xfee00220, %eax\n"
      "cmpl %ebx, %eax\n"
      "je 1b\n"
      "movl %eax, %ebx\n"
      "outl %eax, $0x10\n"
      "jmp 1b");
/* clang-format on */

#define MSI_ADDRESS 0xfee00000

static void test_messages(void **state)
{
	struct machine *m = *state;
	const struct hv_ops *ops = m->hv->ops;
	struct hv_msi a = {.fd = -1}, b = {.fd = -1};

	machine_boot(m, guest_requests);
	vcpus_resume(m->vcpus);
	machine_next_out(m);
	assert_int_equal(ops->msi_new(m->hv, &a), 0);
	assert_int_equal(ops->msi_new(m->hv, &b), 0);
	assert_true(a.gsi >= KVM_WIRED_GSIS && b.gsi >= KVM_WIRED_GSIS);
	assert_int_not_equal(a.gsi, b.gsi);
	assert_int_equal(ops->msi_route(m->hv, &a, true, MSI_ADDRESS, 0x41), 0);
	assert_int_equal(ops->msi_route(m->hv, &b, true, MSI_ADDRESS, 0x45), 0);
	hv_msi_trigger(&b);
	assert_int_equal(machine_next_out(m), 1u << 5);
	hv_msi_trigger(&a);
	assert_int_equal(machine_next_out(m), 1u << 5 | 1u << 1);
	/* Another message by the same source; off and on again. */
	assert_int_equal(ops->msi_route(m->hv, &a, false, 0, 0), 0);
	assert_int_equal(ops->msi_route(m->hv, &a, true, MSI_ADDRESS, 0x48), 0);
	hv_msi_trigger(&a);
	assert_int_equal(machine_next_out(m), 1u << 5 | 1u << 1 | 1u << 8);
	/* A freed source's number is used again, and has none of the old message. */
	ops->msi_free(m->hv, &b);
	assert_int_equal(b.fd, -1);
	ops->msi_free(m->hv, &b);
	assert_int_equal(ops->msi_new(m->hv, &b), 0);
	hv_msi_trigger(&b);
	assert_int_equal(ops->msi_route(m->hv, &a, true, MSI_ADDRESS, 0x4a), 0);
	hv_msi_trigger(&a);
	assert_int_equal(machine_next_out(m), 1u << 5 | 1u << 1 | 1u << 8 | 1u << 10);
	vcpus_pause(m->vcpus);
	ops->msi_free(m->hv, &a);
	ops->msi_free(m->hv, &b);
}

/* A message to anywhere else would be a write to memory that nobody checked. */
static void test_message_addresses(void **state)
{
	const uint64_t bad[] = {0,
				GUEST_DATA,
				0xfec00000,
				0xfedfffff,
				0xfef00000,
				UINT64_C(0x1fee00000),
				UINT64_C(0xfee00000fee00000),
				UINT64_MAX};
	struct machine *m = *state;
	const struct hv_ops *ops = m->hv->ops;
	struct hv_msi msi;

	machine_boot(m, guest_requests);
	vcpus_resume(m->vcpus);
	machine_next_out(m);
	assert_int_equal(ops->msi_new(m->hv, &msi), 0);
	assert_int_equal(ops->msi_route(m->hv, &msi, true, bad[0], 0x41), -EINVAL);
	assert_int_equal(ops->msi_route(m->hv, &msi, true, MSI_ADDRESS, 0x41), 0);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ops->msi_route(m->hv, &msi, true, bad[i], 0x42), -EINVAL);
	/* The old message is still in place. */
	hv_msi_trigger(&msi);
	assert_int_equal(machine_next_out(m), 1u << 1);
	vcpus_pause(m->vcpus);
	assert_int_equal(ops->msi_route(m->hv, &msi, true, 0xfeefffff, 0x41), 0);
	ops->msi_free(m->hv, &msi);
}

static uint32_t ioapic_requests(struct machine *m)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_IRQCHIP, &chip), 0);
	return chip.chip.ioapic.irr;
}

/* Each wired input reaches its pin, before and after messages made a new table (I1). */
static void test_wired_interrupts(void **state)
{
	struct machine *m = *state;
	struct hv_msi msi;

	for (unsigned int with_message = 0; with_message < 2; with_message++) {
		if (with_message) {
			assert_int_equal(m->hv->ops->msi_new(m->hv, &msi), 0);
			assert_int_equal(
				m->hv->ops->msi_route(m->hv, &msi, true, MSI_ADDRESS, 0x41), 0);
		}
		for (uint32_t gsi = 0; gsi < KVM_WIRED_GSIS; gsi++) {
			/* Input 0 is the timer's, at pin 2; there is no input 2. */
			uint32_t pin = gsi == 0 ? 2 : gsi, before = ioapic_requests(m);

			hv_line_set(m->hv, gsi, true);
			assert_int_equal(ioapic_requests(m),
					 gsi == 2 ? before : before | 1u << pin);
			hv_line_set(m->hv, gsi, false);
		}
		if (with_message)
			m->hv->ops->msi_free(m->hv, &msi);
		/* Requests of masked pins stay; begin anew. */
		machine_done(m);
		machine_init(m, 1);
	}
}

static struct kvm_irqchip irqchip(struct machine *m, uint32_t id)
{
	struct kvm_irqchip chip = {.chip_id = id};

	assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_IRQCHIP, &chip), 0);
	return chip;
}

/* Requests that nobody took, and what a guest made of the controllers, are gone after a reset. */
static void test_reset_controllers(void **state)
{
	const uint32_t ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};
	struct machine *m = *state;
	struct kvm_irqchip before[3], after;

	for (unsigned int i = 0; i < 3; i++)
		before[i] = irqchip(m, ids[i]);
	for (uint32_t gsi = 0; gsi < KVM_WIRED_GSIS; gsi++) {
		hv_line_set(m->hv, gsi, true);
		hv_line_set(m->hv, gsi, false);
	}
	after = before[2];
	after.chip.ioapic.redirtbl[4].fields.mask = 0;
	after.chip.ioapic.redirtbl[4].fields.vector = 0x41;
	after.chip.ioapic.irr = 1u << 5;
	assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_SET_IRQCHIP, &after), 0);
	for (unsigned int i = 0; i < 3; i++) {
		after = irqchip(m, ids[i]);
		assert_memory_not_equal(&after, &before[i], sizeof(after));
	}
	assert_int_not_equal(irqchip(m, KVM_IRQCHIP_PIC_MASTER).chip.pic.irr & 1u << 4, 0);
	assert_int_equal(kvm_vm_reset(m->kvm, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		after = irqchip(m, ids[i]);
		assert_memory_equal(&after, &before[i], sizeof(after));
	}
	/* They work as before. */
	hv_line_set(m->hv, 4, true);
	assert_int_equal(ioapic_requests(m), 1u << 4);
	hv_line_set(m->hv, 4, false);
}

static void test_clock_stands_still(void **state)
{
	struct machine *m = *state;
	struct kvm_clock_data clock = {.clock = 0};
	uint64_t stopped, later, started;

	/* A pause of the host between two calls is longer than all of this: try again then. */
	for (unsigned int attempt = 0; attempt < 20; attempt++) {
		assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_CLOCK, &clock), 0);
		stopped = clock.clock;
		kvm_vm_clock_stop(m->kvm);
		do
			assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_CLOCK, &clock), 0);
		while (clock.clock - stopped < 20000000);
		later = clock.clock;
		kvm_vm_clock_start(m->kvm);
		assert_int_equal(ioctl(kvm_vm_fd(m->kvm), KVM_GET_CLOCK, &clock), 0);
		started = clock.clock;
		assert_true(started >= stopped);
		/* Started twice is started once. */
		kvm_vm_clock_start(m->kvm);
		if (started < later)
			return;
	}
	fail();
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_and_free),
		TEST(test_lists_of_the_kernel),
		TEST(test_slots),
		TEST(test_readonly_slot),
		TEST(test_remove_under_use),
		TEST(test_doorbells),
		TEST(test_messages),
		TEST(test_message_addresses),
		TEST(test_wired_interrupts),
		TEST(test_reset_controllers),
		TEST(test_clock_stands_still),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: vm", tests, NULL, NULL);
}

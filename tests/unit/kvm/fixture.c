/* SPDX-License-Identifier: BSD-3-Clause */
/* The small virtual machine of the KVM tests: see fixture.h. */
#include "tests/unit/kvm/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"

bool machine_possible(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: /dev/kvm cannot be opened: %s\n", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static void recorder_note(struct recorder *rec, const struct access *a)
{
	unsigned int n = atomic_load(&rec->n);

	if (n < ACCESSES_MAX)
		rec->access[n] = *a;
	if (rec->inside)
		rec->inside(rec->opaque);
	atomic_fetch_add(&rec->n, 1);
	sem_post(&rec->seen);
}

static uint64_t recorder_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct recorder *rec = opaque;

	recorder_note(rec, &(struct access){.offset = offset, .size = size});
	return 0x8887868584838281;
}

static void recorder_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	recorder_note(opaque, &(struct access){true, offset, value, size});
}

static const struct bus_ops recorder_ops = {.read = recorder_read, .write = recorder_write};

static void recorder_init(struct recorder *rec, struct bus *bus, struct range range)
{
	sem_init(&rec->seen, 0, 0);
	rec->region = (struct bus_region){
		.name = "recorder", .range = range, .ops = &recorder_ops, .opaque = rec};
	bus_add(bus, &rec->region);
}

static void machine_shutdown(void *opaque, unsigned int index)
{
	struct machine *m = opaque;

	assert_int_equal(index, 0);
	atomic_fetch_add(&m->shutdowns, 1);
	sem_post(&m->said);
}

static void machine_failed(void *opaque, unsigned int index, const char *why)
{
	struct machine *m = opaque;

	m->failed_vcpu = index;
	snprintf(m->why, sizeof(m->why), "%s", why);
	atomic_fetch_add(&m->failures, 1);
	sem_post(&m->said);
}

static bool machine_memory_fault(void *opaque, unsigned int index, uint64_t gpa, uint64_t size,
				 char *why, size_t why_size)
{
	struct machine *m = opaque;

	return m->memory_fault(m, index, gpa, size, why, why_size);
}

static const struct vcpu_ops machine_ops = {.shutdown = machine_shutdown, .failed = machine_failed};
static const struct vcpu_ops machine_fault_ops = {
	.shutdown = machine_shutdown,
	.failed = machine_failed,
	.memory_fault = machine_memory_fault,
};

/*
 * As a machine's own: KVM has a timer that it does not tell of there, and tells of the host's CPU on
 * which it was asked.
 */
static void machine_own_cpuid(struct machine *m)
{
	for (uint32_t i = 0; i < m->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &m->cpuid->entries[i];

		if (e->function == 1) {
			e->ebx &= 0xffff;
			if (kvm_vm_capability(m->kvm, KVM_CAP_TSC_DEADLINE_TIMER))
				e->ecx |= 1u << 24;
		}
		if (e->function == 0xb || e->function == 0x1f || e->function == 0x80000026)
			e->edx = 0;
		if (e->function == 0x8000001e)
			e->eax = e->ebx = e->ecx = 0;
	}
}

static void machine_make_vcpus(struct machine *m, unsigned int nr_vcpus)
{
	const struct vcpus_config config = {
		.kvm = m->kvm,
		.mmio = m->mmio,
		.pio = m->pio,
		.ops = m->memory_fault ? &machine_fault_ops : &machine_ops,
		.opaque = m,
		.count = nr_vcpus,
	};

	m->cpuid = kvm_supported_cpuid(m->kvm, NULL);
	assert_non_null(m->cpuid);
	machine_own_cpuid(m);
	m->vcpus = vcpus_new(&config, NULL);
	assert_non_null(m->vcpus);
	for (unsigned int i = 0; i < nr_vcpus; i++) {
		const struct kvm_msr_entry msr = {.index = 0x176, .data = GUEST_MSR};
		const struct vcpu_identity identity = {
			.apic_id = i,
			.msrs = &msr,
			.nr_msrs = 1,
			.cpuid = m->cpuid->entries,
			.nr_cpuid = m->cpuid->nent,
		};

		assert_int_equal(vcpus_create(m->vcpus, i, &identity, NULL), 0);
	}
	assert_int_equal(vcpus_start(m->vcpus, NULL), 0);
}

void machine_init(struct machine *m, unsigned int nr_vcpus)
{
	machine_init_faults(m, nr_vcpus, NULL, NULL);
}

static void machine_make_vm(struct machine *m)
{
	struct err *err = NULL;

	m->kvm = kvm_vm_new(&err);
	if (!m->kvm)
		fail_msg("%s", err_message(err));
}

static void machine_finish(struct machine *m, unsigned int nr_vcpus)
{
	uint32_t slot;

	sem_init(&m->said, 0, 0);
	m->hv = kvm_vm_hv(m->kvm);
	m->pio = bus_new();
	m->mmio = bus_new();
	recorder_init(&m->port, m->pio, (struct range){PORT_OUT, 8});
	recorder_init(&m->reg, m->mmio, (struct range){GUEST_MMIO, 0x1000});
	m->ram = mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m->ram != MAP_FAILED);
	assert_int_equal(
		m->hv->ops->slot_add(m->hv, (struct range){0, GUEST_RAM}, m->ram, false, &slot), 0);
	if (nr_vcpus)
		machine_make_vcpus(m, nr_vcpus);
}

void machine_init_faults(struct machine *m, unsigned int nr_vcpus, machine_fault_fn *memory_fault,
			 void *fault_opaque)
{
	memset(m, 0, sizeof(*m));
	m->memory_fault = memory_fault;
	m->fault_opaque = fault_opaque;
	machine_make_vm(m);
	machine_finish(m, nr_vcpus);
}

bool machine_init_rings(struct machine *m, unsigned int nr_vcpus, uint32_t nr_entries)
{
	struct err *err = NULL;

	memset(m, 0, sizeof(*m));
	machine_make_vm(m);
	if (kvm_dirty_ring_enable(m->kvm, nr_entries, &err)) {
		printf("without rings: %s\n", err_message(err));
		err_free(err);
		kvm_vm_free(m->kvm);
		return false;
	}
	machine_finish(m, nr_vcpus);
	return true;
}

void machine_done(struct machine *m)
{
	vcpus_free(m->vcpus);
	kvm_vm_free(m->kvm);
	free(m->cpuid);
	bus_remove(m->pio, &m->port.region);
	bus_remove(m->mmio, &m->reg.region);
	bus_free(m->pio);
	bus_free(m->mmio);
	sem_destroy(&m->port.seen);
	sem_destroy(&m->reg.seen);
	sem_destroy(&m->said);
	munmap(m->ram, GUEST_RAM);
}

static void machine_start_state(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 8,
		.type = 11,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
	struct machine *m = opaque;
	struct kvm_segment data = code;

	m->start_sregs = *sregs;
	data.selector = 16;
	data.type = 3;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cr0 |= 1;
	regs->rip = GUEST_CODE;
	regs->rflags = 2;
	regs->rsp = GUEST_RAM;
}

void machine_load(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	assert_true(end - code <= GUEST_DATA - GUEST_CODE);
	memset(m->ram, 0, GUEST_RAM);
	memcpy(m->ram + GUEST_CODE, code, (size_t)(end - code));
	assert_int_equal(vcpus_reset(m->vcpus, machine_start_state, m, NULL), 0);
	atomic_store(&m->port.n, 0);
	atomic_store(&m->reg.n, 0);
	while (sem_trywait(&m->port.seen) == 0 || sem_trywait(&m->reg.seen) == 0)
		;
}

void machine_load_more(struct machine *m, uint32_t gpa, const uint8_t *code, const uint8_t *end)
{
	assert_true(gpa + (uint64_t)(end - code) <= GUEST_RAM);
	memcpy(m->ram + gpa, code, (size_t)(end - code));
}

uint64_t machine_next_out(struct machine *m)
{
	sem_wait(&m->port.seen);
	return m->port.access[(atomic_load(&m->port.n) - 1) % ACCESSES_MAX].value;
}

uint32_t machine_peek(const struct machine *m, uint32_t gpa)
{
	return __atomic_load_n((uint32_t *)(void *)(m->ram + gpa), __ATOMIC_SEQ_CST);
}

void machine_poke(struct machine *m, uint32_t gpa, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(m->ram + gpa), value, __ATOMIC_SEQ_CST);
}

void machine_wait_change(const struct machine *m, uint32_t gpa, uint32_t old)
{
	while (machine_peek(m, gpa) == old)
		sched_yield();
}

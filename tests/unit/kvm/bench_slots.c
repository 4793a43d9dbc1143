/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What changes of memory slots cost, and the gate around KVM_RUN: add and remove 1 GiB, replace it by
 * runs and back, with vCPUs parked, halted in the kernel, and busy in the guest. Prints medians and
 * maxima; judges nothing. One argument: how many rounds. Status 77 where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/num.h"
#include "tests/unit/kvm/fixture.h"
#include "vmm/kvm/gate.h"

#define BASE_GPA    (4 * GIB)
#define RUNS_MAX    512
#define GATE_ROUNDS 1000000

GUEST(guest_idle, GUEST_START_APS "1: movl $1, 0x2000\n"
				  "hlt\n"
				  "jmp 1b");
GUEST16(guest_idle_ap, "1: movw $1, 0x2004\n"
		       "hlt\n"
		       "jmp 1b");
GUEST(guest_busy, GUEST_START_APS "1: incl 0x2000\n"
				  "jmp 1b");
GUEST16(guest_busy_ap, "1: incl 0x2004\n"
		       "jmp 1b");

struct series {
	size_t n;
	double us[];
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct series *series_new(size_t max)
{
	struct series *s = calloc(1, sizeof(*s) + max * sizeof(s->us[0]));

	assert_non_null(s);
	return s;
}

static int by_time(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void series_print(struct series *s, const char *state, const char *what)
{
	qsort(s->us, s->n, sizeof(s->us[0]), by_time);
	printf("%-22s %-20s %10.1f %10.1f\n", state, what, s->us[s->n / 2], s->us[s->n - 1]);
	s->n = 0;
}

static void bench_add_remove(struct machine *m, const char *state, char *memory, size_t rounds)
{
	struct series *add = series_new(rounds), *remove = series_new(rounds);
	uint32_t slot;

	for (size_t i = 0; i < rounds; i++) {
		double begin = now_us(), added;

		assert_int_equal(m->hv->ops->slot_add(m->hv, (struct range){BASE_GPA, GIB}, memory,
						      false, &slot),
				 0);
		added = now_us();
		assert_int_equal(m->hv->ops->slot_remove(m->hv, slot), 0);
		add->us[add->n++] = added - begin;
		remove->us[remove->n++] = now_us() - added;
	}
	series_print(add, state, "add 1 GiB");
	series_print(remove, state, "remove 1 GiB");
	free(add);
	free(remove);
}

/* Lay 1 GiB anew from one slot to @nr_runs of half of it, and back. */
static void bench_replace(struct machine *m, const char *state, char *memory, size_t rounds,
			  size_t nr_runs)
{
	struct hv_slot whole = {.gpa = {BASE_GPA, GIB}, .host = memory}, runs[RUNS_MAX];
	struct series *to = series_new(rounds), *back = series_new(rounds);
	const struct hv_ops *ops = m->hv->ops;
	uint64_t stride = GIB / nr_runs;
	uint32_t slots[RUNS_MAX];
	char what[32];

	assert_int_equal(ops->slot_add(m->hv, whole.gpa, whole.host, false, &whole.slot), 0);
	for (size_t i = 0; i < nr_runs; i++)
		runs[i] = (struct hv_slot){
			.gpa = {BASE_GPA + i * stride, stride / 2},
			.host = memory + i * stride,
		};
	for (size_t i = 0; i < rounds; i++) {
		double begin = now_us(), done;

		assert_int_equal(ops->slots_replace(m->hv, &whole.slot, 1, runs, nr_runs), 0);
		done = now_us();
		to->us[to->n++] = done - begin;
		for (size_t j = 0; j < nr_runs; j++)
			slots[j] = runs[j].slot;
		begin = now_us();
		assert_int_equal(ops->slots_replace(m->hv, slots, nr_runs, &whole, 1), 0);
		back->us[back->n++] = now_us() - begin;
	}
	assert_int_equal(ops->slot_remove(m->hv, whole.slot), 0);
	snprintf(what, sizeof(what), "1 by %zu", nr_runs);
	series_print(to, state, what);
	snprintf(what, sizeof(what), "%zu by 1", nr_runs);
	series_print(back, state, what);
	free(to);
	free(back);
}

static void bench_all(struct machine *m, const char *state, char *memory, size_t rounds)
{
	static const size_t runs[] = {1, 2, 64, RUNS_MAX};

	bench_add_remove(m, state, memory, rounds);
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
		bench_replace(m, state, memory, rounds, runs[i]);
}

static void kick_nobody(void *opaque)
{
	(void)opaque;
}

/* What every KVM_RUN pays. */
static void bench_gate(void)
{
	struct gate_member member = {.kick = kick_nobody};
	struct gate *gate = gate_new();
	double begin;

	gate_join(gate, &member);
	begin = now_us();
	for (unsigned int i = 0; i < GATE_ROUNDS; i++) {
		gate_enter(gate, &member);
		gate_leave(gate, &member);
	}
	printf("%-22s %-20s %10.3f\n", "no section", "through the gate",
	       (now_us() - begin) / GATE_ROUNDS);
	gate_part(gate, &member);
	gate_free(gate);
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 11;
	struct machine m;
	char *memory;

	if (!machine_possible())
		return 77;
	printf("%-22s %-20s %10s %10s\n", "vCPUs", "slots", "median us", "max us");
	bench_gate();
	machine_init(&m, 2);
	memory = mmap(NULL, GIB, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(memory != MAP_FAILED && rounds);
	bench_all(&m, "2, parked", memory, rounds);

	machine_boot(&m, guest_idle);
	machine_boot_ap(&m, guest_idle_ap);
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 0);
	machine_wait_change(&m, GUEST_DATA + 4, 0);
	bench_all(&m, "2, halted", memory, rounds);
	vcpus_pause(m.vcpus);

	machine_boot(&m, guest_busy);
	machine_boot_ap(&m, guest_busy_ap);
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 0);
	machine_wait_change(&m, GUEST_DATA + 4, 0);
	bench_all(&m, "2, busy", memory, rounds);
	machine_done(&m);
	munmap(memory, GIB);
	return 0;
}

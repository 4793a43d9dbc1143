/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots that the kernel refuses to change, and memory that KVM_RUN cannot reach: the linker puts
 * __wrap_ioctl() between the code under test and the real KVM. hv.h (slots_replace), kvm.h (I2, I3),
 * vcpu.h (I3, memory_fault). Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/num.h"
#include "tests/unit/kvm/fixture.h"

#define PAGE      4096
#define SLOTS_MAX 16

#define EXIT_MEMORY_FAULT 39
#define UD_VECTOR         6

int __real_ioctl(int fd, unsigned long request, unsigned long arg);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* What the next KVM_RUNs do; the last entry is repeated. */
struct run_step {
	int code;      /* the error; 0: really run */
	uint64_t gpa;  /* told with the error, unless UINT64_MAX */
	bool advanced; /* the guest is an instruction further before it fails */
	bool given_up; /* no error: the interpreter gives the instruction up, with an exception */
};

/*
 * What the kernel pretends, and what it holds; one at a time, hence at file scope. The steps of
 * KVM_RUN belong to the one vCPU's thread while it runs.
 */
static struct kernel {
	unsigned int changes; /* of slots so far */
	unsigned int fail_at; /* the change, from 1, that fails; 0: none */
	unsigned int also_at; /* another one */
	bool puts_fail;       /* from fail_at on no slot can be put */
	bool drops_fail;      /* from fail_at on no slot can be taken away */
	unsigned int nr_slots;
	struct kvm_userspace_memory_region slot[SLOTS_MAX];
	const struct run_step *steps;
	unsigned int nr_steps, step;
	size_t run_size;
	struct kvm_vcpu_events entered_with; /* at the last KVM_RUN that really ran */
} kernel;

static bool kernel_refuses(const struct kvm_userspace_memory_region *change)
{
	kernel.changes++;
	if (!kernel.fail_at || kernel.changes < kernel.fail_at)
		return false;
	return kernel.changes == kernel.fail_at || kernel.changes == kernel.also_at ||
	       (change->memory_size ? kernel.puts_fail : kernel.drops_fail);
}

static int kernel_set_slot(int fd, unsigned long arg)
{
	const struct kvm_userspace_memory_region *change = (void *)arg;
	int ret;

	if (kernel_refuses(change)) {
		errno = ENOMEM;
		return -1;
	}
	ret = __real_ioctl(fd, KVM_SET_USER_MEMORY_REGION, arg);
	if (!ret && change->slot < SLOTS_MAX)
		kernel.slot[change->slot] =
			change->memory_size ? *change : (struct kvm_userspace_memory_region){0};
	return ret;
}

static int kernel_give_up(int fd, struct kvm_run *run)
{
	struct kvm_vcpu_events events;

	assert_int_equal(__real_ioctl(fd, KVM_GET_VCPU_EVENTS, (unsigned long)&events), 0);
	events.exception.injected = 1;
	events.exception.nr = UD_VECTOR;
	assert_int_equal(__real_ioctl(fd, KVM_SET_VCPU_EVENTS, (unsigned long)&events), 0);
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->internal.ndata = 0;
	return 0;
}

static int kernel_run(int fd, unsigned long arg)
{
	const struct run_step *step = &kernel.steps[kernel.step];
	struct kvm_run *run;

	if (kernel.step + 1 < kernel.nr_steps)
		kernel.step++;
	if (!step->code && !step->given_up) {
		__real_ioctl(fd, KVM_GET_VCPU_EVENTS, (unsigned long)&kernel.entered_with);
		return __real_ioctl(fd, KVM_RUN, arg);
	}
	/* As the kernel, it looks at the request to leave first. */
	run = mmap(NULL, kernel.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	errno = run->immediate_exit ? EINTR : step->code;
	if (!errno) {
		kernel_give_up(fd, run);
		munmap(run, kernel.run_size);
		return 0;
	}
	if (!run->immediate_exit && step->gpa != UINT64_MAX) {
		const uint64_t fault[3] = {0, step->gpa, PAGE};

		run->exit_reason = EXIT_MEMORY_FAULT;
		memcpy(&run->hw, fault, sizeof(fault));
	}
	munmap(run, kernel.run_size);
	if (step->advanced && errno != EINTR) {
		struct kvm_regs regs;

		__real_ioctl(fd, KVM_GET_REGS, (unsigned long)&regs);
		regs.rip++;
		__real_ioctl(fd, KVM_SET_REGS, (unsigned long)&regs);
		errno = step->code;
	}
	return -1;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (request == KVM_CHECK_EXTENSION && arg == KVM_CAP_NR_MEMSLOTS && kernel.nr_slots)
		return (int)kernel.nr_slots;
	if (request == KVM_SET_USER_MEMORY_REGION)
		return kernel_set_slot(fd, arg);
	if (request == KVM_RUN && kernel.nr_steps)
		return kernel_run(fd, arg);
	return __real_ioctl(fd, request, arg);
}

/* ---- slots ---- */

/* Ranges of pages at GUEST_REMOTE: two slots, and the five that shall replace them. */
static const struct range old_pages[] = {{0, 4}, {6, 3}};
static const struct range fresh_pages[] = {{0, 1}, {2, 2}, {6, 1}, {7, 1}, {8, 1}};

#define NR_OLD   ARRAY_SIZE(old_pages)
#define NR_FRESH ARRAY_SIZE(fresh_pages)

struct slots {
	struct machine m;
	char *memory;
	uint32_t old[NR_OLD];
	struct hv_slot fresh[NR_FRESH];
	struct kvm_userspace_memory_region before[SLOTS_MAX];
};

static void slots_init(struct slots *s, unsigned int nr_slots)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.nr_slots = nr_slots;
	machine_init(&s->m, 0);
	s->memory =
		mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(s->memory != MAP_FAILED);
	for (size_t i = 0; i < NR_OLD; i++)
		assert_int_equal(s->m.hv->ops->slot_add(
					 s->m.hv,
					 (struct range){GUEST_REMOTE + old_pages[i].start * PAGE,
							old_pages[i].size * PAGE},
					 s->memory + old_pages[i].start * PAGE, false, &s->old[i]),
				 0);
	for (size_t i = 0; i < NR_FRESH; i++)
		s->fresh[i] = (struct hv_slot){
			.gpa = {GUEST_REMOTE + fresh_pages[i].start * PAGE,
				fresh_pages[i].size * PAGE},
			.host = s->memory + fresh_pages[i].start * PAGE,
		};
	memcpy(s->before, kernel.slot, sizeof(s->before));
	kernel.changes = 0;
}

static void slots_done(struct slots *s)
{
	machine_done(&s->m);
	munmap(s->memory, 16 * PAGE);
}

static int slots_replace(struct slots *s)
{
	return s->m.hv->ops->slots_replace(s->m.hv, s->old, NR_OLD, s->fresh, NR_FRESH);
}

/* The kernel holds exactly the fresh ones beside the machine's own, each under its number. */
static void slots_check_fresh(const struct slots *s)
{
	unsigned int present = 0;

	for (unsigned int i = 0; i < SLOTS_MAX; i++)
		present += kernel.slot[i].memory_size != 0;
	assert_int_equal(present, 1 + NR_FRESH);
	for (size_t i = 0; i < NR_FRESH; i++) {
		const struct kvm_userspace_memory_region *k = &kernel.slot[s->fresh[i].slot];

		assert_true(s->fresh[i].slot < SLOTS_MAX);
		assert_int_equal(k->guest_phys_addr, s->fresh[i].gpa.start);
		assert_int_equal(k->memory_size, s->fresh[i].gpa.size);
		assert_int_equal(k->userspace_addr, (uintptr_t)s->fresh[i].host);
		assert_int_equal(k->flags, 0);
	}
}

/* How many slots can still be had; they are given back. */
static unsigned int slots_free(struct slots *s)
{
	uint32_t slot[SLOTS_MAX];
	unsigned int n = 0;

	while (n < SLOTS_MAX &&
	       !s->m.hv->ops->slot_add(s->m.hv, (struct range){2 * GUEST_REMOTE + n * PAGE, PAGE},
				       s->memory + 15 * PAGE, false, &slot[n]))
		n++;
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(s->m.hv->ops->slot_remove(s->m.hv, slot[i]), 0);
	return n;
}

static void test_replace(void **state)
{
	struct slots s;

	(void)state;
	slots_init(&s, SLOTS_MAX);
	assert_int_equal(slots_replace(&s), 0);
	assert_int_equal(kernel.changes, NR_OLD + NR_FRESH);
	slots_check_fresh(&s);
	assert_int_equal(slots_free(&s), SLOTS_MAX - 1 - NR_FRESH);
	/* By nothing, and nothing by nothing. */
	for (size_t i = 0; i < NR_FRESH; i++)
		assert_int_equal(s.m.hv->ops->slots_replace(s.m.hv, &s.fresh[i].slot, 1, NULL, 0),
				 0);
	assert_int_equal(s.m.hv->ops->slots_replace(s.m.hv, NULL, 0, NULL, 0), 0);
	assert_int_equal(slots_free(&s), SLOTS_MAX - 1);
	slots_done(&s);
}

/* Whichever step the kernel refuses, once: all is as before, and can be tried again. */
static void test_replace_undone(void **state)
{
	(void)state;
	for (unsigned int at = 1; at <= NR_OLD + NR_FRESH; at++) {
		struct slots s;

		slots_init(&s, SLOTS_MAX);
		kernel.fail_at = at;
		assert_int_equal(slots_replace(&s), -ENOMEM);
		assert_int_equal(kernel.changes, 2 * at - 1);
		assert_memory_equal(kernel.slot, s.before, sizeof(s.before));
		kernel.fail_at = 0;
		assert_int_equal(slots_free(&s), SLOTS_MAX - 1 - NR_OLD);
		assert_int_equal(slots_replace(&s), 0);
		slots_check_fresh(&s);
		slots_done(&s);
	}
}

/* No slot can be put any more, or not all: none of either is there, their numbers are free. */
static void test_replace_not_recoverable(void **state)
{
	(void)state;
	for (unsigned int at = NR_OLD + 1; at <= NR_OLD + NR_FRESH + 1; at++) {
		struct slots s;

		slots_init(&s, SLOTS_MAX);
		kernel.fail_at = at;
		kernel.puts_fail = true;
		if (at > NR_OLD + NR_FRESH) {
			/* One of the old ones is back already. */
			kernel.fail_at = NR_OLD + 1;
			kernel.also_at = NR_OLD + 3;
			kernel.puts_fail = false;
		}
		assert_int_equal(slots_replace(&s), -ENOTRECOVERABLE);
		for (unsigned int i = 0; i < SLOTS_MAX; i++)
			assert_true(!kernel.slot[i].memory_size ||
				    kernel.slot[i].userspace_addr == (uintptr_t)s.m.ram);
		kernel.fail_at = 0;
		assert_int_equal(slots_free(&s), SLOTS_MAX - 1);
		slots_done(&s);
	}
}

/* Nor can one be taken away: what the kernel still has keeps its number. */
static void test_replace_stuck(void **state)
{
	struct slots s;

	(void)state;
	slots_init(&s, SLOTS_MAX);
	kernel.fail_at = NR_OLD + 3;
	kernel.puts_fail = kernel.drops_fail = true;
	assert_int_equal(slots_replace(&s), -ENOTRECOVERABLE);
	kernel.fail_at = 0;
	assert_int_equal(slots_free(&s), SLOTS_MAX - 1 - 2);
	slots_done(&s);
}

static void test_replace_refused(void **state)
{
	const uint32_t unused = SLOTS_MAX - 1, beyond = UINT32_MAX;
	struct slots s;

	(void)state;
	/* One too few, then just enough: the old ones' numbers count. */
	slots_init(&s, NR_FRESH);
	assert_int_equal(slots_replace(&s), -ENOSPC);
	assert_int_equal(kernel.changes, 0);
	assert_int_equal(slots_free(&s), NR_FRESH - 1 - NR_OLD);
	slots_done(&s);
	slots_init(&s, 1 + NR_FRESH);
	assert_int_equal(slots_replace(&s), 0);
	slots_check_fresh(&s);
	assert_int_equal(slots_free(&s), 0);
	slots_done(&s);
	/* Slots that are not there. */
	slots_init(&s, SLOTS_MAX);
	s.old[1] = unused;
	assert_int_equal(slots_replace(&s), -EINVAL);
	s.old[1] = beyond;
	assert_int_equal(slots_replace(&s), -EINVAL);
	assert_int_equal(kernel.changes, 0);
	/* The same twice is seen under way. */
	s.old[1] = s.old[0];
	assert_int_equal(slots_replace(&s), -EINVAL);
	assert_memory_equal(kernel.slot, s.before, sizeof(s.before));
	slots_done(&s);
}

/* ---- memory that cannot be reached ---- */

#define FAULTS_MAX 4096 /* in a row, of one instruction */

struct faults {
	struct machine m;
	atomic_uint n;
	uint64_t gpa[256], size[256]; /* of each; the vCPU's thread's */
	unsigned int answers;         /* how many times it is tried again */
};

static bool faults_note(struct machine *m, unsigned int index, uint64_t gpa, uint64_t size,
			char *why, size_t why_size)
{
	struct faults *f = m->fault_opaque;
	unsigned int n = atomic_load(&f->n);

	if (n < ARRAY_SIZE(f->gpa)) {
		f->gpa[n] = gpa;
		f->size[n] = size;
	}
	atomic_fetch_add(&f->n, 1);
	if (n < f->answers)
		return true;
	snprintf(why, why_size, "vCPU %u got no answer", index);
	return false;
}

static void faults_init(struct faults *f, const struct run_step *steps, unsigned int nr_steps,
			unsigned int answers)
{
	memset(&kernel, 0, sizeof(kernel));
	memset(f, 0, sizeof(*f));
	machine_init_faults(&f->m, 1, faults_note, f);
	kernel.run_size = kvm_vm_run_size(f->m.kvm);
	kernel.steps = steps;
	kernel.step = 0;
	kernel.nr_steps = nr_steps;
	f->answers = answers;
}

/* One "out" after another. */
GUEST(guest_out, "1: outl %eax, $0x10\n"
		 "jmp 1b");
GUEST(guest_nops, ".fill 512, 1, 0x90\n"
		  "1: outl %eax, $0x10\n"
		  "jmp 1b");

#define STEPS(...)                                \
	((const struct run_step[]){__VA_ARGS__}), \
		ARRAY_SIZE(((const struct run_step[]){__VA_ARGS__}))

/* What the kernel tells goes on to the handler, and once only; then the vCPU runs again. */
static void test_fault_is_handed_on(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f,
		    STEPS({EFAULT, UINT64_MAX}, {EFAULT, 0x140001000}, {EFAULT, UINT64_MAX},
			  {EFAULT, 0}, {0}),
		    UINT32_MAX);
	machine_boot(&f.m, guest_out);
	vcpus_resume(f.m.vcpus);
	machine_next_out(&f.m);
	vcpus_pause(f.m.vcpus);
	assert_int_equal(atomic_load(&f.n), 4);
	assert_int_equal(f.gpa[0], UINT64_MAX);
	assert_int_equal(f.gpa[1], 0x140001000);
	assert_int_equal(f.size[1], PAGE);
	assert_int_equal(f.gpa[2], UINT64_MAX);
	assert_int_equal(f.gpa[3], 0);
	assert_int_equal(atomic_load(&f.m.failures), 0);
	machine_done(&f.m);
}

static void test_fault_without_answer(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f, STEPS({EFAULT, UINT64_MAX}), 2);
	machine_boot(&f.m, guest_out);
	vcpus_resume(f.m.vcpus);
	sem_wait(&f.m.said);
	vcpus_pause(f.m.vcpus);
	assert_string_equal(f.m.why, "vCPU 0 got no answer");
	assert_int_equal(atomic_load(&f.n), 3);
	assert_int_equal(atomic_load(&f.m.failures), 1);
	machine_done(&f.m);
}

/* I3: answers that never help end, and a resume begins anew. */
static void test_faults_without_end(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f, STEPS({EFAULT, 0x140001000}), UINT32_MAX);
	machine_boot(&f.m, guest_out);
	for (unsigned int i = 1; i <= 2; i++) {
		vcpus_resume(f.m.vcpus);
		sem_wait(&f.m.said);
		vcpus_pause(f.m.vcpus);
		assert_int_equal(atomic_load(&f.n), i * FAULTS_MAX);
		assert_int_equal(atomic_load(&f.m.failures), i);
		assert_non_null(strstr(f.m.why, "0x1000 cannot reach its memory"));
	}
	machine_done(&f.m);
}

#define MANY 200

/* Faults that help are not counted against the guest: it gets on, or leaves in between. */
static void test_faults_that_help(void **state)
{
	struct run_step steps[2 * MANY + 1];
	struct faults f;

	(void)state;
	for (unsigned int i = 0; i < MANY; i++)
		steps[i] = (struct run_step){EFAULT, UINT64_MAX, true};
	steps[MANY] = (struct run_step){0};
	faults_init(&f, steps, MANY + 1, UINT32_MAX);
	machine_boot(&f.m, guest_nops);
	vcpus_resume(f.m.vcpus);
	machine_next_out(&f.m);
	vcpus_pause(f.m.vcpus);
	assert_int_equal(atomic_load(&f.n), MANY);
	assert_int_equal(atomic_load(&f.m.failures), 0);

	atomic_store(&f.n, 0);
	for (unsigned int i = 0; i < MANY; i++) {
		steps[2 * i] = (struct run_step){EFAULT, UINT64_MAX, false};
		steps[2 * i + 1] = (struct run_step){0};
	}
	machine_boot(&f.m, guest_out);
	kernel.step = 0;
	kernel.nr_steps = 2 * MANY;
	vcpus_resume(f.m.vcpus);
	for (unsigned int i = 0; i < MANY; i++)
		sem_wait(&f.m.port.seen);
	vcpus_pause(f.m.vcpus);
	assert_int_equal(atomic_load(&f.n), MANY);
	assert_int_equal(atomic_load(&f.m.failures), 0);
	machine_done(&f.m);
}

/* A vCPU that only faults is paused and ended like any other. */
static void test_pause_while_faulting(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f, STEPS({EFAULT, UINT64_MAX, true}, {EFAULT, UINT64_MAX}), UINT32_MAX);
	for (unsigned int i = 0; i < 20; i++) {
		machine_boot(&f.m, guest_nops);
		vcpus_resume(f.m.vcpus);
		vcpus_pause(f.m.vcpus);
	}
	vcpus_resume(f.m.vcpus);
	machine_done(&f.m);
}

/* The interpreter gives up: asked without address; the exception is taken back if it is tried again. */
static void test_given_up(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f, STEPS({.given_up = true}, {.given_up = true}, {0}), UINT32_MAX);
	machine_boot(&f.m, guest_out);
	vcpus_resume(f.m.vcpus);
	machine_next_out(&f.m);
	vcpus_pause(f.m.vcpus);
	assert_int_equal(atomic_load(&f.n), 2);
	assert_int_equal(f.gpa[0], UINT64_MAX);
	assert_int_equal(kernel.entered_with.exception.injected, 0);
	assert_int_equal(kernel.entered_with.exception.pending, 0);
	assert_int_equal(atomic_load(&f.m.failures) + atomic_load(&f.m.shutdowns), 0);
	machine_done(&f.m);
}

/* Not about memory, or not to be helped: the vCPU says where it stands, in its own words. */
static void test_given_up_for_good(void **state)
{
	const unsigned int answers[] = {0, UINT32_MAX};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(answers); i++) {
		struct faults f;

		faults_init(&f, STEPS({.given_up = true}), answers[i]);
		machine_boot(&f.m, guest_out);
		vcpus_resume(f.m.vcpus);
		sem_wait(&f.m.said);
		vcpus_pause(f.m.vcpus);
		assert_int_equal(atomic_load(&f.n), i ? FAULTS_MAX : 1);
		assert_non_null(strstr(f.m.why, "interpret an instruction"));
		assert_non_null(strstr(f.m.why, "at 0x1000"));
		machine_done(&f.m);
	}
}

static void test_damaged_memory(void **state)
{
	struct faults f;

	(void)state;
	faults_init(&f, STEPS({EHWPOISON, UINT64_MAX}, {EHWPOISON, 0x140001000}), UINT32_MAX);
	machine_boot(&f.m, guest_out);
	vcpus_resume(f.m.vcpus);
	sem_wait(&f.m.said);
	vcpus_pause(f.m.vcpus);
	assert_string_equal(f.m.why, "the host's memory is damaged (a hardware memory error), and "
				     "the guest needs it at 0x1000");
	vcpus_resume(f.m.vcpus);
	sem_wait(&f.m.said);
	vcpus_pause(f.m.vcpus);
	assert_non_null(strstr(f.m.why, "memory behind guest address 0x140001000 is damaged"));
	assert_int_equal(atomic_load(&f.n), 0);
	machine_done(&f.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_replace_undone),
		cmocka_unit_test(test_replace_not_recoverable),
		cmocka_unit_test(test_replace_stuck),
		cmocka_unit_test(test_replace_refused),
		cmocka_unit_test(test_fault_is_handed_on),
		cmocka_unit_test(test_fault_without_answer),
		cmocka_unit_test(test_faults_without_end),
		cmocka_unit_test(test_faults_that_help),
		cmocka_unit_test(test_pause_while_faulting),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_given_up_for_good),
		cmocka_unit_test(test_damaged_memory),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: faults", tests, NULL, NULL);
}

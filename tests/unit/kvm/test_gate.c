/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate with plain threads in place of vCPUs: gate.h, I1 to I5. Needs no KVM. A kick that is lost
 * or a wait that never ends shows as a test that does not end, and unordered accesses where the
 * thread sanitizer looks on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/kvm/gate.h"

/* A member with a thread that stays inside until it is kicked. */
struct worker {
	struct gate *gate;
	struct gate_member member;
	pthread_t thread;
	atomic_int tid;
	atomic_bool kicked, stop, arriving;
	atomic_uint kicks, entries;
	sem_t entered;
};

static void worker_kick(void *opaque)
{
	struct worker *w = opaque;

	atomic_fetch_add(&w->kicks, 1);
	atomic_store(&w->kicked, true);
}

static void worker_init(struct worker *w, struct gate *gate)
{
	memset(w, 0, sizeof(*w));
	w->gate = gate;
	w->member.kick = worker_kick;
	w->member.opaque = w;
	sem_init(&w->entered, 0, 0);
}

static void *worker_main(void *opaque)
{
	struct worker *w = opaque;

	atomic_store(&w->tid, (int)syscall(SYS_gettid));
	gate_join(w->gate, &w->member);
	while (!atomic_load(&w->stop)) {
		atomic_store(&w->kicked, false);
		atomic_store(&w->arriving, true);
		gate_enter(w->gate, &w->member);
		atomic_store(&w->arriving, false);
		atomic_fetch_add(&w->entries, 1);
		sem_post(&w->entered);
		while (!atomic_load(&w->kicked) && !atomic_load(&w->stop))
			sched_yield();
		gate_leave(w->gate, &w->member);
	}
	gate_part(w->gate, &w->member);
	return NULL;
}

static void worker_start(struct worker *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, worker_main, w), 0);
}

static void worker_end(struct worker *w)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	sem_destroy(&w->entered);
}

/* The state letter of a thread of this process. */
static char thread_state(int tid)
{
	char path[64], line[256] = "", *after;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	fclose(file);
	after = strrchr(line, ')');
	assert_non_null(after);
	return after[2];
}

/* Wait until the worker sleeps at the shut gate; there is nothing else that it could sleep on. */
static void await_waiting(const struct worker *w)
{
	while (!atomic_load(&w->arriving) || thread_state(atomic_load(&w->tid)) != 'S')
		sched_yield();
}

static void test_nobody(void **state)
{
	struct gate *gate = gate_new();

	(void)state;
	assert_non_null(gate);
	gate_shut(gate);
	gate_open(gate);
	gate_shut(gate);
	gate_open(gate);
	gate_free(gate);
	gate_free(NULL);
}

/* I2: who is outside is neither kicked nor waited for, also if it is the one who shuts. */
static void test_outside_is_left_alone(void **state)
{
	struct gate *gate = gate_new();
	struct worker w[2];

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		worker_init(&w[i], gate);
		gate_join(gate, &w[i].member);
	}
	gate_enter(gate, &w[0].member);
	gate_leave(gate, &w[0].member);
	for (unsigned int i = 0; i < 3; i++) {
		gate_shut(gate);
		gate_open(gate);
	}
	gate_enter(gate, &w[0].member);
	gate_leave(gate, &w[0].member);
	assert_int_equal(atomic_load(&w[0].kicks) + atomic_load(&w[1].kicks), 0);
	/* In either order. */
	gate_part(gate, &w[0].member);
	gate_part(gate, &w[1].member);
	gate_free(gate);
}

/* I1, I4: kicked once, out when gate_shut() returns, and not in again before gate_open(). */
static void test_inside_is_kicked(void **state)
{
	struct gate *gate = gate_new();
	struct worker w;

	(void)state;
	worker_init(&w, gate);
	worker_start(&w);
	for (unsigned int i = 0; i < 200; i++) {
		sem_wait(&w.entered);
		gate_shut(gate);
		assert_int_equal(atomic_load(&w.kicks), i + 1);
		assert_int_equal(atomic_load(&w.entries), i + 1);
		await_waiting(&w);
		assert_int_equal(atomic_load(&w.entries), i + 1);
		gate_open(gate);
	}
	worker_end(&w);
	gate_free(gate);
}

/* I3: a section right after another lets those in between who waited. */
static void test_sections_in_a_row(void **state)
{
	struct gate *gate = gate_new();
	struct worker w;
	unsigned int before;

	(void)state;
	worker_init(&w, gate);
	worker_start(&w);
	sem_wait(&w.entered);
	gate_shut(gate);
	for (unsigned int i = 0; i < 500; i++) {
		await_waiting(&w);
		before = atomic_load(&w.entries);
		gate_open(gate);
		gate_shut(gate);
		assert_int_equal(atomic_load(&w.entries), before + 1);
	}
	gate_open(gate);
	worker_end(&w);
	gate_free(gate);
}

/* ---- everything at once ---- */

#define CELLS          16
#define MEMBERS        4
#define ROUNDS         500 /* of each member and each maker at least */
#define SECTION_MAKERS 2

struct crowd {
	struct gate *gate;
	unsigned int cell[CELLS]; /* guarded by the gate: equal whenever no section lasts */
	unsigned int in_section;  /* guarded by the gate */
	unsigned int sections;    /* guarded by the gate */
	atomic_uint wrong;
	atomic_bool stop;
	atomic_uint nr_done;    /* members that have their rounds */
	pthread_mutex_t device; /* as a device's lock: held around sections, taken by members */
};

struct crowd_member {
	struct crowd *crowd;
	struct gate_member member;
	atomic_bool kicked;
	unsigned int index;
	unsigned int rounds;
	pthread_t thread;
};

static void crowd_section(struct crowd *c)
{
	gate_shut(c->gate);
	atomic_fetch_add(&c->wrong, c->in_section++ != 0);
	for (unsigned int i = 0; i < CELLS; i++)
		c->cell[i]++;
	c->sections++;
	c->in_section--;
	gate_open(c->gate);
}

static void crowd_kick(void *opaque)
{
	struct crowd_member *m = opaque;

	atomic_store(&m->kicked, true);
}

static void crowd_look(struct crowd *c)
{
	for (unsigned int i = 1; i < CELLS; i++)
		atomic_fetch_add(&c->wrong, c->cell[i] != c->cell[0]);
	atomic_fetch_add(&c->wrong, c->in_section != 0);
}

/* Inside: some stay until they are kicked, some leave by themselves, at once or later. */
static void crowd_inside(struct crowd_member *m)
{
	struct crowd *c = m->crowd;
	unsigned int stay = m->rounds % 3;

	crowd_look(c);
	for (unsigned int i = 0; stay && (stay == 1 || i < 20); i++) {
		if (atomic_load(&m->kicked) || atomic_load(&c->stop))
			return;
		sched_yield();
		crowd_look(c);
	}
}

static void *crowd_member_main(void *opaque)
{
	struct crowd_member *m = opaque;
	struct crowd *c = m->crowd;

	gate_join(c->gate, &m->member);
	while (!atomic_load(&c->stop)) {
		m->rounds++;
		if (m->rounds == ROUNDS)
			atomic_fetch_add(&c->nr_done, 1);
		atomic_store(&m->kicked, false);
		gate_enter(c->gate, &m->member);
		crowd_inside(m);
		gate_leave(c->gate, &m->member);
		/* Outside: its handler wants the lock under which others have sections, or has one. */
		if (m->rounds % 5 == m->index) {
			pthread_mutex_lock(&c->device);
			if (m->rounds % 2)
				crowd_section(c);
			pthread_mutex_unlock(&c->device);
		}
		if (m->rounds % 7 == 0)
			crowd_section(c);
		if (m->rounds % 50 == 0) {
			gate_part(c->gate, &m->member);
			gate_join(c->gate, &m->member);
		}
	}
	gate_part(c->gate, &m->member);
	return NULL;
}

/* As fast as it can, and yet each member gets its rounds in between. */
static void *crowd_sections_main(void *opaque)
{
	struct crowd *c = opaque;

	for (unsigned int i = 0; i < ROUNDS || atomic_load(&c->nr_done) < MEMBERS; i++) {
		if (i % 2)
			pthread_mutex_lock(&c->device);
		crowd_section(c);
		if (i % 2)
			pthread_mutex_unlock(&c->device);
	}
	return NULL;
}

static void test_crowd(void **state)
{
	struct crowd c = {.gate = gate_new()};
	struct crowd_member members[MEMBERS];
	pthread_t makers[SECTION_MAKERS];

	(void)state;
	pthread_mutex_init(&c.device, NULL);
	for (unsigned int i = 0; i < MEMBERS; i++) {
		members[i] = (struct crowd_member){
			.crowd = &c, .index = i, .member = {.kick = crowd_kick}};
		members[i].member.opaque = &members[i];
		assert_int_equal(
			pthread_create(&members[i].thread, NULL, crowd_member_main, &members[i]),
			0);
	}
	for (unsigned int i = 0; i < SECTION_MAKERS; i++)
		assert_int_equal(pthread_create(&makers[i], NULL, crowd_sections_main, &c), 0);
	for (unsigned int i = 0; i < SECTION_MAKERS; i++)
		pthread_join(makers[i], NULL);
	atomic_store(&c.stop, true);
	for (unsigned int i = 0; i < MEMBERS; i++)
		pthread_join(members[i].thread, NULL);
	assert_int_equal(atomic_load(&c.wrong), 0);
	assert_true(c.sections >= SECTION_MAKERS * ROUNDS);
	for (unsigned int i = 0; i < CELLS; i++)
		assert_int_equal(c.cell[i], c.sections);
	pthread_mutex_destroy(&c.device);
	gate_free(c.gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_outside_is_left_alone),
		cmocka_unit_test(test_inside_is_kicked),
		cmocka_unit_test(test_sections_in_a_row),
		cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests_name("kvm: gate", tests, NULL, NULL);
}

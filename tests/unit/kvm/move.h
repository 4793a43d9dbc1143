/* SPDX-License-Identifier: BSD-3-Clause */
/* A small virtual machine (fixture.h) that is saved, and another in which it is loaded. */
#ifndef TESTS_UNIT_KVM_MOVE_H
#define TESTS_UNIT_KVM_MOVE_H

#include "base/pack.h"
#include "tests/unit/kvm/fixture.h"

#define MOVE_VCPUS 2

struct move {
	struct machine *from, *to;
};

void move_init(struct move *mv);
void move_done(struct move *mv);
/* What was loaded is the one to be saved next. */
void move_next(struct move *mv);

/* The state of a vCPU; the caller ends it. */
struct pack move_save(struct machine *m, unsigned int index);
/* Load it, whole and as it is. */
void move_load(struct machine *m, unsigned int index, const struct pack *bytes);

/*
 * All of the machine, which is paused, in the order that kvm.h asks for; the other is ready to run.
 */
void move_all(struct move *mv);

#endif

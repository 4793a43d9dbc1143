/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate between vCPU threads and the guest: all of them out for a moment.
 *
 * Who runs a vCPU is a member: inside from gate_enter() to gate_leave(), which is around KVM_RUN,
 * outside while it handles an exit or is parked. A section is what lies between gate_shut() and
 * gate_open().
 *
 * I1  While a section lasts no member is inside, and gate_enter() waits for its end.
 * I2  Nobody waits for a member that is outside, whatever that one does or waits for; a member that
 *     is inside is kicked. So a section may be begun by a member that is outside, and with locks
 *     held that members take while they are outside.
 * I3  Sections exclude each other. Members that waited for the end of one are inside before another
 *     begins: sections in a row cannot keep them out for ever.
 * I4  A member is kicked only by a section's beginning, and only if it was seen inside. It may have
 *     left by itself meanwhile, but it cannot be inside again before all kicks of that section are
 *     over. So who takes a kick back (clears what it left behind) while outside loses none.
 * I5  What members did inside happens before the section, and the section before what they do
 *     inside afterwards.
 *
 * Memory order. Going in, a member stores `inside` and then loads `shut`; a section stores `shut` and
 * then loads each `inside`. All four are sequentially consistent, so in their one order the later
 * of the two loads comes after both stores: either the member sees the gate shut and turns back, or
 * the section sees the member inside and kicks it (I1). Going out it is the same with
 * `inside` cleared: a member that then finds the gate open need not wake anybody, since whoever
 * shuts it later sees that the member has left. The load that sees the other side's store acquires
 * what was done before it (I5). Where the fast path turns back, `lock` orders everything.
 *
 * The cost without a section: two stores and two loads a round, no lock.
 *
 * Threads: gate_shut() and gate_open() from any thread, in pairs on one; a member's functions from its
 * own thread. The lock is the innermost of all; kicks are called with it held.
 */
#ifndef VMM_KVM_GATE_H
#define VMM_KVM_GATE_H

#include <stdatomic.h>
#include <stdbool.h>

struct gate;

struct gate_member {
	/*
	 * Make the member leave soon, also if it is only about to do what it entered for. Must not
	 * wait.
	 */
	void (*kick)(void *opaque);
	void *opaque;
	/* the gate's */
	atomic_bool inside;
	struct gate_member *next; /* guarded by the gate's lock */
};

/* NULL when memory is out. */
struct gate *gate_new(void);
/* No member is left. NULL is allowed. */
void gate_free(struct gate *gate);

/* Become a member, outside; cease to be one. The member's memory is the caller's. */
void gate_join(struct gate *gate, struct gate_member *member);
void gate_part(struct gate *gate, struct gate_member *member);

void gate_enter(struct gate *gate, struct gate_member *member);
void gate_leave(struct gate *gate, struct gate_member *member);

/* Not while the caller is inside. Returns when no member is. */
void gate_shut(struct gate *gate);
void gate_open(struct gate *gate);

#endif

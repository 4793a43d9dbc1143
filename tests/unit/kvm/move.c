/* SPDX-License-Identifier: BSD-3-Clause */
/* A small virtual machine that moves: see move.h. */
#include "tests/unit/kvm/move.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static struct machine *move_machine(void)
{
	struct machine *m = malloc(sizeof(*m));

	assert_non_null(m);
	machine_init(m, MOVE_VCPUS);
	return m;
}

void move_init(struct move *mv)
{
	mv->from = move_machine();
	mv->to = move_machine();
}

static void move_end(struct machine *m)
{
	machine_done(m);
	free(m);
}

void move_done(struct move *mv)
{
	move_end(mv->from);
	move_end(mv->to);
}

void move_next(struct move *mv)
{
	move_end(mv->from);
	mv->from = mv->to;
	mv->to = move_machine();
}

static void check_done(int ret, struct err *err)
{
	if (ret)
		fail_msg("%d: %s", ret, err ? err_message(err) : "no sentence");
	assert_null(err);
}

struct pack move_save(struct machine *m, unsigned int index)
{
	struct pack bytes = {.failed = false};
	struct err *err = NULL;

	check_done(vcpus_save(m->vcpus, index, &bytes, &err), err);
	assert_false(pack_failed(&bytes));
	return bytes;
}

void move_load(struct machine *m, unsigned int index, const struct pack *bytes)
{
	struct unpack in = unpack_begin(bytes->bytes, bytes->size);
	struct err *err = NULL;

	check_done(vcpus_load(m->vcpus, index, VCPU_STATE_VERSION, &in, &err), err);
}

static void
move_part(struct move *mv, int (*save)(struct kvm_vm *kvm, struct pack *out, struct err **err),
	  int (*load)(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err),
	  uint32_t version)
{
	struct pack bytes = {.failed = false};
	struct err *err = NULL;
	struct unpack in;

	check_done(save(mv->from->kvm, &bytes, &err), err);
	in = unpack_begin(bytes.bytes, bytes.size);
	check_done(load(mv->to->kvm, version, &in, &err), err);
	pack_done(&bytes);
}

void move_all(struct move *mv)
{
	kvm_vm_clock_stop(mv->from->kvm);
	kvm_vm_settle(mv->from->kvm);
	for (unsigned int i = 0; i < MOVE_VCPUS; i++) {
		struct pack bytes = move_save(mv->from, i);

		move_load(mv->to, i, &bytes);
		pack_done(&bytes);
	}
	move_part(mv, kvm_irqchip_save, kvm_irqchip_load, KVM_IRQCHIP_STATE_VERSION);
	move_part(mv, kvm_clock_save, kvm_clock_load, KVM_CLOCK_STATE_VERSION);
	memcpy(mv->to->ram, mv->from->ram, GUEST_RAM);
	kvm_vm_clock_start(mv->to->kvm);
}

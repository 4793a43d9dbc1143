/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved state of the interrupt controllers and of the guest's clock: see kvm.h for the contract.
 *
 * Interrupt controllers: u8 number; for each u32 chip, 512 bytes of state, as in struct kvm_irqchip.
 * Clock: bool, whether there is one; u64 nanoseconds.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/kvm/kvm_internal.h"

/* A slave before its master: a request at the slave is one at the master as well. */
static const uint32_t irqchip_ids[KVM_IRQCHIPS] = {KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_PIC_MASTER,
						   KVM_IRQCHIP_IOAPIC};

int kvm_irqchips_get(const struct kvm_vm *kvm, struct kvm_irqchip chips[KVM_IRQCHIPS],
		     struct err **err)
{
	for (unsigned int i = 0; i < KVM_IRQCHIPS; i++) {
		memset(&chips[i], 0, sizeof(chips[i]));
		chips[i].chip_id = irqchip_ids[i];
		if (ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chips[i]) < 0)
			return err_set(err, errno,
				       "KVM does not tell the state of an interrupt controller: %s",
				       strerror(errno));
	}
	return 0;
}

int kvm_irqchips_set(const struct kvm_vm *kvm, const struct kvm_irqchip chips[KVM_IRQCHIPS],
		     const char *what, struct err **err)
{
	for (unsigned int i = 0; i < KVM_IRQCHIPS; i++) {
		struct kvm_irqchip chip = chips[i];

		if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
			return err_set(err, errno,
				       "KVM refuses the %s state of an interrupt controller: %s",
				       what, strerror(errno));
	}
	return 0;
}

int kvm_irqchip_save(struct kvm_vm *kvm, struct pack *out, struct err **err)
{
	struct kvm_irqchip chips[KVM_IRQCHIPS];
	int ret = kvm_irqchips_get(kvm, chips, err);

	if (ret)
		return ret;
	pack_u8(out, KVM_IRQCHIPS);
	for (unsigned int i = 0; i < KVM_IRQCHIPS; i++) {
		pack_u32(out, chips[i].chip_id);
		pack_bytes(out, &chips[i].chip, sizeof(chips[i].chip));
	}
	return 0;
}

int kvm_irqchip_load(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err)
{
	struct kvm_irqchip chips[KVM_IRQCHIPS];

	if (version != KVM_IRQCHIP_STATE_VERSION)
		return err_set(err, EINVAL,
			       "version %u of the interrupt controllers' state is not known here; "
			       "known is %u",
			       version, KVM_IRQCHIP_STATE_VERSION);
	if (unpack_u8(in) != KVM_IRQCHIPS)
		unpack_fail(in);
	for (unsigned int i = 0; i < KVM_IRQCHIPS; i++) {
		memset(&chips[i], 0, sizeof(chips[i]));
		chips[i].chip_id = unpack_u32(in);
		if (chips[i].chip_id != irqchip_ids[i])
			unpack_fail(in);
		unpack_bytes(in, &chips[i].chip, sizeof(chips[i].chip));
	}
	if (!unpack_ended(in))
		return err_set(err, EINVAL,
			       "the state of the interrupt controllers is cut off or garbled");
	return kvm_irqchips_set(kvm, chips, "saved", err) ? -EINVAL : 0;
}

/* ---- the guest's clock ---- */

void kvm_vm_clock_stop(struct kvm_vm *kvm)
{
	struct kvm_clock_data clock;

	memset(&clock, 0, sizeof(clock));
	if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock) == 0) {
		kvm->clock = clock.clock;
		kvm->clock_stopped = true;
	}
}

void kvm_vm_clock_start(struct kvm_vm *kvm)
{
	struct kvm_clock_data clock;

	if (!kvm->clock_stopped)
		return;
	/* Without KVM_CLOCK_REALTIME: the time that passed meanwhile is not added. */
	memset(&clock, 0, sizeof(clock));
	clock.clock = kvm->clock;
	ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock);
	kvm->clock_stopped = false;
}

int kvm_clock_save(struct kvm_vm *kvm, struct pack *out, struct err **err)
{
	struct kvm_clock_data clock;
	bool has_clock = kvm->clock_stopped;

	memset(&clock, 0, sizeof(clock));
	clock.clock = kvm->clock;
	if (!has_clock && kvm_vm_capability(kvm, KVM_CAP_ADJUST_CLOCK)) {
		if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock) < 0)
			return err_set(err, errno, "KVM does not tell the guest's clock: %s",
				       strerror(errno));
		has_clock = true;
	}
	pack_bool(out, has_clock);
	pack_u64(out, has_clock ? clock.clock : 0);
	return 0;
}

int kvm_clock_load(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err)
{
	bool has_clock;
	uint64_t clock;

	if (version != KVM_CLOCK_STATE_VERSION)
		return err_set(err, EINVAL,
			       "version %u of the clock's state is not known here; known is %u",
			       version, KVM_CLOCK_STATE_VERSION);
	has_clock = unpack_bool(in);
	clock = unpack_u64_max(in, INT64_MAX);
	if (!unpack_ended(in))
		return err_set(err, EINVAL, "the state of the clock is cut off or garbled");
	if (has_clock && !kvm_vm_capability(kvm, KVM_CAP_ADJUST_CLOCK))
		return err_set(err, EINVAL, "this host's KVM cannot set the guest's clock");
	kvm->clock = clock;
	kvm->clock_stopped = has_clock;
	return 0;
}

/*
 * A message whose receivers take long to find is handed on by the kernel behind the sender's back;
 * taking a source off waits for that. What was signalled and not read may be delivered once more when it
 * is put on again.
 */
void kvm_vm_settle(struct kvm_vm *kvm)
{
	uint64_t signals;

	pthread_mutex_lock(&kvm->lock);
	for (unsigned int i = 0; i < kvm->nroutes; i++) {
		const struct kvm_route *route = &kvm->routes[i];
		struct kvm_irqfd irqfd = {.fd = (uint32_t)route->fd, .gsi = KVM_WIRED_GSIS + i};

		if (!route->wired)
			continue;
		irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
		if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0)
			continue;
		if (read(route->fd, &signals, sizeof(signals)) < 0)
			signals = 0;
		irqfd.flags = 0;
		if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0)
			kvm->routes[i].wired = false;
	}
	pthread_mutex_unlock(&kvm->lock);
}

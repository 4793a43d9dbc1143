/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * struct hv over KVM: wired interrupts, messages, doorbells. Memory slots are in kvm_slots.c.
 *
 * Replacing the routing table makes the kernel wait for readers, which is slow beside everything
 * else here; a message is therefore sent to the kernel only when its address or data changed, and
 * taking a route off leaves it in place (its owner does not signal a masked vector).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/kvm/kvm_internal.h"

static void kvm_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	/* Fails only for a GSI that does not exist, which is a wiring mistake in this program. */
	ioctl(kvm_of(hv)->vm_fd, KVM_IRQ_LINE, &irq);
}

int kvm_routes_commit(struct kvm_vm *kvm)
{
	const unsigned int wired_max = KVM_WIRED_ROUTES_MAX;
	struct kvm_irq_routing *table;
	unsigned int n;
	int ret = 0;

	table = calloc(1, sizeof(*table) + (wired_max + kvm->nroutes) * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	n = kvm_wired_routes(table->entries, wired_max);
	for (unsigned int i = 0; i < kvm->nroutes; i++) {
		struct kvm_irq_routing_entry *e = &table->entries[n];

		if (!kvm->routes[i].valid)
			continue;
		e->gsi = KVM_WIRED_GSIS + i;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = (uint32_t)kvm->routes[i].address;
		e->u.msi.address_hi = (uint32_t)(kvm->routes[i].address >> 32);
		e->u.msi.data = kvm->routes[i].data;
		n++;
	}
	table->nr = n;
	if (ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table) < 0)
		ret = -errno;
	free(table);
	return ret;
}

/* A free route's index, or -errno. The lock is held. */
static int kvm_route_take(struct kvm_vm *kvm)
{
	struct kvm_route *routes;
	unsigned int i, limit;

	for (i = 0; i < kvm->nroutes; i++)
		if (!kvm->routes[i].used)
			break;
	if (i == kvm->nroutes) {
		limit = (unsigned int)kvm_vm_capability(kvm, KVM_CAP_IRQ_ROUTING);
		if (KVM_WIRED_ROUTES_MAX + i >= limit)
			return -ENOSPC;
		routes = realloc(kvm->routes, (i + 1) * sizeof(*routes));
		if (!routes)
			return -ENOMEM;
		kvm->routes = routes;
		kvm->nroutes++;
	}
	kvm->routes[i] = (struct kvm_route){.used = true};
	return (int)i;
}

static int kvm_msi_new(struct hv *hv, struct hv_msi *ret_msi)
{
	struct kvm_vm *kvm = kvm_of(hv);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int index;

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&kvm->lock);
	index = kvm_route_take(kvm);
	pthread_mutex_unlock(&kvm->lock);
	if (index < 0) {
		close(fd);
		return index;
	}
	ret_msi->fd = fd;
	ret_msi->gsi = KVM_WIRED_GSIS + (uint32_t)index;
	return 0;
}

static int kvm_irqfd(struct kvm_vm *kvm, const struct hv_msi *msi, bool attach)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)msi->fd, .gsi = msi->gsi};

	if (!attach)
		irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	return ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

/* Bring route and irqfd to the wanted message; on failure the old message stays. The lock is held. */
static int kvm_route_set(struct kvm_vm *kvm, struct hv_msi *msi, struct kvm_route *route,
			 uint64_t address, uint32_t data)
{
	struct kvm_route old = *route;
	int ret;

	route->fd = msi->fd;
	if (!route->valid || route->address != address || route->data != data) {
		route->address = address;
		route->data = data;
		route->valid = true;
		ret = kvm_routes_commit(kvm);
		if (ret) {
			*route = old;
			return ret;
		}
	}
	if (!route->wired) {
		ret = kvm_irqfd(kvm, msi, true);
		if (ret)
			return ret;
		route->wired = true;
	}
	return 0;
}

static int kvm_msi_route(struct hv *hv, struct hv_msi *msi, bool enable, uint64_t address,
			 uint32_t data)
{
	struct kvm_vm *kvm = kvm_of(hv);
	int ret;

	if (!enable)
		return 0;
	if (!kvm_message_valid(address))
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	ret = kvm_route_set(kvm, msi, &kvm->routes[msi->gsi - KVM_WIRED_GSIS], address, data);
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

static void kvm_msi_free(struct hv *hv, struct hv_msi *msi)
{
	struct kvm_vm *kvm = kvm_of(hv);
	struct kvm_route *route;

	if (msi->fd < 0)
		return;
	pthread_mutex_lock(&kvm->lock);
	route = &kvm->routes[msi->gsi - KVM_WIRED_GSIS];
	if (route->wired)
		kvm_irqfd(kvm, msi, false);
	*route = (struct kvm_route){.used = false};
	pthread_mutex_unlock(&kvm->lock);
	close(msi->fd);
	msi->fd = -1;
}

static int kvm_doorbell(struct hv *hv, uint64_t gpa, unsigned int size, int fd, uint32_t flags)
{
	struct kvm_ioeventfd ioevent = {.addr = gpa, .len = size, .fd = fd, .flags = flags};

	return ioctl(kvm_of(hv)->vm_fd, KVM_IOEVENTFD, &ioevent) < 0 ? -errno : 0;
}

static int kvm_doorbell_add(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	return kvm_doorbell(hv, gpa, size, fd, 0);
}

static int kvm_doorbell_remove(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	return kvm_doorbell(hv, gpa, size, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

const struct hv_ops kvm_hv_ops = {
	.line_set = kvm_line_set,
	.msi_new = kvm_msi_new,
	.msi_route = kvm_msi_route,
	.msi_free = kvm_msi_free,
	.doorbell_add = kvm_doorbell_add,
	.doorbell_remove = kvm_doorbell_remove,
	.slot_add = kvm_slot_add,
	.slot_remove = kvm_slot_remove,
	.slots_replace = kvm_slots_replace,
	.vcpu_current = vcpu_current,
	.vcpu_hold = vcpu_hold,
};

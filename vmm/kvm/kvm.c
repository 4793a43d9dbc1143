/* SPDX-License-Identifier: BSD-3-Clause */
/* One virtual machine of Linux KVM: see kvm.h for the contract. */
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/kvm/gate.h"
#include "vmm/kvm/kvm_internal.h"

struct kvm_capability {
	int number;
	const char *name;
};

/* Without any of these ebb does not start. */
static const struct kvm_capability kvm_needed[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

int kvm_vm_fd(const struct kvm_vm *kvm)
{
	return kvm->vm_fd;
}

size_t kvm_vm_run_size(const struct kvm_vm *kvm)
{
	return kvm->run_size;
}

struct hv *kvm_vm_hv(struct kvm_vm *kvm)
{
	return &kvm->hv;
}

int kvm_vm_capability(const struct kvm_vm *kvm, int capability)
{
	int ret = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, capability);

	return ret < 0 ? 0 : ret;
}

int kvm_open(struct err **err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return err_set(err, errno,
			       "/dev/kvm is not there: the host needs a CPU with virtualization "
			       "(AMD-V or VT-x) and the kernel module kvm_amd or kvm_intel");
	case EACCES:
	case EPERM:
		return err_set(err, errno,
			       "/dev/kvm may not be opened by this user: it needs read and write "
			       "permission, usually by membership in the group 'kvm'");
	default:
		return err_set(err, errno, "/dev/kvm cannot be opened: %s", strerror(errno));
	}
}

static int kvm_check(int dev_fd, struct err **err)
{
	int version = ioctl(dev_fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION)
		return err_set(err, ENOTSUP, "/dev/kvm speaks API version %d; ebb needs %d",
			       version, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(kvm_needed); i++)
		if (ioctl(dev_fd, KVM_CHECK_EXTENSION, kvm_needed[i].number) <= 0)
			return err_set(err, ENOTSUP,
				       "this kernel's KVM lacks %s, which ebb cannot do without",
				       kvm_needed[i].name);
	return 0;
}

static int kvm_create(struct kvm_vm *kvm, struct err **err)
{
	int ret;

	/* A signal may interrupt the creation of a VM. */
	do {
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return err_set(err, errno, "KVM cannot create a virtual machine: %s",
			       strerror(errno));
	ret = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < 0)
		return err_set(err, errno, "KVM does not tell the size of a vCPU: %s",
			       strerror(errno));
	kvm->run_size = (size_t)ret;
	kvm->gate = gate_new();
	if (!kvm->gate || kvm_slots_init(kvm))
		return err_set(err, ENOMEM, "out of memory");
	ret = pthread_key_create(&kvm->vcpu_key, NULL);
	if (ret)
		return err_set(err, ret, "cannot create a thread's key: %s", strerror(ret));
	kvm->has_vcpu_key = true;
	ret = kvm_vm_init_arch(kvm, err);
	if (ret)
		return ret;
	ret = kvm_routes_commit(kvm);
	if (ret)
		return err_set(err, -ret, "KVM refuses the wiring of the interrupts: %s",
			       strerror(-ret));
	return 0;
}

int kvm_host_capability(int capability)
{
	int fd = kvm_open(NULL), ret = 0;

	if (fd >= 0) {
		ret = ioctl(fd, KVM_CHECK_EXTENSION, capability);
		close(fd);
	}
	return ret < 0 ? 0 : ret;
}

bool kvm_host_is_usable(void)
{
	int fd = kvm_open(NULL);
	bool usable = fd >= 0 && !kvm_check(fd, NULL);

	if (fd >= 0)
		close(fd);
	return usable;
}

struct kvm_vm *kvm_vm_new(struct err **err)
{
	struct kvm_vm *kvm = calloc(1, sizeof(*kvm));

	if (!kvm) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	kvm->hv.ops = &kvm_hv_ops;
	kvm->vm_fd = -1;
	pthread_mutex_init(&kvm->lock, NULL);
	kvm->dev_fd = kvm_open(err);
	if (kvm->dev_fd < 0 || kvm_check(kvm->dev_fd, err) || kvm_create(kvm, err)) {
		kvm_vm_free(kvm);
		return NULL;
	}
	return kvm;
}

void kvm_vm_free(struct kvm_vm *kvm)
{
	if (!kvm)
		return;
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd >= 0)
		close(kvm->dev_fd);
	if (kvm->has_vcpu_key)
		pthread_key_delete(kvm->vcpu_key);
	kvm_slots_done(kvm);
	kvm_dirty_done(kvm);
	gate_free(kvm->gate);
	free(kvm->routes);
	pthread_mutex_destroy(&kvm->lock);
	free(kvm);
}

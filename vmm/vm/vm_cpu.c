/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's CPUs: what they are told of themselves, and what KVM could tell others.
 *
 * Without a machine the answers are those of one with a single CPU.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/cpu_models.h"
#include "vmm/machine/cpuid.h"
#include "vmm/vm/vm_internal.h"

#define MSR_IA32_ARCH_CAPABILITIES 0x10A

/* Of a model by name, where nobody says how wide: as QEMU's. */
#define VM_PHYS_BITS_MODEL 40u

struct cpuid_topology vm_cpu_topology(const struct vm *vm)
{
	const struct vm_smp_config *smp = &vm->config->smp;

	return (struct cpuid_topology){
		.sockets = smp->sockets,
		.dies = smp->dies,
		.cores = smp->cores,
		.threads = smp->threads,
	};
}

unsigned int vm_cpu_phys_bits(const struct vm *vm)
{
	const struct vm_cpu_config *cpu = &vm->config->cpu;
	unsigned int host = cpuid_phys_bits(vm->cpuid->entries, vm->cpuid->nent), limit = host;

	if (cpu->phys_bits)
		return cpu->phys_bits;
	if (cpu->model && !cpu->host_phys_bits)
		limit = VM_PHYS_BITS_MODEL;
	else if (cpu->host_phys_bits && cpu->phys_bits_limit)
		limit = cpu->phys_bits_limit;
	return (unsigned int)num_min(host, limit);
}

/* With a model, @features are its as long as the result is in use. */
static struct cpuid_config vm_cpuid_config(const struct vm *vm, struct cpu_features *features)
{
	const struct vm_cpu_config *cpu = &vm->config->cpu;

	if (cpu->model)
		cpu_model_features(cpu->model, cpu->kvm, features);
	return (struct cpuid_config){
		.topology = vm_cpu_topology(vm),
		.model = cpu->model,
		.model_features = cpu->model ? features : NULL,
		.identity = &cpu->identity,
		.tsc_deadline = kvm_vm_capability(vm->kvm, KVM_CAP_TSC_DEADLINE_TIMER),
		.x2apic = true,
		.kvm = cpu->kvm,
		.pmu = cpu->pmu,
		.migratable = cpu->migratable,
		.phys_bits = vm_cpu_phys_bits(vm),
		.arch_capabilities = kvm_feature_msr(vm->kvm, MSR_IA32_ARCH_CAPABILITIES),
		.features = cpu->features,
		.nr_features = cpu->nr_features,
	};
}

static int vm_build_cpu(struct vm *vm, const struct cpuid_config *config, unsigned int index,
			struct kvm_cpuid_entry2 *entries, struct err **err)
{
	struct kvm_msr_entry msrs[CPUID_MSRS_MAX + 1];
	struct vcpu_identity identity = {
		.apic_id = cpuid_apic_id(&config->topology, index),
		.cpuid = entries,
		.msrs = msrs,
	};
	uint64_t capabilities;
	int ret = cpuid_build(config, vm->cpuid->entries, vm->cpuid->nent, identity.apic_id,
			      entries, &identity.nr_cpuid, err);

	if (ret)
		return ret;
	identity.nr_msrs = cpuid_msrs(entries, identity.nr_cpuid, msrs);
	capabilities = cpuid_arch_capabilities(config, entries, identity.nr_cpuid);
	if (capabilities != config->arch_capabilities)
		msrs[identity.nr_msrs++] = (struct kvm_msr_entry){
			.index = MSR_IA32_ARCH_CAPABILITIES, .data = capabilities};
	return vcpus_create(vm->vcpus, index, &identity, err);
}

static void vm_note_missing(void *opaque, const char *name)
{
	FILE *out = opaque;

	fprintf(out, "%s%s", ftell(out) ? ", " : "", name);
}

/* What the model has that this host has not: one line of it, or the end of the start. */
static int vm_check_model(struct vm *vm, const struct cpuid_config *config, struct err **err)
{
	const struct vm_cpu_config *cpu = &vm->config->cpu;
	struct cpu_features missing;
	char *names = NULL;
	size_t size;
	FILE *out;
	int ret = 0;

	if (!cpu->model || (!cpu->check && !cpu->enforce))
		return 0;
	cpuid_model_missing(config, vm->cpuid->entries, vm->cpuid->nent, &missing);
	out = open_memstream(&names, &size);
	if (!out)
		return err_set(err, ENOMEM, "out of memory");
	cpuid_each_missing(&missing, vm_note_missing, out);
	if (fclose(out)) {
		free(names);
		return err_set(err, ENOMEM, "out of memory");
	}
	if (*names && cpu->enforce)
		ret = err_set(err, EINVAL,
			      "-cpu %s: enforce=on, and this host's KVM does not offer %s",
			      cpu->name, names);
	else if (*names)
		fprintf(stderr,
			"-cpu %s: the guest goes without what this host's KVM does not "
			"offer: %s\n",
			cpu->name, names);
	free(names);
	return ret;
}

int vm_build_cpus(struct vm *vm, struct err **err)
{
	struct cpu_features features;
	const struct cpuid_config cpuid = vm_cpuid_config(vm, &features);
	const struct vcpus_config config = {
		.kvm = vm->kvm,
		.mmio = vm->mmio,
		.pio = vm->pio,
		.ops = &vm_vcpu_ops,
		.opaque = vm,
		.count = vm->config->smp.cpus,
	};
	struct kvm_cpuid_entry2 *entries;
	int ret = vm_check_model(vm, &cpuid, err);

	if (ret)
		return ret;
	vm->vcpus = vcpus_new(&config, err);
	if (!vm->vcpus)
		return -ENOMEM;
	entries = calloc(CPUID_ENTRIES_MAX, sizeof(*entries));
	if (!entries)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < config.count && !ret; i++)
		ret = vm_build_cpu(vm, &cpuid, i, entries, err);
	free(entries);
	return ret ? ret : vcpus_start(vm->vcpus, err);
}

int vm_inject_nmi(struct vm *vm, struct err **err)
{
	int ret = vm_check_here(vm, err);

	if (ret)
		return ret;
	if (!vm_can_halt(vm))
		return err_set(err, EBUSY,
			       "the guest waits for memory that is on its way; try again later");
	vm_hold(vm);
	ret = vcpus_inject_nmi(vm->vcpus);
	vm_release(vm);
	return ret ? err_set(err, -ret, "KVM cannot interrupt the vCPUs: %s", strerror(-ret)) : 0;
}

/* ---- what others ask ---- */

/* A machine with one CPU, as far as this is not a machine with its own. */
static struct cpuid_config vm_probe_config(const struct vm *vm)
{
	const int deadline = KVM_CAP_TSC_DEADLINE_TIMER;

	return (struct cpuid_config){
		.topology = {.sockets = 1, .dies = 1, .cores = 1, .threads = 1},
		.tsc_deadline = vm->kvm ? kvm_vm_capability(vm->kvm, deadline)
					: kvm_host_capability(deadline),
		.x2apic = true,
		.kvm = true,
		.offers = true,
		.arch_capabilities = kvm_feature_msr(vm->kvm, MSR_IA32_ARCH_CAPABILITIES),
	};
}

/* What the machine has, or what is read for the moment; vm_probe_done() ends it. */
static struct kvm_cpuid2 *vm_probe_cpuid(const struct vm *vm, struct err **err)
{
	return vm->cpuid ? vm->cpuid : kvm_host_cpuid(err);
}

static void vm_probe_done(const struct vm *vm, struct kvm_cpuid2 *supported)
{
	if (supported != vm->cpuid)
		free(supported);
}

int vm_host_cpu(const struct vm *vm, bool migratable,
		void (*fn)(void *opaque, const char *feature, bool on), void *opaque,
		struct vm_host_cpu *ret_cpu, struct err **err)
{
	struct cpuid_config config = vm_probe_config(vm);
	struct kvm_cpuid2 *supported = vm_probe_cpuid(vm, err);
	struct kvm_cpuid_entry2 *entries = calloc(CPUID_ENTRIES_MAX, sizeof(*entries));
	size_t nr = 0;
	int ret = -ENOMEM;

	config.migratable = migratable;
	if (!supported)
		ret = -EIO;
	else if (!entries)
		err_set(err, ENOMEM, "out of memory");
	else
		ret = cpuid_build(&config, supported->entries, supported->nent, 0, entries, &nr,
				  err);
	if (!ret) {
		cpuid_identity(entries, nr, ret_cpu->vendor, &ret_cpu->family, &ret_cpu->model,
			       &ret_cpu->stepping);
		cpuid_each_name(entries, nr, config.arch_capabilities, fn, opaque);
	}
	free(entries);
	vm_probe_done(vm, supported);
	return ret;
}

int vm_cpu_models_missing(const struct vm *vm, struct cpu_features *ret_missing, struct err **err)
{
	struct cpuid_config config = vm_probe_config(vm);
	struct kvm_cpuid2 *supported = vm_probe_cpuid(vm, err);
	struct cpu_features features[CPU_MODELS_MAX];

	if (!supported)
		return -EIO;
	cpu_models_features(config.kvm, features);
	for (size_t i = 0; cpu_models[i].name; i++) {
		config.model = &cpu_models[i];
		config.model_features = &features[i];
		cpuid_model_missing(&config, supported->entries, supported->nent, &ret_missing[i]);
	}
	vm_probe_done(vm, supported);
	return 0;
}

const struct kvm_cpuid_entry2 *vm_vcpu_cpuid(const struct vm *vm, unsigned int index,
					     size_t *ret_nr)
{
	return vcpus_cpuid(vm->vcpus, index, ret_nr);
}

void vm_cpu_missing(const struct vm *vm, struct cpu_features *ret_missing)
{
	struct cpu_features features;
	const struct cpuid_config config = vm_cpuid_config(vm, &features);

	cpuid_model_missing(&config, vm->cpuid->entries, vm->cpuid->nent, ret_missing);
}

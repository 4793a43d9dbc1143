/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is told of a CPU: its place, and what CPUID says to the guest on it. See qom.h.
 *
 * Words of features are in QEMU's form, for programs that compare them with what they asked for:
 * a register of a leaf, and its bits as a number. Only registers with named features are there.
 */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/qom.h"
#include "vmm/machine/cpu_models.h"
#include "vmm/machine/cpuid.h"
#include "vmm/vm/vm.h"

#define LEAF_LEVEL  0u
#define LEAF_XLEVEL 0x80000000u

static json_t *cpu_thread(const struct qom_node *node)
{
	return json_integer(node->index % vm_config(node->vm)->smp.threads);
}

static json_t *cpu_core(const struct qom_node *node)
{
	const struct vm_smp_config *smp = &vm_config(node->vm)->smp;

	return json_integer(node->index / smp->threads % smp->cores);
}

static json_t *cpu_die(const struct qom_node *node)
{
	const struct vm_smp_config *smp = &vm_config(node->vm)->smp;

	return json_integer(node->index / smp->threads / smp->cores % smp->dies);
}

static json_t *cpu_socket(const struct qom_node *node)
{
	const struct vm_smp_config *smp = &vm_config(node->vm)->smp;

	return json_integer(node->index / smp->threads / smp->cores / smp->dies);
}

static json_t *cpu_node(const struct qom_node *node)
{
	const struct vm_numa_config *numa = &vm_config(node->vm)->numa;

	for (unsigned int i = 0; i < numa->nr_nodes; i++) {
		if (numa->nodes[i].cpus >> node->index & 1)
			return json_integer(i);
	}
	return json_integer(-1);
}

/* ---- CPUID ---- */

struct cpu_told {
	const struct kvm_cpuid_entry2 *entries;
	size_t nr;
	char vendor[13];
	unsigned int family, model, stepping;
};

static struct cpu_told cpu_told(const struct qom_node *node)
{
	struct cpu_told told;

	told.entries = vm_vcpu_cpuid(node->vm, node->index, &told.nr);
	cpuid_identity(told.entries, told.nr, told.vendor, &told.family, &told.model,
		       &told.stepping);
	return told;
}

static json_t *cpu_vendor(const struct qom_node *node)
{
	const struct cpu_told told = cpu_told(node);

	return qom_text(told.vendor);
}

static json_t *cpu_family(const struct qom_node *node)
{
	return json_integer(cpu_told(node).family);
}

static json_t *cpu_model_number(const struct qom_node *node)
{
	return json_integer(cpu_told(node).model);
}

static json_t *cpu_stepping(const struct qom_node *node)
{
	return json_integer(cpu_told(node).stepping);
}

static json_t *cpu_id(const struct qom_node *node)
{
	const struct cpu_told told = cpu_told(node);
	char id[CPUID_BRAND_BYTES];

	cpuid_brand(told.entries, told.nr, id);
	return qom_text(id);
}

static json_t *cpu_last_leaf(const struct qom_node *node, uint32_t leaf)
{
	const struct cpu_told told = cpu_told(node);

	return json_integer(cpuid_read(told.entries, told.nr, leaf, 0, VM_CPUID_EAX));
}

static json_t *cpu_level(const struct qom_node *node)
{
	return cpu_last_leaf(node, LEAF_LEVEL);
}

static json_t *cpu_xlevel(const struct qom_node *node)
{
	return cpu_last_leaf(node, LEAF_XLEVEL);
}

static json_t *cpu_word(const struct cpuid_names *row, uint32_t bits)
{
	static const char *const regs[] = {
		[VM_CPUID_EAX] = "EAX",
		[VM_CPUID_EBX] = "EBX",
		[VM_CPUID_ECX] = "ECX",
		[VM_CPUID_EDX] = "EDX",
	};
	json_t *word = json_pack("{s:I, s:s, s:I}", "cpuid-input-eax", (json_int_t)row->leaf,
				 "cpuid-register", regs[row->reg], "features", (json_int_t)bits);

	if (row->leaf == 7 || row->leaf == 0xD)
		control_set(&word, "cpuid-input-ecx", json_integer(row->subleaf));
	return word;
}

static json_t *cpu_feature_words(const struct qom_node *node)
{
	const struct cpu_told told = cpu_told(node);
	struct control_list list;
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);

	control_list_init(&list);
	for (size_t i = 0; i < nr; i++) {
		if (named[i].leaf != CPUID_ARCH_CAPABILITIES)
			control_list_add(
				&list,
				cpu_word(&named[i], cpuid_read(told.entries, told.nr, named[i].leaf,
							       named[i].subleaf, named[i].reg)));
	}
	return control_list_end(&list);
}

static json_t *cpu_filtered_features(const struct qom_node *node)
{
	struct cpu_features missing;
	struct control_list list;
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);

	vm_cpu_missing(node->vm, &missing);
	control_list_init(&list);
	for (size_t i = 0; i < nr; i++) {
		if (named[i].leaf != CPUID_ARCH_CAPABILITIES)
			control_list_add(&list, cpu_word(&named[i], missing.words[i]));
	}
	return control_list_end(&list);
}

const struct qom_row qom_cpu_rows[] = {
	{.name = "socket-id", .type = "int32", .get = cpu_socket},
	{.name = "die-id", .type = "int32", .get = cpu_die},
	{.name = "core-id", .type = "int32", .get = cpu_core},
	{.name = "thread-id", .type = "int32", .get = cpu_thread},
	{.name = "node-id", .type = "int32", .get = cpu_node},
	{.name = "vendor", .type = "string", .get = cpu_vendor},
	{.name = "family", .type = "int", .get = cpu_family},
	{.name = "model", .type = "int", .get = cpu_model_number},
	{.name = "stepping", .type = "int", .get = cpu_stepping},
	{.name = "model-id", .type = "string", .get = cpu_id},
	{.name = "level", .type = "uint32", .get = cpu_level},
	{.name = "xlevel", .type = "uint32", .get = cpu_xlevel},
	{.name = "feature-words", .type = "X86CPUFeatureWordInfo", .get = cpu_feature_words},
	{.name = "filtered-features",
	 .type = "X86CPUFeatureWordInfo",
	 .get = cpu_filtered_features},
	{.name = NULL},
};

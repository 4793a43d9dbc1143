/* SPDX-License-Identifier: BSD-3-Clause */
/* What the Tab key offers people as the first argument of a command: ids and types. */
#include "vmm/cmdline/object.h"
#include "vmm/control/internal.h"

static const struct vm_config *complete_config(void *ctx)
{
	const struct control *control = ctx;

	return vm_config(control->vm);
}

void control_complete_memory_device(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct control *control = ctx;

	for (size_t i = 0; index == 0 && i < vm_nr_memory_devices(control->vm); i++)
		if (vm_memory_device(control->vm, i)->id)
			hmp_words_add(words, vm_memory_device(control->vm, i)->id);
}

void control_complete_device(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct vm_config *config = complete_config(ctx);

	for (size_t i = 0; index == 0 && i < config->nr_devices; i++)
		if (config->devices[i]->id)
			hmp_words_add(words, config->devices[i]->id);
}

/* Only what can be added to a running machine. */
void control_complete_driver(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	if (index)
		return;
	hmp_words_add(words, vm_device_type_name(VM_DEVICE_VIRTIO_BALLOON));
	hmp_words_add(words, vm_device_type_name(VM_DEVICE_VIRTIO_MEM));
	hmp_words_add(words, vm_device_type_name(VM_DEVICE_VIRTIO_RNG));
}

void control_complete_object(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct vm_config *config = complete_config(ctx);

	if (index)
		return;
	for (size_t i = 0; i < config->nr_memdevs; i++)
		hmp_words_add(words, config->memdevs[i]->id);
	for (size_t i = 0; i < config->nr_rngs; i++)
		hmp_words_add(words, config->rngs[i]->id);
	for (size_t i = 0; i < config->nr_iothreads; i++)
		hmp_words_add(words, config->iothreads[i]->id);
	for (size_t i = 0; i < config->nr_secrets; i++)
		hmp_words_add(words, config->secrets[i]->id);
}

void control_complete_object_type(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	for (size_t i = 0; index == 0 && object_classes[i].name; i++)
		hmp_words_add(words, object_classes[i].name);
}

void control_complete_chardev(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct vm_config *config = complete_config(ctx);

	for (size_t i = 0; index == 0 && i < config->nr_chardevs; i++)
		hmp_words_add(words, config->chardevs[i]->id);
}

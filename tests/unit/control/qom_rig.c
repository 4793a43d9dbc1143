/* SPDX-License-Identifier: BSD-3-Clause */
/* See qom_rig.h. */
#include "tests/unit/control/qom_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kvm.h>
#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "tests/unit/cmdline/fixture.h"
#include "vmm/chardev/chardev.h"
#include "vmm/control/explain.h"
#include "vmm/machine/cpu_models.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/mem.h"

#define DEVICES_MAX 16

struct virtio_mem {
	struct vmem_device_info info;
};

struct balloon {
	struct balloon_stats stats;
};

struct pci_device {
	const struct vm_device_config *config;
	unsigned int slot;
};

struct vm {
	struct vm_config *config;
	struct vm_memory_device memory_devices[DEVICES_MAX];
	struct virtio_mem mems[DEVICES_MAX];
	size_t nr_memory_devices;
	struct pci_device functions[DEVICES_MAX];
	struct balloon balloon;
};

struct rig {
	char *folder;
	struct vm vm;
	struct control control;
	uv_loop_t uv;
	struct qmp_session *session;
	struct hmp_session *person;
	char *output;
	size_t size;
};

/* ---- the machine that is made up ---- */

/* CPUs that say who they are and that they have SSE2; one of the model's features is missing. */
const struct kvm_cpuid_entry2 *vm_vcpu_cpuid(const struct vm *vm, unsigned int index,
					     size_t *ret_nr)
{
	static const struct kvm_cpuid_entry2 entries[] = {
		{.function = 0,
		 .eax = 0xD,
		 .ebx = 0x756e6547,
		 .ecx = 0x6c65746e,
		 .edx = 0x49656e69},
		{.function = 1, .eax = 0x306C4, .edx = 1u << 26},
	};

	(void)vm;
	(void)index;
	*ret_nr = ARRAY_SIZE(entries);
	return entries;
}

void vm_cpu_missing(const struct vm *vm, struct cpu_features *ret_missing)
{
	(void)vm;
	memset(ret_missing, 0, sizeof(*ret_missing));
	ret_missing->words[cpuid_names_row(7, 0, VM_CPUID_EBX)] = 1u << 5;
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return vm->config;
}

size_t vm_nr_memory_devices(const struct vm *vm)
{
	return vm->nr_memory_devices;
}

const struct vm_memory_device *vm_memory_device(const struct vm *vm, size_t index)
{
	return &vm->memory_devices[index];
}

struct pci_device *vm_pci_device(const struct vm *vm, const struct vm_device_config *config)
{
	for (size_t i = 0; i < vm->config->nr_devices; i++)
		if (vm->functions[i].config == config && config->type != VM_DEVICE_ISA_SERIAL &&
		    config->type != VM_DEVICE_PVPANIC)
			return (struct pci_device *)&vm->functions[i];
	return NULL;
}

struct balloon *vm_balloon(const struct vm *vm)
{
	return (struct balloon *)&vm->balloon;
}

/* Two figures, one of them larger than what JSON can tell; of the others the guest says nothing. */
void balloon_stats(struct balloon *balloon, struct balloon_stats *ret_stats)
{
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++)
		balloon->stats.values[s] = BALLOON_STAT_UNKNOWN;
	balloon->stats.values[BALLOON_STAT_MEMFREE] = 4096;
	balloon->stats.values[BALLOON_STAT_MAJFLT] = BALLOON_STAT_UNKNOWN - 1;
	balloon->stats.last_update_s = 1234;
	*ret_stats = balloon->stats;
}

void balloon_set_stats_interval(struct balloon *balloon, uint32_t seconds)
{
	balloon->stats.interval_s = seconds;
}

const char *balloon_stat_name(enum balloon_stat stat)
{
	return stat == BALLOON_STAT_MEMFREE ? "stat-free-memory" : "stat-major-faults";
}

struct chardev *vm_chardev(const struct vm *vm, const struct vm_chardev_config *config)
{
	(void)vm;
	return (struct chardev *)config;
}

char *chardev_filename(const struct chardev *chr)
{
	const struct vm_chardev_config *config = (const struct vm_chardev_config *)chr;

	return strdup(config->path ? "disconnected:unix:c,server=on" : "tcp:localhost:1234");
}

int vm_check_resize(const struct vm *vm, struct err **err)
{
	(void)vm;
	(void)err;
	return 0;
}

void virtio_mem_info(const struct virtio_mem *mem, struct vmem_device_info *ret_info)
{
	*ret_info = mem->info;
}

int virtio_mem_resize(struct virtio_mem *mem, uint64_t requested_size, struct err **err)
{
	if (requested_size % mem->info.block_size || requested_size > mem->info.region_size)
		return err_set(err, EINVAL, "no such size");
	mem->info.requested_size = requested_size;
	return 0;
}

int virtio_mem_set_request_policy(struct virtio_mem *mem, uint64_t request_limit,
				  uint64_t request_rate, struct err **err)
{
	if (request_limit % mem->info.block_size || request_limit > mem->info.region_size)
		return err_set(err, EINVAL, "no such limit");
	mem->info.request_limit = request_limit;
	mem->info.request_rate = request_rate;
	return 0;
}

enum virtio_mem_progress virtio_mem_progress(struct virtio_mem *mem)
{
	(void)mem;
	return VIRTIO_MEM_NO_DRIVER;
}

const char *virtio_mem_progress_name(enum virtio_mem_progress progress)
{
	assert_int_equal(progress, VIRTIO_MEM_NO_DRIVER);
	return "no-driver";
}

const char *control_pci_class_desc(unsigned int class)
{
	return class == 0x0500 ? "RAM controller" : NULL;
}

bool control_mem_explain(const struct vm *vm, const struct vm_memory_device *device,
			 struct resize_explanation *ret)
{
	(void)vm;
	snprintf(ret->text, sizeof(ret->text), "nobody is there");
	return device->id != NULL;
}

void virtio_mem_guard_info(const struct virtio_mem *mem, struct vmem_guard_info *ret_info)
{
	(void)mem;
	*ret_info = (struct vmem_guard_info){.mechanism = "mprotect", .memslots = 3};
}

void virtio_mem_violations(const struct virtio_mem *mem, struct virtio_mem_violations *ret)
{
	(void)mem;
	*ret = (struct virtio_mem_violations){.writes = 5, .reads = 7};
}

unsigned int pci_device_slot(const struct pci_device *dev)
{
	return dev->slot;
}

unsigned int pci_device_function(const struct pci_device *dev)
{
	return dev->config->pci.function;
}

struct pci_bus *pci_device_bus(const struct pci_device *dev)
{
	return (struct pci_bus *)dev;
}

unsigned int pci_bus_number(const struct pci_bus *bus)
{
	return ((const struct pci_device *)bus)->config->pci.port ? 1 : 0;
}

struct pci_port *pci_device_port(const struct pci_device *dev)
{
	return dev->config->type == VM_DEVICE_ROOT_PORT ? (struct pci_port *)dev : NULL;
}

uint32_t pci_device_config(struct pci_device *dev, unsigned int reg, unsigned int size)
{
	/* MSI-X with two vectors at 40, PCI Express with slot number 5 at 50 */
	static const uint8_t bytes[] = {
		0xf4,          0x1a,
		0x58,          0x10,
		[0x0b] = 0x05, [0x2c] = 0xf4,
		[0x2d] = 0x1a, [0x2e] = 0x40,
		[0x34] = 0x40, [0x40] = 0x11,
		[0x41] = 0x50, [0x42] = 1,
		[0x50] = 0x10, [0x66] = 5 << 3,
		[0x67] = 0,
	};
	uint32_t value = 0;

	(void)dev;
	memcpy(&value, bytes + reg, size);
	return value;
}

bool pci_device_bar(struct pci_device *dev, unsigned int bar, struct pci_bar_info *ret_info)
{
	(void)dev;
	*ret_info = (struct pci_bar_info){.gpa = {0xfe000000, 0x4000}, .mapped = true};
	return bar == 4;
}

/* ---- the rig ---- */

static size_t rig_write(void *opaque, const char *buf, size_t size)
{
	struct rig *rig = opaque;

	rig->output = realloc(rig->output, rig->size + size + 1);
	assert_non_null(rig->output);
	memcpy(rig->output + rig->size, buf, size);
	rig->size += size;
	rig->output[rig->size] = '\0';
	return size;
}

static void rig_drop(void *opaque)
{
	(void)opaque;
	fail_msg("the session was dropped");
}

static void rig_resume(void *opaque)
{
	(void)opaque;
}

static int rig_take_fd(void *opaque)
{
	(void)opaque;
	return -1;
}

static const struct qmp_session_ops rig_ops = {rig_write, rig_drop, rig_resume, rig_take_fd};
static const struct hmp_session_ops rig_person_ops = {
	.write = rig_write, .drop = rig_drop, .resume = rig_resume};

static void rig_clear(struct rig *rig)
{
	free(rig->output);
	rig->output = NULL;
	rig->size = 0;
}

/* Every device gets a slot, every memory device a region; as a builder would. */
static void rig_build(struct vm *vm)
{
	uint64_t gpa = UINT64_C(4) << 30;

	for (size_t i = 0; i < vm->config->nr_devices; i++) {
		const struct vm_device_config *device = vm->config->devices[i];
		const struct vm_virtio_mem_config *mem = &device->virtio_mem;
		size_t n = vm->nr_memory_devices;

		assert_true(i < DEVICES_MAX);
		vm->functions[i].config = device;
		vm->functions[i].slot = device->pci.has_addr || device->pci.port
						? device->pci.slot
						: (unsigned int)i + 8;
		if (device->type != VM_DEVICE_VIRTIO_MEM)
			continue;
		vm->mems[n].info = (struct vmem_device_info){
			.addr = gpa,
			.region_size = mem->region_size_bytes,
			.block_size = mem->block_size_bytes,
			.usable_region_size = mem->region_size_bytes / 2,
			.plugged_size = mem->block_size_bytes,
			.requested_size = mem->requested_size_bytes,
			.owner_size = mem->requested_size_bytes - n * mem->block_size_bytes,
			.request_limit = mem->request_limit_bytes,
			.request_rate = mem->request_rate_bytes,
		};
		vm->memory_devices[n] = (struct vm_memory_device){
			.id = device->id,
			.memdev_id = mem->memdev_id,
			.node = mem->node,
			.memslot_bytes = UINT64_C(128) << 20,
			.mem = &vm->mems[n],
		};
		gpa += mem->region_size_bytes;
		vm->nr_memory_devices++;
	}
}

struct rig *rig_new(const char *line)
{
	static const struct qmp_module *const modules[] = {&control_qom_module, NULL};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct qmp_config config = {.modules = modules, .prompt = "(qemu) ", .package = ""};
	struct err *err = NULL;

	assert_non_null(rig);
	assert_int_equal(fixture_setup((void **)&rig->folder), 0);
	rig->vm.config = fixture_config(line);
	rig_build(&rig->vm);
	rig->control.vm = &rig->vm;
	assert_int_equal(uv_loop_init(&rig->uv), 0);
	config.uv = &rig->uv;
	config.ctx = &rig->control;
	rig->control.qmp = qmp_new(&config, &err);
	if (!rig->control.qmp)
		fail_msg("%s", err_message(err));
	rig->session = qmp_session_new(rig->control.qmp, &rig_ops, rig, false);
	rig->person = hmp_session_new(qmp_human(rig->control.qmp), &rig_person_ops, rig);
	assert_non_null(rig->session);
	assert_non_null(rig->person);
	json_decref(rig_get(rig, "qmp_capabilities", "{}"));
	return rig;
}

void rig_free(struct rig *rig)
{
	rig_clear(rig);
	qmp_session_free(rig->session);
	hmp_session_free(rig->person);
	qmp_free(rig->control.qmp);
	uv_run(&rig->uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->uv), 0);
	vm_config_free(rig->vm.config);
	assert_int_equal(fixture_teardown((void **)&rig->folder), 0);
	free(rig);
}

int rig_setup(void **state)
{
	*state = rig_new(RIG_LINE);
	return 0;
}

int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

struct vm *rig_vm(struct rig *rig)
{
	return &rig->vm;
}

uint64_t rig_requested(struct rig *rig, const char *memdev_id)
{
	for (size_t i = 0; i < rig->vm.nr_memory_devices; i++)
		if (!strcmp(rig->vm.memory_devices[i].memdev_id, memdev_id))
			return rig->vm.mems[i].info.requested_size;
	fail_msg("there is no %s", memdev_id);
	return 0;
}

static json_t *rig_vask(struct rig *rig, const char *command, const char *args, va_list ap)
{
	char *text, *line;
	json_t *answer;

	assert_true(vasprintf(&text, args, ap) >= 0);
	for (char *at = text; (at = strchr(at, '\'')); at++)
		*at = '"';
	assert_true(asprintf(&line, "{\"execute\": \"%s\", \"arguments\": %s}\n", command, text) >=
		    0);
	rig_clear(rig);
	for (size_t at = 0, size = strlen(line), room; at < size; at += room) {
		room = qmp_session_room(rig->session);
		if (room > size - at)
			room = size - at;
		assert_true(room > 0);
		qmp_session_input(rig->session, line + at, room);
	}
	assert_non_null(rig->output);
	answer = json_loads(rig->output, 0, NULL);
	if (!answer)
		fail_msg("%s: %s", line, rig->output);
	free(line);
	free(text);
	return answer;
}

json_t *rig_ask(struct rig *rig, const char *command, const char *args, ...)
{
	json_t *answer;
	va_list ap;

	va_start(ap, args);
	answer = rig_vask(rig, command, args, ap);
	va_end(ap);
	return answer;
}

json_t *rig_get(struct rig *rig, const char *command, const char *args, ...)
{
	json_t *answer, *value;
	va_list ap;

	va_start(ap, args);
	answer = rig_vask(rig, command, args, ap);
	va_end(ap);
	value = json_incref(json_object_get(answer, "return"));
	if (!value)
		fail_msg("%s %s: %s", command, args, rig->output);
	json_decref(answer);
	return value;
}

void rig_refused(struct rig *rig, const char *class, const char *desc, const char *command,
		 const char *args, ...)
{
	json_t *answer;
	const json_t *error;
	va_list ap;

	va_start(ap, args);
	answer = rig_vask(rig, command, args, ap);
	va_end(ap);
	error = json_object_get(answer, "error");
	if (!error)
		fail_msg("%s %s: %s", command, args, rig->output);
	assert_string_equal(json_string_value(json_object_get(error, "desc")), desc);
	assert_string_equal(json_string_value(json_object_get(error, "class")), class);
	json_decref(answer);
}

static size_t visit_write(void *opaque, const char *buf, size_t size)
{
	(void)opaque;
	(void)buf;
	return size;
}

static void visit_drop(void *opaque)
{
	bool *gone = opaque;

	*gone = true;
}

void rig_visit(struct rig *rig, const char *text)
{
	static const struct qmp_session_ops ops = {visit_write, visit_drop, rig_resume,
						   rig_take_fd};
	bool gone = false;
	struct qmp_session *session = qmp_session_new(rig->control.qmp, &ops, &gone, false);

	for (; session && *text && !gone; text++)
		qmp_session_input(session, text, 1);
	qmp_session_free(session);
}

void rig_visit_human(struct rig *rig, const char *text)
{
	static const struct hmp_session_ops ops = {
		.write = visit_write, .drop = visit_drop, .resume = rig_resume};
	bool gone = false;
	struct hmp_session *session = hmp_session_new(qmp_human(rig->control.qmp), &ops, &gone);

	for (; session && *text && !gone; text++)
		hmp_session_input(session, text, 1);
	hmp_session_free(session);
}

static void rig_printed(void *opaque, const char *output, size_t size)
{
	char **text = opaque;

	*text = strndup(output, size);
}

char *rig_line(struct rig *rig, const char *line)
{
	char *text = NULL;

	hmp_execute(qmp_human(rig->control.qmp), line, rig_printed, &text);
	assert_non_null(text);
	return text;
}

char *rig_type(struct rig *rig, const char *keys)
{
	rig_clear(rig);
	for (; *keys; keys++)
		hmp_session_input(rig->person, keys, 1);
	return strdup(rig->output ? rig->output : "");
}

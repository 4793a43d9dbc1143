// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Attributes of a device, in /sys/bus/virtio/drivers/ebb_mem/virtioN/: what docs/linux-driver.md lists,
 * one value a file. Sizes are in bytes.
 *
 * Threads: any. Figures are those of the core's last step; the device's lock is held while the core is
 * told something, and waited for in a way that a signal ends.
 */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/slab.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/virtio_config.h>

#include "driver/linux/ebb_mem.h"

/* A number that the core tells. */
struct info_attribute {
	struct device_attribute base;
	size_t offset; /* in struct vmem_driver_info */
};

static struct ebb_mem *to_mem(struct device *dev)
{
	return dev_to_virtio(dev)->priv;
}

static ssize_t info_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct info_attribute *info_attr = container_of(attr, struct info_attribute, base);
	struct vmem_driver_info info;

	ebb_mem_info(to_mem(dev), &info);
	return sysfs_emit(buf, "%llu\n", *(const u64 *)((const char *)&info + info_attr->offset));
}

#define INFO_ATTR(label, field)                                     \
	static struct info_attribute info_attr_##label = {          \
		.base = __ATTR(label, 0444, info_show, NULL),       \
		.offset = offsetof(struct vmem_driver_info, field), \
	}

INFO_ATTR(addr, addr);
INFO_ATTR(region_size, region_size);
INFO_ATTR(block_size, block_size);
INFO_ATTR(usable_region_size, usable_region_size);
INFO_ATTR(requested_size, requested_size);
INFO_ATTR(plugged_size, plugged_size);
INFO_ATTR(online_size, online_size);
INFO_ATTR(offline_size, offline_size);
INFO_ATTR(held_size, held_size);
INFO_ATTR(unit_size, unit_bytes);
INFO_ATTR(chunk_size, chunk_bytes);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char *const names[] = {
		[VMEM_DRIVER_STARTING] = "starting", [VMEM_DRIVER_WORKING] = "working",
		[VMEM_DRIVER_THERE] = "there",       [VMEM_DRIVER_WAITING] = "waiting",
		[VMEM_DRIVER_LEAVING] = "leaving",   [VMEM_DRIVER_LEFT] = "left",
		[VMEM_DRIVER_ENDED] = "ended",
	};
	struct vmem_driver_info info;

	ebb_mem_info(to_mem(dev), &info);
	return sysfs_emit(buf, "%s\n", names[info.status]);
}
static DEVICE_ATTR_RO(state);

static ssize_t retry_ms_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vmem_driver_info info;

	ebb_mem_info(to_mem(dev), &info);
	return sysfs_emit(buf, "%u\n", info.retry_ms);
}
static DEVICE_ATTR_RO(retry_ms);

static ssize_t node_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", to_mem(dev)->nid);
}
static DEVICE_ATTR_RO(node);

static ssize_t memmap_on_memory_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char *const names[] = {
		[EBB_MEM_MEMMAP_OFF] = "no",
		[EBB_MEM_MEMMAP_TRY] = "unknown",
		[EBB_MEM_MEMMAP_ON] = "yes",
	};

	return sysfs_emit(buf, "%s\n", names[READ_ONCE(to_mem(dev)->memmap)]);
}
static DEVICE_ATTR_RO(memmap_on_memory);

static ssize_t retry_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t len)
{
	struct ebb_mem *mem = to_mem(dev);

	if (!sysfs_streq(buf, "1"))
		return -EINVAL;
	if (mutex_lock_interruptible(&mem->lock) != 0)
		return -ERESTARTSYS;
	vmem_driver_retry(mem->drv);
	mutex_unlock(&mem->lock);
	ebb_mem_kick(mem);
	return len;
}
static DEVICE_ATTR_WO(retry);

static struct attribute *device_attrs[] = {
	&info_attr_addr.base.attr,
	&info_attr_region_size.base.attr,
	&info_attr_block_size.base.attr,
	&info_attr_usable_region_size.base.attr,
	&info_attr_requested_size.base.attr,
	&info_attr_plugged_size.base.attr,
	&info_attr_online_size.base.attr,
	&info_attr_offline_size.base.attr,
	&info_attr_held_size.base.attr,
	&info_attr_unit_size.base.attr,
	&info_attr_chunk_size.base.attr,
	&dev_attr_state.attr,
	&dev_attr_retry_ms.attr,
	&dev_attr_node.attr,
	&dev_attr_memmap_on_memory.attr,
	&dev_attr_retry.attr,
	NULL,
};

static const struct attribute_group device_group = {.attrs = device_attrs};

/* stats/ */
#define ANSWER_ATTRS(label, request)                               \
	INFO_ATTR(label##_ack, answers[request][VMEM_RESP_ACK]);   \
	INFO_ATTR(label##_nack, answers[request][VMEM_RESP_NACK]); \
	INFO_ATTR(label##_busy, answers[request][VMEM_RESP_BUSY]); \
	INFO_ATTR(label##_error, answers[request][VMEM_RESP_ERROR])

ANSWER_ATTRS(plug, VMEM_REQ_PLUG);
ANSWER_ATTRS(unplug, VMEM_REQ_UNPLUG);
ANSWER_ATTRS(unplug_all, VMEM_REQ_UNPLUG_ALL);
ANSWER_ATTRS(state, VMEM_REQ_STATE);
INFO_ATTR(size_granted, size_answers[VMEM_SIZE_RESP_GRANTED]);
INFO_ATTR(size_partly, size_answers[VMEM_SIZE_RESP_PARTLY]);
INFO_ATTR(size_refused, size_answers[VMEM_SIZE_RESP_REFUSED]);
INFO_ATTR(size_later, size_answers[VMEM_SIZE_RESP_LATER]);
INFO_ATTR(size_error, size_answers[VMEM_SIZE_RESP_ERROR]);
INFO_ATTR(adds, adds);
INFO_ATTR(add_failures, add_failures);
INFO_ATTR(removes, removes);
INFO_ATTR(remove_failures, remove_failures);
INFO_ATTR(takes, takes);
INFO_ATTR(take_failures, take_failures);
INFO_ATTR(plugged_bytes, plugged_bytes);
INFO_ATTR(unplugged_bytes, unplugged_bytes);

#define COUNTER_ATTR(name, member)                                                               \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf) \
	{                                                                                        \
		return sysfs_emit(buf, "%ld\n", atomic_long_read(&to_mem(dev)->member));         \
	}                                                                                        \
	static DEVICE_ATTR_RO(name)

COUNTER_ATTR(interrupted, interrupted);
COUNTER_ATTR(oom_looks, pressure.oom_looks);
COUNTER_ATTR(oom_helped, pressure.oom_helped);

#define ANSWER_ENTRIES(label)                                                    \
	&info_attr_##label##_ack.base.attr, &info_attr_##label##_nack.base.attr, \
		&info_attr_##label##_busy.base.attr, &info_attr_##label##_error.base.attr

static struct attribute *stats_attrs[] = {
	ANSWER_ENTRIES(plug),
	ANSWER_ENTRIES(unplug),
	ANSWER_ENTRIES(unplug_all),
	ANSWER_ENTRIES(state),
	&info_attr_size_granted.base.attr,
	&info_attr_size_partly.base.attr,
	&info_attr_size_refused.base.attr,
	&info_attr_size_later.base.attr,
	&info_attr_size_error.base.attr,
	&info_attr_adds.base.attr,
	&info_attr_add_failures.base.attr,
	&info_attr_removes.base.attr,
	&info_attr_remove_failures.base.attr,
	&info_attr_takes.base.attr,
	&info_attr_take_failures.base.attr,
	&info_attr_plugged_bytes.base.attr,
	&info_attr_unplugged_bytes.base.attr,
	&dev_attr_interrupted.attr,
	&dev_attr_oom_looks.attr,
	&dev_attr_oom_helped.attr,
	NULL,
};

static const struct attribute_group stats_group = {.name = "stats", .attrs = stats_attrs};

/* size_policy/ */
static ssize_t policy_store(struct device *dev, const struct vmem_driver_size_policy *policy,
			    bool automatic, size_t len)
{
	struct ebb_mem *mem = to_mem(dev);
	int error = ebb_mem_pressure_set(mem, policy);

	if (!error)
		mem->pressure.automatic = automatic;
	mutex_unlock(&mem->lock);
	if (error)
		return error;
	ebb_mem_kick(mem);
	return len;
}

/* The policy as it is, to be changed; with the lock held unless it fails. */
static int policy_begin(struct device *dev, struct vmem_driver_size_policy *ret_policy)
{
	struct ebb_mem *mem = to_mem(dev);

	if (mutex_lock_interruptible(&mem->lock) != 0)
		return -ERESTARTSYS;
	*ret_policy = mem->pressure.policy;
	return 0;
}

static ssize_t enabled_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(to_mem(dev)->pressure.policy.on));
}

static ssize_t enabled_store(struct device *dev, struct device_attribute *attr, const char *buf,
			     size_t len)
{
	struct vmem_driver_size_policy policy;
	bool on;
	int error = kstrtobool(buf, &on);

	if (!error)
		error = policy_begin(dev, &policy);
	if (error)
		return error;
	policy.on = on;
	return policy_store(dev, &policy, to_mem(dev)->pressure.automatic, len);
}
static DEVICE_ATTR_RW(enabled);

static ssize_t watermarks_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vmem_driver_size_policy policy;
	int error = policy_begin(dev, &policy);

	if (error)
		return error;
	mutex_unlock(&to_mem(dev)->lock);
	if (to_mem(dev)->pressure.automatic)
		return sysfs_emit(buf, "auto\n");
	return sysfs_emit(buf, "%llu %llu %llu\n", policy.low_bytes, policy.target_bytes,
			  policy.high_bytes);
}

/* Three numbers, each after the first behind one or more spaces, and nothing else. */
static int parse_watermarks(const char *text, u64 *const ret_numbers[3])
{
	char *copy = kstrdup(text, GFP_KERNEL), *rest, *word;
	int nr = 0, error = 0;

	if (!copy)
		return -ENOMEM;
	rest = strim(copy);
	while (!error && (word = strsep(&rest, " \t"))) {
		if (!*word)
			continue;
		error = nr < 3 ? kstrtou64(word, 0, ret_numbers[nr]) : -EINVAL;
		nr++;
	}
	kfree(copy);
	return !error && nr != 3 ? -EINVAL : error;
}

static ssize_t watermarks_store(struct device *dev, struct device_attribute *attr, const char *buf,
				size_t len)
{
	struct vmem_driver_size_policy policy;
	bool automatic = sysfs_streq(buf, "auto");
	u64 low = 0, target = 0, high = 0;
	u64 *const numbers[3] = {&low, &target, &high};
	int error = automatic ? 0 : parse_watermarks(buf, numbers);

	if (!error)
		error = policy_begin(dev, &policy);
	if (error)
		return error;
	policy.low_bytes = low;
	policy.target_bytes = target;
	policy.high_bytes = high;
	return policy_store(dev, &policy, automatic, len);
}
static DEVICE_ATTR_RW(watermarks);

#define POLICY_ATTR(field, type, parse)                                                           \
	static ssize_t field##_show(struct device *dev, struct device_attribute *attr, char *buf) \
	{                                                                                         \
		u64 value = READ_ONCE(to_mem(dev)->pressure.policy.field);                        \
                                                                                                  \
		return sysfs_emit(buf, "%llu\n", value);                                          \
	}                                                                                         \
	static ssize_t field##_store(struct device *dev, struct device_attribute *attr,           \
				     const char *buf, size_t len)                                 \
	{                                                                                         \
		struct vmem_driver_size_policy policy;                                            \
		type value;                                                                       \
		int error = parse(buf, 0, &value);                                                \
                                                                                                  \
		if (!error)                                                                       \
			error = policy_begin(dev, &policy);                                       \
		if (error)                                                                        \
			return error;                                                             \
		policy.field = value;                                                             \
		return policy_store(dev, &policy, to_mem(dev)->pressure.automatic, len);          \
	}                                                                                         \
	static DEVICE_ATTR_RW(field)

POLICY_ATTR(idle_ms, u32, kstrtou32);
POLICY_ATTR(interval_ms, u32, kstrtou32);
POLICY_ATTR(max_bytes, u64, kstrtou64);

#define PRESSURE_ATTR(field, least, most)                                                         \
	static ssize_t field##_show(struct device *dev, struct device_attribute *attr, char *buf) \
	{                                                                                         \
		return sysfs_emit(buf, "%u\n", READ_ONCE(to_mem(dev)->pressure.field));           \
	}                                                                                         \
	static ssize_t field##_store(struct device *dev, struct device_attribute *attr,           \
				     const char *buf, size_t len)                                 \
	{                                                                                         \
		unsigned int value;                                                               \
		int error = kstrtouint(buf, 0, &value);                                           \
                                                                                                  \
		if (error)                                                                        \
			return error;                                                             \
		if (value < (least) || value > (most))                                            \
			return -ERANGE;                                                           \
		WRITE_ONCE(to_mem(dev)->pressure.field, value);                                   \
		ebb_mem_kick(to_mem(dev));                                                        \
		return len;                                                                       \
	}                                                                                         \
	static DEVICE_ATTR_RW(field)

PRESSURE_ATTR(look_ms, 10, 3600000);
PRESSURE_ATTR(oom_ms, 0, 60000);

static ssize_t available_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", READ_ONCE(to_mem(dev)->pressure.available_bytes));
}
static DEVICE_ATTR_RO(available_bytes);

static ssize_t urgency_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char *const names[VMEM_SIZE_URGENCIES] = {
		[VMEM_SIZE_URGENCY_LOW] = "low",
		[VMEM_SIZE_URGENCY_NORMAL] = "normal",
		[VMEM_SIZE_URGENCY_HIGH] = "high",
		[VMEM_SIZE_URGENCY_CRITICAL] = "critical",
	};

	return sysfs_emit(buf, "%s\n", names[READ_ONCE(to_mem(dev)->pressure.urgency)]);
}
static DEVICE_ATTR_RO(urgency);

static struct attribute *policy_attrs[] = {
	&dev_attr_enabled.attr,   &dev_attr_watermarks.attr,
	&dev_attr_idle_ms.attr,   &dev_attr_interval_ms.attr,
	&dev_attr_max_bytes.attr, &dev_attr_look_ms.attr,
	&dev_attr_oom_ms.attr,    &dev_attr_available_bytes.attr,
	&dev_attr_urgency.attr,   NULL,
};

static umode_t policy_is_visible(struct kobject *kobj, struct attribute *attr, int nr)
{
	struct virtio_device *vdev = dev_to_virtio(kobj_to_dev(kobj));

	return virtio_has_feature(vdev, VMEM_F_SIZE_REQUEST) ? attr->mode : 0;
}

static const struct attribute_group policy_group = {
	.name = "size_policy",
	.attrs = policy_attrs,
	.is_visible = policy_is_visible,
};

const struct attribute_group *ebb_mem_groups[] = {
	&device_group,
	&stats_group,
	&policy_group,
	NULL,
};

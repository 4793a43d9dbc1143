// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Asking the device for memory and offering it (docs/virtio-mem.md, feature VMEM_F_SIZE_REQUEST): tells
 * the core how much memory is left, and how badly more is wanted. Off by default: the feature is
 * negotiated only with the module parameter size_requests.
 *
 * The worker looks every look_ms; at once, though at most every EBB_MEM_LOOK_MIN_MS, when reclaim asks
 * our shrinker, which has nothing to give; and at once when the OOM killer asks what can be freed.
 *
 *     urgency    critical   the OOM killer is waiting
 *                high       less is free than the zones' lowest watermarks, or somebody who needs memory
 *                           reclaims it himself
 *                normal     less is free than the watermarks at which the system starts to reclaim
 *                low        otherwise
 *
 * Watermarks that nobody has set are parts of the memory that there is just now: what is asked for grows
 * with what is used, and what is offered is halved each time, down to what is needed.
 *
 * I1  Who is in reclaim, or asks as the OOM killer, takes no lock here. The latter waits for oom_ms at
 *     most, and for no longer than the core has something to do about it.
 * I2  While the OOM killer waits, or is to be expected, the worker may use the memory that is kept for
 *     those who free some: struct pages have to come from somewhere.
 */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/oom.h>
#include <linux/shrinker.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

#define EBB_MEM_LOOK_MS     1000
#define EBB_MEM_LOOK_MIN_MS 50
#define EBB_MEM_IDLE_MS     30000
#define EBB_MEM_OOM_MS      5000
#define EBB_MEM_INTERVAL_MS 200
#define EBB_MEM_LOW_BYTES   SZ_64M

static u16 urgency_now(bool critical, bool stalled)
{
	unsigned long free = 0, lowest = 0, low = 0;
	int nid, i;

	if (critical)
		return VMEM_SIZE_URGENCY_CRITICAL;
	for_each_online_node(nid)
	{
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(nid)->node_zones[i];

			if (!populated_zone(zone))
				continue;
			free += zone_page_state(zone, NR_FREE_PAGES);
			lowest += min_wmark_pages(zone);
			low += low_wmark_pages(zone);
		}
	}
	if (stalled || free < lowest)
		return VMEM_SIZE_URGENCY_HIGH;
	return free < low ? VMEM_SIZE_URGENCY_NORMAL : VMEM_SIZE_URGENCY_LOW;
}

/*
 * The watermarks are an eighth, a half and three quarters of all memory; a system with little asks
 * earlier.
 */
static void adapt_watermarks(struct ebb_mem *mem)
{
	struct vmem_driver_size_policy *policy = &mem->pressure.policy;
	u64 part = PFN_PHYS((u64)totalram_pages()) / 8;

	if (!mem->pressure.automatic || policy->target_bytes == 4 * part)
		return;
	policy->low_bytes = max(part, min_t(u64, 3 * part, EBB_MEM_LOW_BYTES));
	policy->target_bytes = 4 * part;
	policy->high_bytes = 6 * part;
	vmem_driver_set_size_policy(mem->drv, policy);
}

static u64 count_answers(const struct vmem_driver_info *info)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < VMEM_SIZE_RESP_TYPES; i++)
		sum += info->size_answers[i];
	return sum;
}

static void look(struct ebb_mem *mem, u64 now_ms, bool critical)
{
	bool stalled = test_and_clear_bit(EBB_MEM_STALLED, &mem->flags);
	struct ebb_mem_pressure *pressure = &mem->pressure;
	struct vmem_driver_info info;

	clear_bit(EBB_MEM_SHORT, &mem->flags);
	if (critical && !pressure->critical_seen) {
		vmem_driver_info(mem->drv, &info);
		pressure->answers_before = count_answers(&info);
	}
	pressure->critical_seen = critical;
	adapt_watermarks(mem);
	/* Whatever the figure is, it is of no use to who waits for the OOM killer. */
	pressure->available_bytes = critical ? 0 : PFN_PHYS((u64)max(si_mem_available(), 0l));
	pressure->urgency = urgency_now(critical, stalled);
	pressure->last_look_ms = now_ms;
	vmem_driver_available(mem->drv, now_ms, pressure->available_bytes, pressure->urgency,
			      critical ? VMEM_SIZE_REASON_OOM : VMEM_SIZE_REASON_PRESSURE);
}

bool ebb_mem_pressure_is_high(struct ebb_mem *mem)
{
	return mem->pressure.policy.on && (test_bit(EBB_MEM_CRITICAL, &mem->flags) ||
					   mem->pressure.urgency >= VMEM_SIZE_URGENCY_HIGH);
}

u64 ebb_mem_pressure_look(struct ebb_mem *mem, u64 now_ms)
{
	struct ebb_mem_pressure *pressure = &mem->pressure;
	bool critical = test_bit(EBB_MEM_CRITICAL, &mem->flags);
	bool hurry = critical || test_bit(EBB_MEM_SHORT, &mem->flags);
	u64 next_ms = pressure->last_look_ms + (hurry ? EBB_MEM_LOOK_MIN_MS : pressure->look_ms);

	if (!pressure->policy.on)
		return VMEM_DRIVER_IDLE;
	if (now_ms < next_ms && critical == pressure->critical_seen)
		return next_ms - now_ms;
	look(mem, now_ms, critical);
	return critical ? EBB_MEM_LOOK_MIN_MS : pressure->look_ms;
}

/* I1: the OOM killer waits on while the core works on it, or has not been able to ask yet. */
void ebb_mem_pressure_rest(struct ebb_mem *mem)
{
	struct ebb_mem_pressure *pressure = &mem->pressure;
	struct vmem_driver_info info;
	bool asked;

	if (!pressure->policy.on)
		return;
	vmem_driver_info(mem->drv, &info);
	if (count_answers(&info) != pressure->answers) {
		pressure->answers = count_answers(&info);
		pressure->refused = info.size_answers[VMEM_SIZE_RESP_REFUSED] != pressure->refusals;
		pressure->refusals = info.size_answers[VMEM_SIZE_RESP_REFUSED];
	}
	asked = pressure->answers != pressure->answers_before;
	if (!pressure->critical_seen || info.status == VMEM_DRIVER_WORKING ||
	    (!asked && !pressure->refused))
		return;
	pressure->critical_seen = false;
	clear_bit(EBB_MEM_CRITICAL, &mem->flags);
	wake_up_all(&pressure->added);
}

static unsigned long on_reclaim(struct ebb_mem *mem)
{
	if (!current_is_kswapd())
		set_bit(EBB_MEM_STALLED, &mem->flags);
	if (!test_and_set_bit(EBB_MEM_SHORT, &mem->flags))
		ebb_mem_kick(mem);
	return SHRINK_EMPTY;
}

static unsigned long nothing_to_scan(struct shrinker *shrinker, struct shrink_control *control)
{
	return SHRINK_STOP;
}

#if EBB_MEM_SHRINKER_ALLOC
static unsigned long on_count(struct shrinker *shrinker, struct shrink_control *control)
{
	return on_reclaim(shrinker->private_data);
}

static int shrinker_open(struct ebb_mem *mem)
{
	struct shrinker *shrinker = shrinker_alloc(0, "ebb_mem:%s", dev_name(&mem->vdev->dev));

	if (!shrinker)
		return -ENOMEM;
	shrinker->count_objects = on_count;
	shrinker->scan_objects = nothing_to_scan;
	shrinker->private_data = mem;
	mem->pressure.shrinker = shrinker;
	shrinker_register(shrinker);
	return 0;
}

static void shrinker_close(struct ebb_mem *mem)
{
	shrinker_free(mem->pressure.shrinker);
}
#else
struct named_shrinker {
	struct shrinker shrinker;
	struct ebb_mem *mem;
};

static unsigned long on_count(struct shrinker *shrinker, struct shrink_control *control)
{
	return on_reclaim(container_of(shrinker, struct named_shrinker, shrinker)->mem);
}

static int shrinker_open(struct ebb_mem *mem)
{
	struct named_shrinker *named = kzalloc(sizeof(*named), GFP_KERNEL);
	int error;

	if (!named)
		return -ENOMEM;
	named->mem = mem;
	named->shrinker.count_objects = on_count;
	named->shrinker.scan_objects = nothing_to_scan;
	named->shrinker.seeks = DEFAULT_SEEKS;
	error = register_shrinker(&named->shrinker, "ebb_mem:%s", dev_name(&mem->vdev->dev));
	if (error) {
		kfree(named);
		return error;
	}
	mem->pressure.shrinker = &named->shrinker;
	return 0;
}

static void shrinker_close(struct ebb_mem *mem)
{
	unregister_shrinker(mem->pressure.shrinker);
	kfree(container_of(mem->pressure.shrinker, struct named_shrinker, shrinker));
}
#endif

/* I1: *data is how many pages came. */
static int on_oom(struct notifier_block *nb, unsigned long unused, void *data)
{
	struct ebb_mem *mem = container_of(nb, struct ebb_mem, pressure.oom_nb);
	struct ebb_mem_pressure *pressure = &mem->pressure;
	long before = atomic_long_read(&pressure->added_pages), came;
	unsigned long *ret_freed = data;

	if (!READ_ONCE(pressure->policy.on) || current == mem->worker)
		return NOTIFY_OK;
	atomic_long_inc(&pressure->oom_looks);
	set_bit(EBB_MEM_CRITICAL, &mem->flags);
	ebb_mem_kick(mem);
	wait_event_timeout(pressure->added,
			   atomic_long_read(&pressure->added_pages) != before ||
				   !test_bit(EBB_MEM_CRITICAL, &mem->flags),
			   msecs_to_jiffies(READ_ONCE(pressure->oom_ms)));
	came = atomic_long_read(&pressure->added_pages) - before;
	if (came > 0) {
		atomic_long_inc(&pressure->oom_helped);
		*ret_freed += came;
	}
	return NOTIFY_OK;
}

void ebb_mem_pressure_defaults(struct ebb_mem *mem)
{
	mem->pressure.look_ms = EBB_MEM_LOOK_MS;
	mem->pressure.oom_ms = EBB_MEM_OOM_MS;
	mem->pressure.automatic = true;
	mem->pressure.policy = (struct vmem_driver_size_policy){
		.on = virtio_has_feature(mem->vdev, VMEM_F_SIZE_REQUEST),
		.idle_ms = EBB_MEM_IDLE_MS,
		.interval_ms = EBB_MEM_INTERVAL_MS,
	};
	init_waitqueue_head(&mem->pressure.added);
}

int ebb_mem_pressure_set(struct ebb_mem *mem, const struct vmem_driver_size_policy *policy)
{
	if (policy->on && !virtio_has_feature(mem->vdev, VMEM_F_SIZE_REQUEST))
		return -EOPNOTSUPP;
	if (vmem_driver_set_size_policy(mem->drv, policy) != VMEM_DRIVER_OK)
		return -EINVAL;
	mem->pressure.policy = *policy;
	mem->pressure.last_look_ms = 0;
	return 0;
}

int ebb_mem_pressure_open(struct ebb_mem *mem)
{
	int error;

	if (!virtio_has_feature(mem->vdev, VMEM_F_SIZE_REQUEST))
		return 0;
	error = shrinker_open(mem);
	if (error)
		return error;
	mem->pressure.oom_nb.notifier_call = on_oom;
	error = register_oom_notifier(&mem->pressure.oom_nb);
	if (error) {
		shrinker_close(mem);
		return error;
	}
	mem->pressure.opened = true;
	return 0;
}

void ebb_mem_pressure_close(struct ebb_mem *mem)
{
	if (!mem->pressure.opened)
		return;
	unregister_oom_notifier(&mem->pressure.oom_nb);
	shrinker_close(mem);
	mem->pressure.opened = false;
}

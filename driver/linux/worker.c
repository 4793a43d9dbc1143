// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The thread that runs the core, and what ends calls that take too long.
 *
 * Linux offlines memory until it succeeds or a signal is pending, and allocates contiguous ranges until
 * a fatal one is: the worker lets itself be sent SIGKILL by this module, which for a kernel thread is
 * no more than that (header, I3). The timer sends it when the parameter move_ms is over, and the
 * device's notification that another size may be asked for sends it, too.
 */
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "driver/linux/ebb_mem.h"

u64 ebb_mem_now_ms(void)
{
	return ktime_get_ns() / NSEC_PER_MSEC;
}

void ebb_mem_kick(struct ebb_mem *mem)
{
	set_bit(EBB_MEM_KICKED, &mem->flags);
	wake_up(&mem->wake);
}

void ebb_mem_publish(struct ebb_mem *mem)
{
	struct vmem_driver_info info;

	vmem_driver_info(mem->drv, &info);
	spin_lock(&mem->info_lock);
	mem->info = info;
	spin_unlock(&mem->info_lock);
}

void ebb_mem_info(struct ebb_mem *mem, struct vmem_driver_info *ret_info)
{
	spin_lock(&mem->info_lock);
	*ret_info = mem->info;
	spin_unlock(&mem->info_lock);
}

static void on_time_over(struct timer_list *timer)
{
	struct ebb_mem *mem = container_of(timer, struct ebb_mem, watchdog);

	atomic_long_inc(&mem->interrupted);
	send_sig(SIGKILL, mem->worker, 1);
}

void ebb_mem_watch_begin(struct ebb_mem *mem)
{
	mod_timer(&mem->watchdog, jiffies + msecs_to_jiffies(READ_ONCE(ebb_mem_move_ms)));
}

void ebb_mem_watch_end(struct ebb_mem *mem)
{
	timer_delete_sync(&mem->watchdog);
	flush_signals(current);
}

/* Until the core wants to be called again, at @wait_ms from now, or something happened. */
static void rest(struct ebb_mem *mem, u64 wait_ms)
{
	long ticks = MAX_SCHEDULE_TIMEOUT;

	/* Longer than a day is not needed, and does not fit everywhere. */
	if (wait_ms != VMEM_DRIVER_IDLE)
		ticks = msecs_to_jiffies(min_t(u64, wait_ms, 24u * 60 * 60 * MSEC_PER_SEC));
	wait_event_idle_timeout(mem->wake, test_and_clear_bit(EBB_MEM_KICKED, &mem->flags), ticks);
}

static bool is_over(struct ebb_mem *mem)
{
	struct vmem_driver_info info;

	vmem_driver_info(mem->drv, &info);
	return info.status == VMEM_DRIVER_LEFT || info.status == VMEM_DRIVER_ENDED;
}

/* pressure.c, I2 */
static u64 run(struct ebb_mem *mem, u64 now_ms)
{
	bool is_high = ebb_mem_pressure_is_high(mem);
	unsigned int saved = 0;
	u64 wait_ms;

	if (is_high)
		saved = memalloc_noreclaim_save();
	wait_ms = vmem_driver_run(mem->drv, now_ms);
	if (is_high)
		memalloc_noreclaim_restore(saved);
	if (wait_ms != VMEM_DRIVER_NOW)
		ebb_mem_pressure_rest(mem);
	ebb_mem_publish(mem);
	return wait_ms;
}

static int work(void *data)
{
	struct ebb_mem *mem = data;
	bool leaving = false;

	allow_kernel_signal(SIGKILL);
	for (;;) {
		u64 now_ms = ebb_mem_now_ms(), wait_ms, look_ms;

		mutex_lock(&mem->lock);
		if (test_bit(EBB_MEM_LEAVING, &mem->flags) && !leaving) {
			leaving = true;
			vmem_driver_leave(mem->drv);
		}
		look_ms = leaving ? VMEM_DRIVER_IDLE : ebb_mem_pressure_look(mem, now_ms);
		wait_ms = run(mem, now_ms);
		if (leaving && is_over(mem)) {
			ebb_mem_drop_offline(mem);
			mutex_unlock(&mem->lock);
			break;
		}
		mutex_unlock(&mem->lock);
		if (wait_ms == VMEM_DRIVER_NOW)
			cond_resched();
		else
			rest(mem, min(wait_ms, look_ms));
	}
	complete(&mem->left);
	/* kthread_stop() wants to find the thread. */
	wait_event_idle(mem->wake, kthread_should_stop());
	return 0;
}

void ebb_mem_worker_init(struct ebb_mem *mem)
{
	init_waitqueue_head(&mem->wake);
	init_completion(&mem->left);
	timer_setup(&mem->watchdog, on_time_over, 0);
}

int ebb_mem_worker_start(struct ebb_mem *mem)
{
	struct task_struct *worker;

	worker = kthread_create(work, mem, "ebb_mem/%s", dev_name(&mem->vdev->dev));
	if (IS_ERR(worker))
		return PTR_ERR(worker);
	mem->worker = worker;
	wake_up_process(worker);
	return 0;
}

void ebb_mem_worker_stop(struct ebb_mem *mem)
{
	mutex_lock(&mem->lock); /* whoever changes memory blocks now is waited for */
	set_bit(EBB_MEM_LEAVING, &mem->flags);
	mutex_unlock(&mem->lock);
	ebb_mem_kick(mem);
	wait_for_completion(&mem->left);
	kthread_stop(mem->worker); /* not before: it counts as a signal, which ends all calls */
	mem->worker = NULL;        /* its memory may be another's soon */
}

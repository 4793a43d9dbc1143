/* SPDX-License-Identifier: BSD-3-Clause */
/* What is asked of an outgoing migration under way, and told of it: outgoing.h. */
#include <sys/socket.h>

#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/outgoing_internal.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/ram_send.h"

struct ram_send_limits outgoing_limits(const struct outgoing *o, const struct migration_params *p)
{
	return (struct ram_send_limits){
		.downtime_limit_ms = p->downtime_limit_ms,
		.max_bandwidth = p->max_bandwidth,
		.auto_converge = outgoing_can(o, MIGRATION_CAP_AUTO_CONVERGE),
		.throttle_trigger_threshold = p->throttle_trigger_threshold,
		.cpu_throttle_initial = p->cpu_throttle_initial,
		.cpu_throttle_increment = p->cpu_throttle_increment,
		.max_cpu_throttle = p->max_cpu_throttle,
		.cpu_throttle_tailslow = p->cpu_throttle_tailslow,
	};
}

bool outgoing_cancel(struct outgoing *o)
{
	bool too_late;

	pthread_mutex_lock(&o->lock);
	too_late = o->committed || o->over;
	if (!too_late)
		o->cancelled = true;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
	if (!too_late)
		cancel_raise(o->cancel);
	return !too_late;
}

void outgoing_continue(struct outgoing *o)
{
	pthread_mutex_lock(&o->lock);
	o->go_on = true;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

/* Is the guest about to go on at the target before its memory? The lock is held. */
static bool outgoing_hurries(const struct outgoing *o)
{
	return o->postcopy && o->send && o->back;
}

void outgoing_hurry(struct outgoing *o)
{
	if (o->postcopy && o->send)
		ram_send_interrupt(o->send);
	if (!o->postcopy_runs && outgoing_hurries(o))
		pace_set(o->pace, 0);
}

void outgoing_set_params(struct outgoing *o, const struct migration_params *params)
{
	struct ram_send_limits limits = outgoing_limits(o, params);

	pthread_mutex_lock(&o->lock);
	o->params = *params;
	if (o->send)
		ram_send_limits(o->send, &limits);
	/* The last part of memory goes as fast as it can. */
	if (o->postcopy_runs)
		pace_set(o->pace, params->max_postcopy_bandwidth);
	else if (!o->halted_ms && !outgoing_hurries(o))
		pace_set(o->pace, params->max_bandwidth);
	pthread_mutex_unlock(&o->lock);
}

void outgoing_begin_postcopy_pace(struct outgoing *o)
{
	pthread_mutex_lock(&o->lock);
	o->postcopy_runs = true;
	pace_set(o->pace, o->params.max_postcopy_bandwidth);
	pthread_mutex_unlock(&o->lock);
}

bool outgoing_can_postcopy(const struct outgoing *o)
{
	return outgoing_can(o, MIGRATION_CAP_POSTCOPY_RAM);
}

void outgoing_start_postcopy(struct outgoing *o)
{
	pthread_mutex_lock(&o->lock);
	o->postcopy = true;
	outgoing_hurry(o);
	pthread_mutex_unlock(&o->lock);
}

void outgoing_disrupt(struct outgoing *o)
{
	pthread_mutex_lock(&o->lock);
	if (o->channel)
		shutdown(channel_fd(o->channel), SHUT_RDWR);
	pthread_mutex_unlock(&o->lock);
}

void outgoing_cut(struct outgoing *o)
{
	bool running;

	pthread_mutex_lock(&o->lock);
	running = o->running;
	o->cut = !running;
	pthread_mutex_unlock(&o->lock);
	/* Whoever waits until more may be sent is to look at once. */
	pace_suspend(o->pace, true);
	/* A RUNNING that would be lost could not be told from one that was never said. */
	if (running)
		outgoing_disrupt(o);
}

void outgoing_resume(struct outgoing *o, struct address *address)
{
	pthread_mutex_lock(&o->lock);
	address_free(o->resume);
	o->resume = address;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

void outgoing_info(struct outgoing *o, struct migration_info *ret_info)
{
	struct migration_info *info = ret_info;

	pthread_mutex_lock(&o->lock);
	info->has_ram = o->has_ram;
	outgoing_ram_info(o, &info->ram);
	if (o->send) {
		info->has_expected_downtime = true;
		info->expected_downtime_ms = ram_send_expected_downtime_ms(o->send);
		info->cpu_throttle_percentage = (uint8_t)ram_send_throttle(o->send);
	}
	info->setup_time_ms = o->setup_ms;
	info->total_time_ms = (o->ended_ms ? o->ended_ms : outgoing_now_ms()) - o->begun_ms;
	info->has_downtime = o->ended_ms && o->downtime_ms;
	info->downtime_ms = o->downtime_ms;
	pthread_mutex_unlock(&o->lock);
}

void outgoing_ram_info(const struct outgoing *o, struct migration_ram_info *ret_ram)
{
	struct migration_ram_info *ram = ret_ram;

	*ram = o->ram;
	if (!o->send)
		return;
	ram_send_info(o->send, ram);
	if (o->image)
		ram->transferred = image_writer_bytes(o->image);
	ram->postcopy_requests = o->requests;
	ram->precopy_bytes = o->halted_ms ? o->precopy_bytes : ram->transferred;
	if (o->postcopy_runs)
		ram->postcopy_bytes = ram->transferred - ram->precopy_bytes;
	else
		ram->downtime_bytes = ram->transferred - ram->precopy_bytes;
}

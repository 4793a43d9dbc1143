/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The scheduler: what happens next, chosen by the seed, between calls of the core and within its ops.
 * A world is a row of storms, each of which ends in a calm (calm.c).
 */
#include "tests/model/model.h"

#define STORMS            3
#define STORM_STEPS       260
#define STORM_STEPS_LARGE 25
#define DEPTH_MAX         2

void dev_news(struct dev *dev)
{
	dev->fruitless = 0;
}

/* Failures in a row, without news and with no time passed: a round tries each thing once. */
static void check_patience(const struct dev *dev)
{
	uint64_t chunks = dev->nr_units * dev->unit_bytes / dev->chunk_bytes;
	uint64_t most = 4 * (dev->nr_units + chunks) + 64;

	must(dev->w, dev->fruitless <= most, "%u failures in a row without a pause",
	     dev->fruitless);
}

void op_begin(struct dev *dev, const char *op, bool unlocks)
{
	must(dev->w, !dev->op, "%s() within %s()", op, dev->op);
	must(dev->w, dev->call, "%s() outside of the core's calls", op);
	/* The answer to what was asked before the end may still bring memory. */
	must(dev->w, !dev->ended || dev->call == CALL_ANSWERED, "%s() after the end", op);
	dev->op = op;
	dev->unlocked = unlocks;
	check_patience(dev);
	play_within(dev);
}

void op_end(struct dev *dev)
{
	play_within(dev);
	dev->op = NULL;
	dev->unlocked = false;
}

/* May others call the core of @dev now? Some calls may also be made while add() or remove() runs. */
static bool is_free(const struct dev *dev)
{
	return dev->drv && dev->call == CALL_NONE;
}

static bool is_unlocked(const struct dev *dev)
{
	return dev->drv && (dev->call == CALL_NONE || dev->unlocked);
}

static struct dev *any_dev(struct world *w)
{
	return &w->devs[below(w, w->nr_devs)];
}

static void dev_look(struct dev *dev)
{
	struct vmem_driver_info info;

	vmem_driver_info(dev->drv, &info);
	dev->ended = info.status == VMEM_DRIVER_ENDED;
}

uint64_t dev_run(struct dev *dev)
{
	struct world *w = dev->w;
	uint64_t ms;

	dev->heavy = dev->config_reads = 0;
	dev->call = CALL_RUN;
	dev->run_ms = w->now_ms;
	ms = vmem_driver_run(dev->drv, w->now_ms);
	dev->call = CALL_NONE;
	dev_look(dev);
	if (ms != VMEM_DRIVER_NOW)
		model_trace(w, "device %u: run() says %lld ms", dev->index, (long long)ms);
	must(w, dev->heavy <= 1 && dev->config_reads <= 1, "run() did %u pieces of work, %u reads",
	     dev->heavy, dev->config_reads);
	must(w, !dev->broken_config || dev->ended, "a configuration that breaks a rule is taken");
	must(w, !dev->ended || ms == VMEM_DRIVER_IDLE, "run() wants to come back after the end");
	must(w, !dev->config.query_only || dev->ended || ms == VMEM_DRIVER_IDLE || !dev->heavy,
	     "run() works in query_only");
	dev->next_run_ms = ms == VMEM_DRIVER_IDLE ? UINT64_MAX : w->now_ms + ms;
	/* What an answer said is dealt with; after a reset, once the core rests. */
	if (!dev->gone &&
	    (!dev->unsure_reset || (ms != VMEM_DRIVER_NOW && dev->link.state == LINK_IDLE)))
		dev->unsure_size = 0;
	return ms;
}

void dev_deliver_interrupt(struct dev *dev)
{
	/* Before there is a core, it waits for it. */
	dev->interrupt = !dev->drv;
	if (!dev->drv)
		return;
	vmem_driver_config_changed(dev->drv);
	dev->next_run_ms = dev->w->now_ms;
	dev_news(dev);
}

/* ---- events that may come at any time ---- */

static void event_resize(struct world *w)
{
	struct dev *dev = any_dev(w);
	uint64_t bs = dev->device_config.block_size;
	uint64_t blocks = below(w, dev->nr_blocks + 1);

	if (w->with & WITH_LIAR) {
		dev_deliver_interrupt(dev);
		return;
	}
	if (chance(w, 200))
		blocks = chance(w, 500) ? 0 : dev->nr_blocks;
	host_resize(dev, blocks * bs);
	if (w->with & WITH_SIZES && chance(w, 100))
		must(w,
		     vmem_device_set_request_policy(dev->engine, below(w, dev->nr_blocks + 1) * bs,
						    below(w, 20) * bs) == 0,
		     "the engine refuses a policy");
}

static void event_programs(struct world *w)
{
	uint64_t some = 1 + below(w, 40);

	if (chance(w, 100))
		some *= 30;
	if (chance(w, 500))
		pages_drop(w, some);
	else
		(void)pages_use(w, some, chance(w, 850));
}

static void event_people(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (!is_unlocked(dev) || !dev->nr_units || !dev->config.unit_bytes || dev->ended)
		return;
	for (uint64_t n = 1 + below(w, 4); n; n--) {
		uint64_t unit = below(w, dev->nr_units);

		if (!units_online(dev, unit, units_random_use(dev)) && chance(w, 300))
			units_offline(dev, unit);
	}
	if (is_free(dev))
		dev->next_run_ms = w->now_ms;
}

static void event_device(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (dev->interrupt && chance(w, 300))
		dev_deliver_interrupt(dev);
	if (!link_process(dev))
		link_deliver(dev);
	if (w->with & WITH_SIZES && !sizes_process(dev))
		sizes_deliver(dev);
}

static void event_run(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (is_free(dev) && (dev->next_run_ms <= w->now_ms || chance(w, 50)))
		(void)dev_run(dev);
}

void world_pass(struct world *w, uint64_t ms)
{
	w->now_ms += ms;
	for (unsigned int i = 0; i < w->nr_devs; i++)
		w->devs[i].fruitless = 0;
}

static void event_time(struct world *w)
{
	world_pass(w, chance(w, 900) ? below(w, 1500) : below(w, 400000));
}

static void event_rare(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (w->with & WITH_MIGRATION && chance(w, 300) && !dev->gone)
		host_migrate(dev);
	if (w->with & WITH_VANISHING && chance(w, 20) && !dev->gone)
		link_vanish(dev);
}

static void event_anywhere(struct world *w)
{
	uint64_t what = below(w, 100);

	if (what < 45)
		event_run(w);
	else if (what < 60)
		event_programs(w);
	else if (what < 68)
		event_people(w);
	else if (what < 85)
		event_device(w);
	else if (what < 92)
		event_time(w);
	else if (what < 96)
		event_resize(w);
	else
		event_rare(w);
}

void play_within(struct dev *dev)
{
	struct world *w = dev->w;

	if (w->depth >= DEPTH_MAX || w->calm || !chance(w, w->rates.within))
		return;
	w->depth++;
	for (uint64_t n = 1 + below(w, 3); n; n--)
		event_anywhere(w);
	w->depth--;
}

/* ---- events between calls ---- */

static void event_state(struct dev *dev)
{
	struct world *w = dev->w;
	uint64_t bs = dev->device_config.block_size, usable, first, count, plugged = 0;
	struct vmem_device_info info;
	int state, truth;

	if (w->with & WITH_LIAR || dev->ended)
		return;
	/* UNPLUG_ALL may have made it smaller than the core knows. */
	vmem_device_info(dev->engine, &info);
	usable = min_u64(info.usable_region_size, dev->seen.usable_region_size) / bs;
	if (!usable)
		return;
	first = below(w, usable);
	count = 1 + below(w, usable - first);
	dev->call = CALL_STATE;
	state = vmem_driver_state(dev->drv, dev->area->addr + first * bs, count * bs);
	dev->call = CALL_NONE;
	for (uint64_t block = first; block < first + count; block++)
		plugged += dev->truth[block] != 0;
	truth = plugged == count ? VMEM_STATE_PLUGGED
		: plugged        ? VMEM_STATE_MIXED
				 : VMEM_STATE_UNPLUGGED;
	if (dev->link.state != LINK_IDLE)
		truth = VMEM_DRIVER_BUSY;
	if (dev->gone)
		must(w, state < 0, "state() of a device that is gone says %d", state);
	else
		must(w, state == truth, "state() says %d, not %d", state, truth);
}

/* The driver is unloaded where it may be, and loaded again. */
void dev_reload(struct dev *dev)
{
	struct world *w = dev->w;
	struct vmem_driver_info info;
	bool kept;

	vmem_driver_info(dev->drv, &info);
	if (info.status != VMEM_DRIVER_LEFT)
		return;
	kept = info.plugged_size != 0;
	if (kept && (info.held_size || !dev->config.unit_bytes || w->with & WITH_LIAR))
		return;
	model_trace(w, "device %u: driver reloaded, %#llx still plugged", dev->index,
		    (unsigned long long)info.plugged_size);
	dev_stop(dev);
	for (uint64_t i = 0; i < dev->nr_units; i++)
		kept |= dev->units[i].state != UNIT_ABSENT && dev->config.unit_bytes;
	dev_start(dev, kept || chance(w, 500));
}

/* The operating system begins anew: the device may have been told (a reset), or not (kexec). */
static void event_reboot(struct world *w)
{
	bool reset = chance(w, 500), query_only = chance(w, 200);

	model_trace(w, "the system starts anew%s%s", reset ? ", after a reset" : "",
		    query_only ? ", to look only" : "");
	world_forget(w);
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		if (reset && !(w->with & WITH_LIAR)) {
			int rc = vmem_device_system_reset(dev->engine);

			must(w, !rc || w->rates.undo, "a system reset failed: %d", rc);
			host_learn(dev);
		}
		dev->config.query_only = query_only;
		dev_start(dev, chance(w, 500));
	}
}

static void event_restart(struct world *w)
{
	struct dev *dev = any_dev(w);
	uint64_t what = below(w, 10);

	if (dev->gone && chance(w, 300)) {
		if (chance(w, 500))
			dev_replace(dev);
		else
			link_reset(dev);
	} else if (!dev->drv) {
		dev_start(dev, chance(w, 500));
	} else if (dev->ended && chance(w, 300)) {
		if (w->with & (WITH_LIAR | WITH_VANISHING))
			dev_replace(dev);
	} else if (!(w->with & WITH_RESTARTS)) {
		return;
	} else if (what < 5 && !dev->gone) {
		link_reset(dev);
	} else if (what < 6) {
		event_reboot(w);
	} else if (what < 7 && !dev->leaving) {
		model_trace(w, "device %u: leave", dev->index);
		dev->leaving = true;
		vmem_driver_leave(dev->drv);
		dev->next_run_ms = w->now_ms;
	} else if (dev->leaving) {
		dev_reload(dev);
	}
}

static void event_sizes(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (dev->drv)
		sizes_tell(dev);
}

static void event_driver(struct world *w)
{
	struct dev *dev = any_dev(w);

	if (!dev->drv)
		return;
	if (chance(w, 500)) {
		event_state(dev);
		return;
	}
	vmem_driver_retry(dev->drv);
	dev->next_run_ms = w->now_ms;
	dev_news(dev);
}

static void world_step(struct world *w)
{
	uint64_t what = below(w, 100);

	/* Systems look at their memory often. */
	if (w->with & WITH_SIZES && what < 15)
		event_sizes(w);
	else if (what < 80)
		event_anywhere(w);
	else if (what < 93)
		event_driver(w);
	else
		event_restart(w);
	world_check(w);
}

/* How much fails in the storm that begins. */
static void random_rates(struct world *w)
{
	struct rates *rates = &w->rates;

	*rates = (struct rates){.within = (unsigned int)below(w, 400)};
	if (w->with & WITH_PENDING)
		rates->pending = (unsigned int)below(w, 1001);
	if (w->with & WITH_OS_FAILURES && chance(w, 800)) {
		rates->add = (unsigned int)below(w, 500);
		rates->remove = (unsigned int)below(w, 500);
		rates->take = (unsigned int)below(w, 500);
		rates->never = (unsigned int)below(w, 100);
	}
	if (w->with & WITH_HOST_FAILURES && chance(w, 800)) {
		rates->host = (unsigned int)below(w, 300);
		rates->undo = (unsigned int)below(w, 2) * (unsigned int)below(w, 300);
		if (chance(w, 150))
			rates->host = rates->undo = 900;
	}
}

void world_play(struct world *w)
{
	unsigned int steps = w->with & WITH_LARGE ? STORM_STEPS_LARGE : STORM_STEPS;

	for (unsigned int storm = 0; storm < STORMS; storm++) {
		w->calm = false;
		random_rates(w);
		for (unsigned int i = 0; i < steps; i++) {
			w->step++;
			world_step(w);
		}
		if (!(w->with & WITH_LIAR))
			world_calm(w);
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a driver core: what it is made of, the device's configuration (I7), run() and its pauses
 * (I5, I6), and what is told to people.
 *
 * The device controls the configuration: it is read as one, checked as a whole against the rules of the
 * standard (VIRTIO 1.3, 5.15.4) and against what was read before, and only then taken over.
 */
#include "driver/internal.h"

static bool driver_is_over(const struct vmem_driver *drv)
{
	return drv->gone || drv->broken || drv->left || drv->config.query_only;
}

const char *vmem_driver_note_name(enum vmem_driver_note_kind kind)
{
	static const char *const names[VMEM_DRIVER_NOTE_KINDS] = {
		[VMEM_DRIVER_NOTE_STARTED] = "started",
		[VMEM_DRIVER_NOTE_UNPLUG_ALL] = "unplug-all",
		[VMEM_DRIVER_NOTE_REQUESTED] = "requested",
		[VMEM_DRIVER_NOTE_REACHED] = "reached",
		[VMEM_DRIVER_NOTE_STUCK] = "stuck",
		[VMEM_DRIVER_NOTE_UNUSABLE] = "unusable",
		[VMEM_DRIVER_NOTE_ADD_FAILED] = "add-failed",
		[VMEM_DRIVER_NOTE_REFUSED] = "refused",
		[VMEM_DRIVER_NOTE_BAD_CONFIG] = "bad-config",
		[VMEM_DRIVER_NOTE_GONE] = "gone",
		[VMEM_DRIVER_NOTE_SIZE_ASKED] = "size-asked",
	};

	return (unsigned int)kind < VMEM_DRIVER_NOTE_KINDS ? names[kind] : "unknown";
}

void vd_driver_note(struct vmem_driver *drv, enum vmem_driver_note_kind kind, uint64_t addr,
		    uint64_t size, int result)
{
	struct vmem_driver_note note = {
		.kind = kind,
		.addr = addr,
		.size = size,
		.result = result,
		.request = drv->request.type,
	};

	if (drv->ops->note)
		drv->ops->note(drv->os, &note);
}

void vd_driver_pause(struct vmem_driver *drv, int why)
{
	drv->pause = PAUSE_WANTED;
	if (why == VMEM_DRIVER_OK || drv->stuck_told)
		return;
	drv->stuck_told = true;
	vd_driver_note(drv, VMEM_DRIVER_NOTE_STUCK, drv->base,
		       vd_chunks_bytes(drv, drv->nr_plugged), why);
}

/* What is under way stays open (I1): a plug may have been done, so its blocks count as plugged. */
void vd_driver_gone(struct vmem_driver *drv)
{
	struct run run = drv->request.run;

	if (drv->gone)
		return;
	drv->gone = true;
	if (drv->request.purpose == PURPOSE_PLUG) {
		vd_map_set_plugged(drv, run, true);
		vd_map_hold(drv, run);
	}
	drv->request.lost = drv->request.purpose != PURPOSE_NONE;
	vd_driver_note(drv, VMEM_DRIVER_NOTE_GONE, drv->addr, drv->region_size, VMEM_DRIVER_GONE);
}

/* Plain loads and stores, for exchanging may need a library where a processor lacks the instruction. */
static bool driver_config_is_stale(const struct vmem_driver *drv)
{
	return __atomic_load_n(&drv->config_changed, __ATOMIC_ACQUIRE);
}

void vd_driver_config_stale(struct vmem_driver *drv)
{
	__atomic_store_n(&drv->config_changed, 1, __ATOMIC_RELEASE);
}

void vd_driver_round_begin(struct vmem_driver *drv)
{
	for (uint32_t u = 0; u < drv->nr_units; u++) {
		drv->units[u].flags &= (uint8_t)~UNIT_ROUND_FLAGS;
		drv->units[u].used = UNIT_USED_UNKNOWN;
	}
	drv->taking.on = false;
	drv->stage = SHRINK_MOVABLE_FREE;
	drv->stage_unit = drv->nr_units;
	drv->remove_above = drv->nr_units;
	drv->plug_cap = drv->nr_chunks;
	drv->add_cap = drv->run_max;
	drv->add_failed = false;
	drv->offline_wait = false;
}

uint32_t vd_driver_want(const struct vmem_driver *drv)
{
	uint64_t size = drv->requested_size;

	if (drv->leaving || size <= drv->foreign_size)
		return 0;
	return (uint32_t)((size - drv->foreign_size) >> drv->chunk_shift);
}

void vd_driver_give(struct vmem_driver *drv, struct run run)
{
	uint32_t end = run.first + run.nr;

	for (uint32_t from = run.first; from < end;) {
		uint32_t u = vd_chunk_unit(drv, from);
		uint32_t to = vd_unit_end(drv, u) < end ? vd_unit_end(drv, u) : end;
		uint32_t first = vd_bits_next(drv->plugged, from, to, true);
		uint32_t last = vd_bits_next(drv->plugged, first, to, false);

		if (first < to && vd_unit_is_online(&drv->units[u]))
			drv->ops->give(drv->os, vd_chunk_addr(drv, first),
				       vd_chunks_bytes(drv, last - first));
		from = last;
	}
}

/*
 * Geometry: what follows from the two configurations and never changes.
 */
struct geometry {
	uint64_t base;
	uint8_t block_shift, chunk_shift, unit_shift;
	uint32_t blocks_per_chunk, chunks_per_unit, nr_units, nr_chunks;
};

static bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

static uint8_t log2_of(uint64_t power)
{
	uint8_t log = 0;

	while (power >>= 1)
		log++;
	return log;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static struct vmem_config config_decode(const struct vmem_config *wire)
{
	return (struct vmem_config){
		.block_size = vd_le64_get(&wire->block_size),
		.addr = vd_le64_get(&wire->addr),
		.region_size = vd_le64_get(&wire->region_size),
		.usable_region_size = vd_le64_get(&wire->usable_region_size),
		.plugged_size = vd_le64_get(&wire->plugged_size),
		.requested_size = vd_le64_get(&wire->requested_size),
	};
}

/* The rules of 5.15.4 for one configuration by itself. */
static bool config_is_sound(const struct vmem_config *c)
{
	uint64_t odd = c->addr | c->region_size | c->usable_region_size | c->plugged_size |
		       c->requested_size;

	return is_power_of_two(c->block_size) && !(odd & (c->block_size - 1)) &&
	       (!c->region_size || c->region_size - 1 <= UINT64_MAX - c->addr) &&
	       c->usable_region_size <= c->region_size &&
	       c->plugged_size <= c->usable_region_size &&
	       c->requested_size <= c->usable_region_size;
}

static bool policy_is_sound(const struct vmem_driver_size_policy *policy)
{
	return !policy->on || (policy->low_bytes <= policy->target_bytes &&
			       policy->target_bytes <= policy->high_bytes);
}

static bool geometry_make(const struct vmem_driver_config *config, const struct vmem_config *device,
			  struct geometry *ret)
{
	uint64_t chunk = max64(config->chunk_bytes, device->block_size);
	uint64_t unit = config->unit_bytes ? max64(config->unit_bytes, chunk) : chunk;
	uint64_t low = max64(device->addr, config->addr_min);
	uint64_t high = device->addr + device->region_size - 1;
	uint64_t nr = 0;

	if (!config_is_sound(device) || !policy_is_sound(&config->size_policy) ||
	    !is_power_of_two(chunk) || !is_power_of_two(unit) ||
	    config->addr_min > config->addr_max)
		return false;
	*ret = (struct geometry){
		.block_shift = log2_of(device->block_size),
		.chunk_shift = log2_of(chunk),
		.unit_shift = (uint8_t)(log2_of(unit) - log2_of(chunk)),
	};
	if (ret->chunk_shift - ret->block_shift > log2_of(DRIVER_BLOCKS_POW))
		return false;
	high = high < config->addr_max ? high : config->addr_max;
	ret->base = low;
	if (device->region_size && low <= high && high - low >= (-low & (unit - 1))) {
		ret->base = low + (-low & (unit - 1));
		nr = (high - ret->base) >> log2_of(unit);
		nr += !(~(high - ret->base) & (unit - 1));
	}
	if (ret->unit_shift > log2_of(DRIVER_CHUNKS_MAX) ||
	    nr > DRIVER_CHUNKS_MAX >> ret->unit_shift)
		return false;
	ret->blocks_per_chunk = UINT32_C(1) << (ret->chunk_shift - ret->block_shift);
	ret->chunks_per_unit = UINT32_C(1) << ret->unit_shift;
	ret->nr_units = (uint32_t)nr;
	ret->nr_chunks = (uint32_t)nr << ret->unit_shift;
	if (!config->unit_bytes) {
		ret->chunks_per_unit = ret->nr_chunks;
		ret->nr_units = ret->nr_chunks != 0;
		ret->unit_shift = 31; /* every chunk lies in unit 0 */
	}
	return true;
}

static uint64_t arena_align(uint64_t bytes)
{
	return (bytes + 15) & ~UINT64_C(15);
}

static uint64_t arena_words(const struct geometry *geometry)
{
	return ((uint64_t)geometry->nr_chunks + DRIVER_WORD_BITS - 1) / DRIVER_WORD_BITS;
}

static size_t arena_bytes(const struct geometry *geometry)
{
	uint64_t total = arena_align(sizeof(struct vmem_driver)) +
			 arena_align(arena_words(geometry) * sizeof(uint64_t)) +
			 arena_align((uint64_t)geometry->nr_units * sizeof(struct unit));

	return (size_t)total == total ? (size_t)total : 0;
}

size_t vmem_driver_arena_bytes(const struct vmem_driver_config *config,
			       const struct vmem_config *device)
{
	struct vmem_config decoded = config_decode(device);
	struct geometry geometry;

	return geometry_make(config, &decoded, &geometry) ? arena_bytes(&geometry) : 0;
}

/* Chunks that lie in the usable region. */
static uint32_t driver_limit(const struct vmem_driver *drv)
{
	uint64_t before = drv->base - drv->addr, chunks;

	if (drv->usable_region_size <= before)
		return 0;
	chunks = (drv->usable_region_size - before) >> drv->chunk_shift;
	return chunks < drv->nr_chunks ? (uint32_t)chunks : drv->nr_chunks;
}

static void driver_take_config(struct vmem_driver *drv, const struct vmem_config *device)
{
	drv->usable_region_size = device->usable_region_size;
	drv->requested_size = device->requested_size;
	drv->device_plugged_size = device->plugged_size;
	drv->limit = driver_limit(drv);
}

static void driver_lay_out(struct vmem_driver *drv, const struct vmem_driver_config *config,
			   const struct vmem_config *device, const struct geometry *geometry)
{
	uint64_t at = arena_align(sizeof(*drv));
	uint64_t run_max;

	drv->config = *config;
	drv->accounting = !config->unit_bytes;
	drv->addr = device->addr;
	drv->region_size = device->region_size;
	drv->block_size = device->block_size;
	drv->base = geometry->base;
	drv->block_shift = geometry->block_shift;
	drv->chunk_shift = geometry->chunk_shift;
	drv->unit_shift = geometry->unit_shift;
	drv->blocks_per_chunk = geometry->blocks_per_chunk;
	drv->chunks_per_unit = geometry->chunks_per_unit;
	drv->nr_units = geometry->nr_units;
	drv->nr_chunks = geometry->nr_chunks;
	drv->plugged = (uint64_t *)(void *)((char *)drv + at);
	at += arena_align(arena_words(geometry) * sizeof(uint64_t));
	drv->units = (struct unit *)(void *)((char *)drv + at);
	for (uint64_t w = 0; w < arena_words(geometry); w++)
		drv->plugged[w] = 0;
	for (uint32_t u = 0; u < drv->nr_units; u++)
		drv->units[u] = (struct unit){.class = UNIT_ABSENT_EMPTY};
	vd_map_init(drv);
	drv->run_max = 1;
	if (drv->accounting) {
		drv->config.offline_max_bytes = 0;
		if (drv->nr_units)
			vd_unit_set_state(drv, 0, UNIT_IMMOVABLE);
		return;
	}
	run_max = config->run_max_bytes >> (drv->chunk_shift + drv->unit_shift);
	if (run_max > 1)
		drv->run_max = run_max < drv->nr_units ? (uint32_t)run_max : drv->nr_units;
}

int vmem_driver_init(void *arena, size_t bytes, const struct vmem_driver_config *config,
		     const struct vmem_driver_ops *ops, void *os, struct vmem_driver **ret_drv)
{
	struct vmem_driver *drv = arena;
	struct vmem_config wire, device;
	struct geometry geometry;

	if ((uintptr_t)arena % 16 || !ops->config_read || !ops->submit || !ops->take ||
	    !ops->give || (config->unit_bytes && (!ops->add || !ops->remove)))
		return VMEM_DRIVER_INVALID;
	if (ops->config_read(os, &wire) != VMEM_DRIVER_OK)
		return VMEM_DRIVER_GONE;
	device = config_decode(&wire);
	if (!geometry_make(config, &device, &geometry) || !arena_bytes(&geometry))
		return VMEM_DRIVER_INVALID;
	if (bytes < arena_bytes(&geometry))
		return VMEM_DRIVER_NOMEM;
	*drv = (struct vmem_driver){.ops = ops, .os = os};
	driver_lay_out(drv, config, &device, &geometry);
	if (!drv->config.retry_min_ms)
		drv->config.retry_min_ms = DRIVER_RETRY_MIN_MS;
	if (!drv->config.retry_max_ms)
		drv->config.retry_max_ms = DRIVER_RETRY_MAX_MS;
	drv->size.policy = config->size_policy;
	driver_take_config(drv, &device);
	vd_driver_round_begin(drv);
	*ret_drv = drv;
	return VMEM_DRIVER_OK;
}

/* Reads the configuration anew; another requested_size begins a round at once. */
static void driver_read_config(struct vmem_driver *drv)
{
	uint64_t requested = drv->requested_size, usable = drv->usable_region_size;
	struct vmem_config wire, device;

	if (drv->ops->config_read(drv->os, &wire) != VMEM_DRIVER_OK) {
		vd_driver_gone(drv);
		return;
	}
	device = config_decode(&wire);
	if (!config_is_sound(&device) || device.addr != drv->addr ||
	    device.region_size != drv->region_size || device.block_size != drv->block_size ||
	    (device.usable_region_size < usable && (drv->started || drv->config.resume))) {
		drv->broken = true;
		vd_driver_note(drv, VMEM_DRIVER_NOTE_BAD_CONFIG, device.addr, device.region_size,
			       VMEM_DRIVER_INVALID);
		return;
	}
	driver_take_config(drv, &device);
	if (device.requested_size == requested && device.usable_region_size == usable)
		return;
	drv->woken = true;
	drv->pause_ms = 0;
	drv->stuck_told = false;
	drv->reached_told = false;
	if (device.requested_size != requested)
		vd_driver_note(drv, VMEM_DRIVER_NOTE_REQUESTED, drv->addr, drv->requested_size,
			       VMEM_DRIVER_OK);
}

static void driver_begin(struct vmem_driver *drv)
{
	uint64_t head = drv->base - drv->addr;
	uint64_t size = vd_chunks_bytes(drv, drv->nr_chunks);

	drv->begun = true;
	if (drv->config.query_only)
		return;
	if (!size)
		head = 0;
	if (head)
		vd_driver_note(drv, VMEM_DRIVER_NOTE_UNUSABLE, drv->addr, head, VMEM_DRIVER_NEVER);
	if (drv->region_size - head - size)
		vd_driver_note(drv, VMEM_DRIVER_NOTE_UNUSABLE, drv->addr + head + size,
			       drv->region_size - head - size, VMEM_DRIVER_NEVER);
	vd_driver_note(drv, VMEM_DRIVER_NOTE_REQUESTED, drv->addr, drv->requested_size,
		       VMEM_DRIVER_OK);
}

/*
 * The end of leaving. Taken chunks go back to who had them, but for those that an answer left open (I1);
 * what is plugged in absent units stays so.
 */
static void driver_left(struct vmem_driver *drv)
{
	struct run held = drv->held;

	drv->left = true;
	drv->pause = PAUSE_NONE;
	if (!held.nr || vd_learn_is_on(drv) ||
	    vd_unit_state(&drv->units[vd_chunk_unit(drv, held.first)]) == UNIT_ABSENT)
		return;
	vd_map_unhold(drv, held.first + held.nr);
	vd_driver_give(drv, held);
}

static void driver_there(struct vmem_driver *drv)
{
	drv->stuck_told = false;
	if (!drv->reached_told)
		vd_driver_note(drv, VMEM_DRIVER_NOTE_REACHED, drv->base,
			       vd_chunks_bytes(drv, drv->nr_plugged), VMEM_DRIVER_OK);
	drv->reached_told = true;
	if (drv->leaving)
		driver_left(drv);
	else if (!drv->accounting &&
		 (drv->nr_class[UNIT_OFFLINE_EMPTY] || drv->nr_class[UNIT_MOVABLE_EMPTY] ||
		  drv->nr_class[UNIT_IMMOVABLE_EMPTY]))
		vd_driver_pause(drv, VMEM_DRIVER_OK);
	else
		drv->pause_ms = 0;
}

/* One step (I6). False: there is nothing to do. */
static bool driver_step(struct vmem_driver *drv)
{
	uint32_t to_go = vd_shrink_to_go(drv);

	if (vd_learn_is_on(drv)) {
		vd_learn_step(drv);
	} else if (!drv->started) {
		vd_start_step(drv);
	} else if (drv->held.nr && !vd_shrink_collects(drv)) {
		vd_held_step(drv);
	} else if (to_go) {
		if (vd_shrink_step(drv))
			return true;
		if (drv->leaving) {
			driver_left(drv);
			return true;
		}
		drv->exhausted = true;
		vd_driver_pause(drv, VMEM_DRIVER_BUSY);
	} else if (drv->leaving || !vd_grow_step(drv)) {
		if (vd_shrink_tidy(drv))
			return true;
		driver_there(drv);
		return false;
	}
	return true;
}

/*
 * How long to pause: more each time while nothing moves; and where everything was tried, no shorter than
 * that took, for it keeps the system busy.
 */
static uint32_t driver_next_pause(const struct vmem_driver *drv, uint64_t now_ms)
{
	uint32_t max = drv->config.retry_max_ms, pause = drv->pause_ms;
	uint64_t took = now_ms - drv->round_since_ms;

	if (!pause)
		pause = drv->config.retry_min_ms;
	else if (!drv->moved)
		pause = pause < max / 2 ? pause * 2 : max;
	if (drv->exhausted && took > pause)
		pause = took < max ? (uint32_t)took : max;
	return pause;
}

static void driver_pause_begin(struct vmem_driver *drv, uint64_t now_ms)
{
	if (drv->pause != PAUSE_WANTED)
		return;
	if (drv->leaving && ++drv->leave_tries >= DRIVER_LEAVE_TRIES) {
		driver_left(drv);
		return;
	}
	drv->pause_ms = driver_next_pause(drv, now_ms);
	drv->moved = false;
	drv->exhausted = false;
	drv->pause = PAUSE_ON;
	drv->pause_until_ms = now_ms + drv->pause_ms;
}

uint64_t vmem_driver_run(struct vmem_driver *drv, uint64_t now_ms)
{
	bool more = true;

	if (!drv->begun) {
		drv->round_since_ms = now_ms;
		driver_begin(drv);
	}
	if (driver_is_over(drv))
		return VMEM_DRIVER_IDLE;
	if (driver_config_is_stale(drv)) {
		/* In this order, what changes from now on is told again. */
		__atomic_store_n(&drv->config_changed, 0, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		/* It may ask for the same size once more: then it knows of something new. */
		if (__atomic_load_n(&drv->config_told, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&drv->config_told, 0, __ATOMIC_RELAXED);
			drv->woken = true;
		}
		driver_read_config(drv);
	}
	driver_pause_begin(drv, now_ms);
	if (driver_is_over(drv))
		return VMEM_DRIVER_IDLE;
	if (vd_size_step(drv, now_ms))
		return driver_is_over(drv) ? VMEM_DRIVER_IDLE : VMEM_DRIVER_NOW;
	if (drv->request.purpose != PURPOSE_NONE)
		return VMEM_DRIVER_IDLE;
	if (drv->pause == PAUSE_ON && !drv->woken && now_ms < drv->pause_until_ms)
		return drv->pause_until_ms - now_ms;
	if (drv->pause == PAUSE_ON || drv->woken) {
		vd_driver_round_begin(drv);
		drv->round_since_ms = now_ms;
	}
	drv->pause = PAUSE_NONE;
	drv->woken = false;
	more = driver_step(drv);
	driver_pause_begin(drv, now_ms);
	if (driver_is_over(drv))
		return VMEM_DRIVER_IDLE;
	if (driver_config_is_stale(drv))
		return VMEM_DRIVER_NOW;
	if (drv->pause == PAUSE_ON)
		return drv->pause_ms;
	return more && drv->request.purpose == PURPOSE_NONE ? VMEM_DRIVER_NOW : VMEM_DRIVER_IDLE;
}

void vmem_driver_config_changed(struct vmem_driver *drv)
{
	__atomic_store_n(&drv->config_told, 1, __ATOMIC_RELEASE);
	vd_driver_config_stale(drv);
}

void vmem_driver_retry(struct vmem_driver *drv)
{
	for (uint32_t u = 0; u < drv->nr_units; u++)
		drv->units[u].flags &= (uint8_t)~UNIT_NEVER;
	drv->woken = true;
	drv->pause_ms = 0;
}

void vmem_driver_leave(struct vmem_driver *drv)
{
	if (drv->leaving)
		return;
	drv->leaving = true;
	drv->reached_told = false;
	drv->woken = true;
	drv->pause_ms = 0;
}

void vmem_driver_restarted(struct vmem_driver *drv)
{
	enum purpose purpose = drv->request.purpose;

	if (drv->broken || drv->left)
		return;
	drv->gone = false;
	drv->request.purpose = PURPOSE_NONE;
	drv->request.lost = false;
	drv->learn.piece = 0;
	if (purpose == PURPOSE_PLUG || purpose == PURPOSE_UNPLUG)
		vd_learn_begin(drv, drv->request.run, false);
	vd_size_reset(drv);
	vd_driver_config_stale(drv);
	drv->woken = true;
	drv->pause_ms = 0;
}

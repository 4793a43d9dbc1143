/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The transport between core and device: requests that are answered at once or later, configuration
 * reads, resets of the device, and devices that vanish.
 */
#include "tests/model/model.h"

#include <endian.h>
#include <string.h>

static void link_trace(const struct dev *dev, const struct vmem_req *req, const char *what, int rc)
{
	static const char *const names[] = {"PLUG", "UNPLUG", "UNPLUG_ALL", "STATE"};
	uint16_t type = le16toh(req->type);

	model_trace(dev->w, "  %u: %s %#llx, %u blocks: %s %d", dev->index,
		    type < VMEM_REQ_TYPES ? names[type] : "?",
		    (unsigned long long)le64toh(req->addr), le16toh(req->nb_blocks), what, rc);
}

static void config_note(struct dev *dev, const struct vmem_config *config)
{
	dev->seen.block_size = le64toh(config->block_size);
	dev->seen.addr = le64toh(config->addr);
	dev->seen.region_size = le64toh(config->region_size);
	dev->seen.usable_region_size = le64toh(config->usable_region_size);
	dev->seen.plugged_size = le64toh(config->plugged_size);
	dev->seen.requested_size = le64toh(config->requested_size);
	model_trace(dev->w, "  %u: configuration read: requested %#llx, usable %#llx", dev->index,
		    (unsigned long long)dev->seen.requested_size,
		    (unsigned long long)dev->seen.usable_region_size);
}

static int link_config_read(void *os, struct vmem_config *ret_config)
{
	struct dev *dev = os;

	op_begin(dev, "config_read", false);
	dev->config_reads++;
	if (!dev->gone) {
		if (dev->w->with & WITH_LIAR)
			liar_config(dev, ret_config);
		else
			vmem_device_config_read(dev->engine, ret_config);
		config_note(dev, ret_config);
	}
	op_end(dev);
	/* It may vanish at the end of the op: what was read is not given then. */
	return dev->gone ? VMEM_DRIVER_GONE : VMEM_DRIVER_OK;
}

/* The device does what the request says. */
static void link_answer(struct dev *dev, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	struct world *w = dev->w;
	uint16_t type;

	if (w->with & WITH_LIAR) {
		liar_answer(dev, req, ret_resp);
		link_trace(dev, req, "it says", le16toh(ret_resp->type));
		return;
	}
	type = vmem_device_request(dev->engine, req, ret_resp);
	host_learn(dev);
	link_trace(dev, req, "answer", type);
	must(w, type != VMEM_RESP_ERROR, "a request was wrong: type %u, %#llx, %u blocks",
	     le16toh(req->type), (unsigned long long)le64toh(req->addr), le16toh(req->nb_blocks));
	if (type != VMEM_RESP_ACK)
		dev->fruitless++;
	else if (le16toh(req->type) != VMEM_REQ_STATE)
		dev->fruitless = 0;
}

bool link_range(const struct dev *dev, uint64_t *ret_addr, uint64_t *ret_size)
{
	const struct vmem_req *req = &dev->link.copy;

	if (dev->link.state == LINK_IDLE || le16toh(req->type) == VMEM_REQ_STATE)
		return false;
	*ret_addr = le64toh(req->addr);
	*ret_size = le16toh(req->nb_blocks) * dev->device_config.block_size;
	if (le16toh(req->type) == VMEM_REQ_UNPLUG_ALL) {
		*ret_addr = dev->area->addr;
		*ret_size = dev->device_config.region_size;
	}
	return true;
}

/* The request is not under way any more, but the core does not know yet what came of it. */
static void link_let_go(struct dev *dev, bool reset)
{
	uint64_t addr, size;

	if (link_range(dev, &addr, &size)) {
		dev->unsure_addr = addr;
		dev->unsure_size = size;
		dev->unsure_reset = reset;
	}
	dev->link.state = LINK_IDLE;
}

static int link_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	int rc = VMEM_DRIVER_OK;

	must(w, dev->link.state == LINK_IDLE, "a request while another one is under way");
	check_request(dev, req);
	dev->heavy++;
	op_begin(dev, "submit", false);
	if (!dev->gone && dev->call != CALL_STATE && chance(w, w->rates.pending)) {
		link_trace(dev, req, "waits", 0);
		dev->link.state = LINK_SENT;
		dev->link.req = req;
		dev->link.copy = *req;
		if (dev->unsure_reset && le16toh(req->type) != VMEM_REQ_STATE)
			dev->unsure_size = 0;
		rc = VMEM_DRIVER_PENDING;
	} else if (!dev->gone) {
		link_answer(dev, req, ret_resp);
	}
	op_end(dev);
	if (dev->gone && rc == VMEM_DRIVER_OK) {
		/* Done or not, nobody knows. */
		dev->link.copy = *req;
		dev->link.state = LINK_PROCESSED;
		link_let_go(dev, true);
		rc = VMEM_DRIVER_GONE;
	}
	return rc;
}

bool link_process(struct dev *dev)
{
	struct link *link = &dev->link;

	if (link->state != LINK_SENT || dev->gone)
		return false;
	must(dev->w, memcmp(link->req, &link->copy, sizeof(link->copy)) == 0,
	     "a request changed while it was under way");
	link_answer(dev, link->req, &link->resp);
	link->state = LINK_PROCESSED;
	return true;
}

bool link_deliver(struct dev *dev)
{
	bool gone = dev->gone && dev->link.state != LINK_IDLE;

	if (!dev->drv || dev->call || (dev->link.state != LINK_PROCESSED && !gone))
		return false;
	link_let_go(dev, gone);
	model_trace(dev->w, "device %u: the answer comes%s", dev->index, gone ? ": gone" : "");
	dev->call = CALL_ANSWERED;
	dev->heavy = 0;
	vmem_driver_answered(dev->drv, gone ? NULL : &dev->link.resp);
	must(dev->w, dev->heavy <= 2, "answered() did %u pieces of work", dev->heavy);
	dev->call = CALL_NONE;
	dev->next_run_ms = dev->w->now_ms;
	return true;
}

void link_reset(struct dev *dev)
{
	model_trace(dev->w, "device %u: reset", dev->index);
	if (dev->link.state == LINK_SENT && chance(dev->w, 500))
		link_process(dev);
	if (dev->link.state != LINK_IDLE)
		link_let_go(dev, true);
	dev->size_link.state = LINK_IDLE;
	dev->interrupt = dev->gone = dev->ended = false;
	if (!dev->drv)
		return;
	vmem_driver_restarted(dev->drv);
	dev->next_run_ms = dev->w->now_ms;
	dev_news(dev);
}

void link_vanish(struct dev *dev)
{
	model_trace(dev->w, "device %u: vanishes", dev->index);
	dev->gone = true;
	if (dev->drv)
		vmem_driver_config_changed(dev->drv);
}

static void link_note(void *os, const struct vmem_driver_note *note)
{
	struct dev *dev = os;

	must(dev->w, note->kind < VMEM_DRIVER_NOTE_KINDS, "a note of no kind: %d", (int)note->kind);
	must(dev->w, vmem_driver_note_name(note->kind)[0], "a note without a name: %d",
	     (int)note->kind);
	dev->noted[note->kind]++;
	model_trace(dev->w, "  %u: note %s %#llx %#llx result %d request %u", dev->index,
		    vmem_driver_note_name(note->kind), (unsigned long long)note->addr,
		    (unsigned long long)note->size, note->result, note->request);
	if (!(dev->w->with & WITH_LIAR))
		must(dev->w,
		     note->kind != VMEM_DRIVER_NOTE_BAD_CONFIG &&
			     note->kind != VMEM_DRIVER_NOTE_REFUSED,
		     "the core finds fault with an honest device");
}

void link_set_ops(struct dev *dev)
{
	dev->ops.config_read = link_config_read;
	dev->ops.submit = link_submit;
	dev->ops.note = chance(dev->w, 900) ? link_note : NULL;
	dev->ops.submit_size = dev->w->with & WITH_SIZES ? sizes_submit : NULL;
}

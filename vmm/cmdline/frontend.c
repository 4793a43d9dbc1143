/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -serial, -monitor, -qmp and -mon: what sits on character devices, and what is there when nothing was
 * said. The short options make a character device of their own: DEV is one of
 *	none  null  stdio  pty  file:PATH  unix:PATH[,...]  tcp:HOST:PORT[,...]
 *	chardev:ID  mon:DEV
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/cmdline/internal.h"

#define ID_MAX 32

static const char *const monitor_modes[] = {"readline", "control", NULL};

#define FIELD(field) PROP_FIELD(struct vm_monitor_config, field)

static const struct prop mon_list[] = {
	{.name = "chardev",
	 .type = PROP_ID,
	 .flags = PROP_REQUIRED,
	 FIELD(chardev_id),
	 .help = "the id of a character device"},
	{.name = "id", .type = PROP_ID, FIELD(id), .help = "name of the monitor"},
	{.name = "mode",
	 .type = PROP_ENUM,
	 FIELD(mode),
	 .names = monitor_modes,
	 .defval = "readline",
	 .help = "for people or for programs"},
	{.name = "pretty",
	 .type = PROP_BOOL,
	 FIELD(pretty),
	 .defval = "off",
	 .help = "of mode=control: JSON on several lines"},
};
const struct props cmdline_mon_props = {NULL, mon_list, ARRAY_SIZE(mon_list)};

/* What a short option came to. */
struct frontend {
	char id[ID_MAX]; /* of the character device to use; "" for none */
	char *other_id;  /* chardev:ID; used instead, own memory */
	bool muxed;      /* mon:DEV */
};

static int frontend_unknown(const char *option, const char *dev, struct err **err)
{
	return err_set(err, EINVAL,
		       "%s: '%s' is unknown; allowed: none, null, stdio, pty, file:PATH, "
		       "unix:PATH, tcp:HOST:PORT, chardev:ID, mon:...",
		       option, dev);
}

/* "HOST:PORT,key=value" to keys; HOST may be an address in brackets, or empty. */
static int frontend_parse_tcp(const char *option, const char *text, json_t **ret_values,
			      struct err **err)
{
	size_t len = strcspn(text, ","), colon = len;
	const char *host = text;
	size_t host_len;
	json_t *values;
	int ret;

	while (colon && text[colon - 1] != ':')
		colon--;
	if (!colon || colon == len)
		return err_set(err, EINVAL, "%s: 'tcp:%s' is no address; allowed: tcp:HOST:PORT",
			       option, text);
	host_len = colon - 1;
	if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host++;
		host_len -= 2;
	}
	if (text[len]) {
		ret = opts_parse(option, text + len + 1, NULL, 0, &values, err);
		if (ret < 0)
			return ret;
	} else {
		values = json_object();
	}
	if (json_object_set_new_nocheck(values, "host", json_stringn_nocheck(host, host_len)) ||
	    json_object_set_new_nocheck(values, "port",
					json_stringn_nocheck(text + colon, len - colon))) {
		json_decref(values);
		return cmdline_oom(err);
	}
	*ret_values = values;
	return 0;
}

/* Make the character device that @dev describes, with the id in @front. */
static int frontend_make(struct cmdline *cl, const char *option, const char *dev,
			 struct frontend *front, struct err **err)
{
	struct vm_chardev_config *chardev;
	const char *type = dev;
	json_t *values = NULL;
	int ret = 0;

	if (!strncmp(dev, "file:", 5)) {
		type = "file";
		values = json_object();
		json_object_set_new_nocheck(values, "path",
					    json_stringn_nocheck(dev + 5, strlen(dev + 5)));
	} else if (!strncmp(dev, "unix:", 5)) {
		type = "socket";
		ret = opts_parse(option, dev + 5, "path", 0, &values, err);
	} else if (!strncmp(dev, "tcp:", 4)) {
		type = "socket";
		ret = frontend_parse_tcp(option, dev + 4, &values, err);
	} else if (!strcmp(dev, "null") || !strcmp(dev, "stdio") || !strcmp(dev, "pty")) {
		values = json_object();
	} else {
		return frontend_unknown(option, dev, err);
	}
	if (ret < 0)
		return ret;
	ret = json_object_set_new(values, "id", json_string(front->id));
	if (front->muxed)
		ret |= json_object_set_new(values, "mux", json_true());
	if (front->muxed && !strcmp(type, "stdio"))
		ret |= json_object_set_new(values, "signal", json_false());
	if (ret) {
		json_decref(values);
		return cmdline_oom(err);
	}
	ret = cmdline_chardev_make(cl->config, option, type, values, NULL, &chardev, err);
	json_decref(values);
	return ret;
}

/* Read @dev; its character device is made unless there is none or it is there already. */
static int frontend_parse(struct cmdline *cl, const char *option, const char *dev,
			  const char *id_prefix, unsigned int number, struct frontend *ret_front,
			  struct err **err)
{
	struct frontend front = {.other_id = NULL};
	int ret = 0;

	front.muxed = !strncmp(dev, "mon:", 4);
	if (front.muxed)
		dev += 4;
	if (!strncmp(dev, "chardev:", 8)) {
		ret = cmdline_set_string(&front.other_id, dev + 8, err);
	} else if (!strcmp(dev, "none") && !front.muxed) {
		front.id[0] = '\0';
	} else {
		snprintf(front.id, sizeof(front.id), "%s%u", id_prefix, number);
		ret = frontend_make(cl, option, dev, &front, err);
	}
	if (!ret)
		*ret_front = front;
	return ret;
}

static const char *frontend_id(const struct frontend *front)
{
	return front->other_id ? front->other_id : front->id;
}

static int monitor_add(struct cmdline *cl, const char *chardev_id, enum vm_monitor_mode mode,
		       bool pretty, struct err **err)
{
	struct vm_monitor_config *monitor;

	monitor =
		cmdline_part_add(&cl->config->monitors, &cl->config->nr_monitors, sizeof(*monitor));
	if (!monitor)
		return cmdline_oom(err);
	monitor->mode = mode;
	monitor->pretty = pretty;
	return cmdline_set_string(&monitor->chardev_id, chardev_id, err);
}

static int serial_add(struct cmdline *cl, uint32_t index, const char *chardev_id, struct err **err)
{
	struct vm_device_config *device;

	device = cmdline_part_add(&cl->config->devices, &cl->config->nr_devices, sizeof(*device));
	if (!device)
		return cmdline_oom(err);
	device->type = VM_DEVICE_ISA_SERIAL;
	device->isa_serial.index = index;
	device->isa_serial.has_index = true;
	return cmdline_set_string(&device->isa_serial.chardev_id, chardev_id, err);
}

int cmdline_serial(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	unsigned int index = cl->nr_serials++;
	struct frontend front;
	int ret;

	if (index >= VM_SERIAL_MAX)
		return err_set(err, ENOSPC, "%s: too many serial ports; allowed: %u", option,
			       VM_SERIAL_MAX);
	ret = frontend_parse(cl, option, arg, "serial", index, &front, err);
	if (ret < 0)
		return ret;
	if (*frontend_id(&front))
		ret = serial_add(cl, index, frontend_id(&front), err);
	if (!ret && front.muxed)
		ret = monitor_add(cl, frontend_id(&front), VM_MONITOR_READLINE, false, err);
	free(front.other_id);
	return ret;
}

static int monitor_parse(struct cmdline *cl, const char *option, const char *arg,
			 enum vm_monitor_mode mode, bool pretty, struct err **err)
{
	unsigned int number = cl->nr_monitors++;
	struct frontend front;
	int ret;

	ret = frontend_parse(cl, option, arg, "compat_monitor", number, &front, err);
	if (ret < 0)
		return ret;
	if (*frontend_id(&front))
		ret = monitor_add(cl, frontend_id(&front), mode, pretty, err);
	free(front.other_id);
	return ret;
}

int cmdline_monitor(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return monitor_parse(cl, option, arg, VM_MONITOR_READLINE, false, err);
}

int cmdline_qmp(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return monitor_parse(cl, option, arg, VM_MONITOR_CONTROL, false, err);
}

int cmdline_qmp_pretty(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	return monitor_parse(cl, option, arg, VM_MONITOR_CONTROL, true, err);
}

int cmdline_mon(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct vm_monitor_config *monitor;

	monitor =
		cmdline_part_add(&cl->config->monitors, &cl->config->nr_monitors, sizeof(*monitor));
	if (!monitor)
		return cmdline_oom(err);
	return cmdline_apply(&cmdline_mon_props, option, arg, "chardev", monitor, err);
}

static bool has_serial(const struct cmdline *cl)
{
	if (cl->nr_serials)
		return true;
	for (size_t i = 0; i < cl->config->nr_devices; i++) {
		if (cl->config->devices[i]->type == VM_DEVICE_ISA_SERIAL)
			return true;
	}
	return false;
}

static bool stdio_is_free(const struct cmdline *cl)
{
	if (cl->config->daemonize)
		return false;
	for (size_t i = 0; i < cl->config->nr_chardevs; i++) {
		if (cl->config->chardevs[i]->type == VM_CHARDEV_STDIO)
			return false;
	}
	return true;
}

/*
 * Without -nodefaults there is a monitor and, where there is a machine, a serial port. What was not
 * asked for gets standard input and output, both together if neither was; where these are taken, the
 * serial port gets nothing behind it, and there is no monitor.
 */
int cmdline_frontends_defaults(struct cmdline *cl, struct err **err)
{
	bool serial = has_serial(cl);
	bool monitor = cl->nr_monitors || cl->config->nr_monitors;
	bool stdio = stdio_is_free(cl);

	if (cl->nodefaults)
		return 0;
	if (cl->config->machine.type == VM_MACHINE_NONE)
		serial = true;
	if (!serial && !monitor && stdio)
		return cmdline_serial(cl, "-serial", "mon:stdio", err);
	if (!serial)
		return cmdline_serial(cl, "-serial", stdio ? "stdio" : "null", err);
	if (!monitor && stdio)
		return cmdline_monitor(cl, "-monitor", "stdio", err);
	return 0;
}

int cmdline_monitors_finish(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	int ret;

	for (size_t i = 0; i < config->nr_monitors; i++) {
		struct vm_monitor_config *monitor = config->monitors[i];

		for (size_t j = 0; monitor->id && j < i; j++) {
			if (config->monitors[j]->id &&
			    !strcmp(config->monitors[j]->id, monitor->id))
				return err_set(err, EEXIST, "-mon: id=%s is given twice",
					       monitor->id);
		}
		ret = cmdline_chardev_use(config, "-mon", monitor->chardev_id, &monitor->chardev,
					  err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* -chardev and -add-fd: the outer ends of serial ports and monitors. See internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/num.h"
#include "base/ptrs.h"
#include "qmp/opts.h"
#include "qmp/size.h"
#include "vmm/cmdline/internal.h"

#define MUX_USERS_MAX 4
#define FDSET_DIR     "/dev/fdset/"

#define FIELD(field) PROP_FIELD(struct vm_chardev_config, field)

static const struct prop common_list[] = {
	{.name = "id",
	 .type = PROP_ID,
	 .flags = PROP_REQUIRED,
	 FIELD(id),
	 .help = "the name that others refer to"},
	{.name = "mux",
	 .type = PROP_BOOL,
	 FIELD(mux),
	 .defval = "off",
	 .help = "several serial ports and monitors share it"},
	{.name = "logfile",
	 .type = PROP_STRING,
	 FIELD(logfile),
	 .help = "file for a copy of the output"},
	{.name = "logappend",
	 .type = PROP_BOOL,
	 FIELD(log_append),
	 .defval = "off",
	 .help = "keep what is in that file"},
};
static const struct props common_props = {NULL, common_list, ARRAY_SIZE(common_list)};

static const struct prop stdio_list[] = {
	{.name = "signal",
	 .type = PROP_BOOL,
	 FIELD(signal),
	 .defval = "on",
	 .help = "Ctrl-C ends ebb; off: the guest gets it"},
};
const struct props cmdline_stdio_props = {&common_props, stdio_list, ARRAY_SIZE(stdio_list)};

static const struct prop file_list[] = {
	{.name = "path",
	 .type = PROP_STRING,
	 .flags = PROP_REQUIRED,
	 FIELD(path),
	 .help = "file to write to"},
	{.name = "append",
	 .type = PROP_BOOL,
	 FIELD(append),
	 .defval = "off",
	 .help = "keep what is in the file"},
};
const struct props cmdline_file_props = {&common_props, file_list, ARRAY_SIZE(file_list)};

static const struct prop socket_list[] = {
	{.name = "path", .type = PROP_STRING, FIELD(path), .help = "Unix socket"},
	{.name = "host",
	 .type = PROP_STRING,
	 .flags = PROP_EMPTY,
	 FIELD(host),
	 .help = "TCP: name or address"},
	{.name = "port", .type = PROP_STRING, FIELD(port), .help = "TCP: number or service"},
	{.name = "fd",
	 .type = PROP_UINT,
	 FIELD(fd),
	 .max = INT32_MAX,
	 .help = "inherited socket, listening or connected"},
	{.name = "server",
	 .type = PROP_BOOL,
	 FIELD(server),
	 .defval = "off",
	 .help = "listen instead of connecting"},
	{.name = "wait",
	 .type = PROP_BOOL,
	 FIELD(wait),
	 .defval = "on",
	 .help = "server: start only when a client is there"},
	{.name = "nodelay",
	 .type = PROP_BOOL,
	 FIELD(nodelay),
	 .defval = "off",
	 .help = "TCP: send small packets at once"},
	{.name = "delay", .type = PROP_BOOL, .flags = PROP_SILENT, .help = "the reverse"},
	{.name = "ipv4",
	 .type = PROP_BOOL,
	 FIELD(ipv4),
	 .defval = "off",
	 .help = "TCP: only over IPv4"},
	{.name = "ipv6",
	 .type = PROP_BOOL,
	 FIELD(ipv6),
	 .defval = "off",
	 .help = "TCP: only over IPv6"},
	{.name = "reconnect",
	 .type = PROP_UINT,
	 FIELD(reconnect_s),
	 .max = 3600,
	 .defval = "0",
	 .help = "client: try again after so many seconds"},
};
const struct props cmdline_socket_props = {&common_props, socket_list, ARRAY_SIZE(socket_list)};

struct chardev_class {
	const char *name;
	enum vm_chardev_type type;
	const struct props *props;
	const char *help;
};

static const struct chardev_class chardev_classes[] = {
	{"stdio", VM_CHARDEV_STDIO, &cmdline_stdio_props, "standard input and output"},
	{"socket", VM_CHARDEV_SOCKET, &cmdline_socket_props, "Unix or TCP socket"},
	{"file", VM_CHARDEV_FILE, &cmdline_file_props, "file, output only"},
	{"pty", VM_CHARDEV_PTY, &common_props, "new pseudo-terminal"},
	{"null", VM_CHARDEV_NULL, &common_props, "nothing"},
};

/* "nodelay" reaches us as delay=off; both are one field. */
static int socket_complete_delay(const json_t *values, struct vm_chardev_config *chardev,
				 const char *what, struct err **err)
{
	const json_t *delay = json_object_get(values, "delay");
	struct vm_chardev_config scratch = {0};
	struct prop prop = {.name = "delay", .type = PROP_BOOL, FIELD(nodelay)};
	struct props table = {NULL, &prop, 1};
	int ret;

	if (!delay)
		return 0;
	ret = props_set(&table, what, "delay", delay, &scratch, err);
	if (!ret)
		chardev->nodelay = !scratch.nodelay;
	return ret;
}

static int socket_check_address(const char *what, const struct vm_chardev_config *chardev,
				struct err **err)
{
	unsigned int given = (chardev->path != NULL) + (chardev->port != NULL) +
			     (chardev->fd >= 0) + (chardev->fd_name != NULL);

	if (given != 1)
		return err_set(err, EINVAL,
			       "%s: needs one of path= (Unix), port= (TCP) and fd= (inherited)",
			       what);
	if (chardev->host && !chardev->port)
		return err_set(err, EINVAL, "%s: host= needs port= next to it", what);
	if (chardev->path && strlen(chardev->path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s: path= is too long for a socket; allowed: %zu bytes", what,
			       sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	if (!chardev->port && (chardev->ipv4 || chardev->ipv6))
		return err_set(err, EINVAL, "%s: ipv4= and ipv6= need port= next to them", what);
	return 0;
}

static int socket_complete(const char *what, const json_t *values,
			   struct vm_chardev_config *chardev, struct err **err)
{
	const json_t *ipv4 = json_object_get(values, "ipv4");
	const json_t *ipv6 = json_object_get(values, "ipv6");
	int ret;

	ret = socket_check_address(what, chardev, err);
	if (!ret)
		ret = socket_complete_delay(values, chardev, what, err);
	if (ret < 0)
		return ret;
	if (!chardev->server && json_object_get(values, "wait"))
		return err_set(err, EINVAL, "%s: wait= needs server=on next to it", what);
	if (chardev->server && chardev->reconnect_s)
		return err_set(err, EINVAL, "%s: reconnect= and server=on exclude each other",
			       what);
	if (!chardev->server)
		chardev->wait = false;
	if (!chardev->server && chardev->port && !(chardev->host && *chardev->host))
		return err_set(err, EINVAL, "%s: needs host= to connect to", what);
	if (chardev->host && !*chardev->host) {
		free(chardev->host);
		chardev->host = NULL;
	}
	if (ipv4 && ipv6 && !chardev->ipv4 && !chardev->ipv6)
		return err_set(err, EINVAL, "%s: ipv4=off and ipv6=off exclude each other", what);
	if (ipv4 && !chardev->ipv4)
		chardev->ipv6 = true;
	else if (ipv6 && !chardev->ipv6)
		chardev->ipv4 = true;
	else if (chardev->ipv4 && chardev->ipv6)
		chardev->ipv4 = chardev->ipv6 = false;
	return 0;
}

static const struct chardev_class *chardev_class_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(chardev_classes); i++) {
		if (!strcmp(chardev_classes[i].name, name))
			return &chardev_classes[i];
	}
	return NULL;
}

/* Is @key=@path a set of descriptors? */
static int file_find_fdset(const char *what, const char *key, const char *path, bool *ret_found,
			   int64_t *ret_set, struct err **err)
{
	uint64_t set;

	if (!path || strncmp(path, FDSET_DIR, strlen(FDSET_DIR)) != 0)
		return 0;
	if (size_parse_number(path + strlen(FDSET_DIR), &set) < 0 || set > INT64_MAX)
		return err_set(err, EINVAL,
			       "%s: %s=%s is no descriptor set; allowed: " FDSET_DIR "NUMBER", what,
			       key, path);
	*ret_found = true;
	*ret_set = (int64_t)set;
	return 0;
}

/* -1 is what "no descriptor" is; everything else has its default in the tables. */
static int chardev_read(const char *what, const struct chardev_class *class, const json_t *values,
			struct vm_chardev_config *chardev, struct err **err)
{
	int ret;

	chardev->type = class->type;
	chardev->fd = -1;
	if (props_init(class->props, chardev) < 0)
		return cmdline_oom(err);
	ret = props_apply(class->props, what, values, chardev, err);
	if (!ret)
		ret = cmdline_check_id(what, chardev->id, err);
	if (!ret && class->type == VM_CHARDEV_SOCKET)
		ret = socket_complete(what, values, chardev, err);
	if (!ret && class->type == VM_CHARDEV_FILE)
		ret = file_find_fdset(what, "path", chardev->path, &chardev->has_fdset,
				      &chardev->fdset, err);
	if (!ret)
		ret = file_find_fdset(what, "logfile", chardev->logfile, &chardev->has_log_fdset,
				      &chardev->log_fdset, err);
	return ret;
}

static int chardev_check_id(const struct vm_config *config, const char *option, const char *id,
			    struct err **err)
{
	if (!cmdline_chardev_find(config, id))
		return 0;
	return err_set(err, EEXIST, "%s: id=%s is in use already", option, id);
}

int cmdline_chardev_make(struct vm_config *config, const char *option, const char *type,
			 const json_t *values, char *fd_name,
			 struct vm_chardev_config **ret_chardev, struct err **err)
{
	const struct chardev_class *class = chardev_class_find(type);
	struct vm_chardev_config *chardev;
	char what[CMDLINE_WHAT_MAX];
	int ret;

	chardev = calloc(1, sizeof(*chardev));
	if (!chardev) {
		free(fd_name);
		return cmdline_oom(err);
	}
	chardev->fd_name = fd_name;
	cmdline_what(what, option, type, opts_string(values, "id"));
	if (class)
		ret = chardev_read(what, class, values, chardev, err);
	else
		ret = err_set(err, EINVAL,
			      "%s: backend=%s is unknown; allowed: stdio, socket, file, pty, null",
			      option, type);
	if (!ret)
		ret = chardev_check_id(config, option, chardev->id, err);
	if (!ret && ptrs_add(&config->chardevs, &config->nr_chardevs, chardev))
		ret = cmdline_oom(err);
	if (ret < 0)
		vm_chardev_config_free(chardev);
	else
		*ret_chardev = chardev;
	return ret;
}

static int chardev_help(struct vm_config *config, const struct chardev_class *one, struct err **err)
{
	char *text = NULL, *props = one ? props_help(one->props) : NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out && one)
		fprintf(out, "%s: %s\nProperties:\n%s", one->name, one->help, props ? props : "");
	for (size_t i = 0; out && !one && i < ARRAY_SIZE(chardev_classes); i++)
		fprintf(out, "%s  %-6s  %s\n", i ? "" : "Character devices:\n",
			chardev_classes[i].name, chardev_classes[i].help);
	if (out)
		fclose(out);
	free(props);
	config->output = text;
	return text ? 0 : cmdline_oom(err);
}

int cmdline_chardev(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	const struct chardev_class *class;
	struct vm_chardev_config *chardev;
	json_t *values;
	char *type;
	int ret;

	ret = opts_parse(option, arg, "backend", 0, &values, err);
	if (ret < 0)
		return ret;
	type = strdup(opts_string(values, "backend") ? opts_string(values, "backend") : "");
	if (!type) {
		json_decref(values);
		return cmdline_oom(err);
	}
	class = chardev_class_find(type);
	if (opts_wants_help(values, "backend") && (class || !json_object_get(values, "help"))) {
		ret = chardev_help(cl->config, class, err);
	} else {
		json_object_del(values, "backend");
		ret = cmdline_chardev_make(cl->config, option, type, values, NULL, &chardev, err);
	}
	json_decref(values);
	free(type);
	return ret;
}

struct vm_chardev_config *cmdline_chardev_find(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->nr_chardevs; i++) {
		if (!strcmp(config->chardevs[i]->id, id))
			return config->chardevs[i];
	}
	return NULL;
}

int cmdline_chardev_use(struct vm_config *config, const char *what, const char *id,
			const struct vm_chardev_config **ret_chardev, struct err **err)
{
	struct vm_chardev_config *chardev = cmdline_chardev_find(config, id);

	if (!chardev)
		return err_set(err, ENOENT,
			       "%s: there is no character device %s; chardev= takes the id of a "
			       "-chardev",
			       what, id);
	if (chardev->nr_users && !chardev->mux)
		return err_set(err, EBUSY,
			       "%s: chardev=%s is in use already; mux=on lets several share it",
			       what, id);
	if (chardev->nr_users == MUX_USERS_MAX)
		return err_set(err, EBUSY, "%s: chardev=%s has %d users already", what, id,
			       MUX_USERS_MAX);
	chardev->nr_users++;
	*ret_chardev = chardev;
	return 0;
}

static const char *chardev_type_name(enum vm_chardev_type type)
{
	size_t i = 0;

	while (chardev_classes[i].type != type)
		i++;
	return chardev_classes[i].name;
}

/* Will the set have a descriptor that can be written to? */
static int chardev_check_fdset(const struct vm_config *config, const char *type, const char *id,
			       int64_t set, struct err **err)
{
	for (size_t i = 0; i < config->nr_fds; i++) {
		int flags = fcntl(config->fds[i].fd, F_GETFL);

		if (config->fds[i].set == set && flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
			return 0;
	}
	return err_set(err, ENOENT,
		       "-chardev %s,id=%s: no -add-fd gave set %" PRId64
		       " a descriptor that can be written to",
		       type, id, set);
}

/* Standard input and output are there once, and only in the foreground. */
static int chardev_check_terminal(const struct vm_config *config, size_t index, const char *option,
				  struct err **err)
{
	const struct vm_chardev_config *chardev = config->chardevs[index];

	for (size_t i = 0; i < index; i++) {
		if (config->chardevs[i]->type == VM_CHARDEV_STDIO)
			return err_set(err, EBUSY,
				       "%s stdio: %s and %s cannot both have standard input and "
				       "output",
				       option, config->chardevs[i]->id, chardev->id);
	}
	if (config->daemonize)
		return err_set(err, EINVAL,
			       "-daemonize: %s has standard input and output, which a daemon has "
			       "not",
			       chardev->id);
	return 0;
}

int cmdline_chardev_finish(struct vm_config *config, size_t index, const char *option,
			   struct err **err)
{
	const struct vm_chardev_config *chardev = config->chardevs[index];

	int ret = 0;

	if (chardev->has_fdset && !chardev->live)
		ret = chardev_check_fdset(config, "file", chardev->id, chardev->fdset, err);
	if (!ret && chardev->has_log_fdset && !chardev->live)
		ret = chardev_check_fdset(config, chardev_type_name(chardev->type), chardev->id,
					  chardev->log_fdset, err);
	if (!ret && chardev->type == VM_CHARDEV_STDIO)
		ret = chardev_check_terminal(config, index, option, err);
	return ret;
}

int cmdline_chardevs_finish(struct cmdline *cl, struct err **err)
{
	int ret = 0;

	for (size_t i = 0; i < cl->config->nr_chardevs && !ret; i++)
		ret = cmdline_chardev_finish(cl->config, i, "-chardev", err);
	return ret;
}

#undef FIELD
#define FIELD(field) PROP_FIELD(struct vm_fd_config, field)

static const struct prop fd_list[] = {
	{.name = "set",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(set),
	 .help = "number of the set"},
	{.name = "fd",
	 .type = PROP_UINT,
	 .flags = PROP_REQUIRED,
	 FIELD(fd),
	 .min = 3,
	 .max = INT32_MAX,
	 .help = "inherited descriptor"},
	{.name = "opaque",
	 .type = PROP_STRING,
	 .flags = PROP_EMPTY,
	 FIELD(opaque),
	 .help = "a remark"},
};
const struct props cmdline_fd_props = {NULL, fd_list, ARRAY_SIZE(fd_list)};

int cmdline_add_fd(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct vm_fd_config *fd;
	int ret;

	fd = cmdline_array_add(&cl->config->fds, &cl->config->nr_fds, sizeof(*fd));
	if (!fd)
		return cmdline_oom(err);
	ret = cmdline_apply(&cmdline_fd_props, option, arg, NULL, fd, err);
	if (ret < 0)
		return ret;
	if (fcntl(fd->fd, F_GETFD) < 0)
		return err_set(err, EBADF, "%s: fd=%d is not open", option, fd->fd);
	for (size_t i = 0; i + 1 < cl->config->nr_fds; i++) {
		if (cl->config->fds[i].fd == fd->fd)
			return err_set(err, EEXIST, "%s: fd=%d is given twice", option, fd->fd);
	}
	return 0;
}

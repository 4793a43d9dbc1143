/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Character devices that come and go: see live.h for the contract.
 *
 * QMP describes them in nested objects, with some names of its own. They are turned into the flat
 * keys of -chardev here, so that one set of tables checks both.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/ptrs.h"
#include "qmp/opts.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/live.h"

#define CHARDEV_ADD    "chardev-add"
#define CHARDEV_REMOVE "chardev-remove"

/* What becomes of a member; without a key it may be there only to say false. */
struct rename {
	const char *name;
	const char *key;
};

#define SAME(name)         \
	{                  \
		name, name \
	}
#define NEVER(name)        \
	{                  \
		name, NULL \
	}
#define LOG SAME("logfile"), SAME("logappend")
#define END NEVER(NULL)

static const struct rename plain_members[] = {LOG, END};
static const struct rename stdio_members[] = {SAME("signal"), LOG, END};
static const struct rename file_members[] = {{"out", "path"}, SAME("append"), LOG, END};
static const struct rename socket_members[] = {SAME("server"),
					       SAME("wait"),
					       SAME("nodelay"),
					       SAME("reconnect"),
					       NEVER("telnet"),
					       NEVER("tn3270"),
					       NEVER("websocket"),
					       LOG,
					       END};
static const struct rename unix_members[] = {SAME("path"), NEVER("abstract"), NEVER("tight"), END};
static const struct rename inet_members[] = {
	SAME("host"),     SAME("port"),        SAME("ipv4"),   SAME("ipv6"),
	NEVER("numeric"), NEVER("keep-alive"), NEVER("mptcp"), END};

static const struct rename *members_of(const char *type)
{
	static const struct {
		const char *type;
		const struct rename *members;
	} all[] = {{"stdio", stdio_members}, {"file", file_members}, {"socket", socket_members}};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (!strcmp(all[i].type, type))
			return all[i].members;
	}
	return plain_members;
}

static int keys_take(const char *what, const json_t *data, const struct rename *members,
		     json_t *keys, struct err **err)
{
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)data, name, value) {
		const struct rename *m = members;

		while (m->name && strcmp(m->name, name) != 0)
			m++;
		if (!m->name || (!m->key && !json_is_false(value)))
			return err_set(err, ENOTSUP, "%s: %s is not possible here", what, name);
		if (m->key && json_object_set(keys, m->key, value))
			return cmdline_oom(err);
	}
	return 0;
}

/* A descriptor goes by its name only: numbers are those of any file of the process. */
static int keys_take_fd(const char *what, const json_t *data, char **ret_name, struct err **err)
{
	const char *name = opts_string(data, "str");

	if (!name || !*name || isdigit((unsigned char)*name))
		return err_set(err, EINVAL,
			       "%s: an address of type fd needs str, the name of a descriptor that "
			       "getfd got",
			       what);
	*ret_name = strdup(name);
	return *ret_name ? 0 : cmdline_oom(err);
}

static int keys_take_addr(const char *what, const json_t *addr, json_t *keys, char **ret_fd_name,
			  struct err **err)
{
	const char *type = opts_string(addr, "type");
	const json_t *data = json_object_get(addr, "data");

	if (!type || !json_is_object(data))
		return err_set(err, EINVAL, "%s: needs addr with its type and data", what);
	if (!strcmp(type, "unix"))
		return keys_take(what, data, unix_members, keys, err);
	if (!strcmp(type, "inet"))
		return keys_take(what, data, inet_members, keys, err);
	if (!strcmp(type, "fd"))
		return keys_take_fd(what, data, ret_fd_name, err);
	return err_set(err, EINVAL, "%s: addr's type=%s is unknown; allowed: unix, inet, fd", what,
		       type);
}

/* A socket listens unless it says otherwise. */
static int keys_take_socket(const char *what, json_t *data, json_t *keys, char **ret_fd_name,
			    struct err **err)
{
	int ret = keys_take_addr(what, json_object_get(data, "addr"), keys, ret_fd_name, err);

	if (ret < 0)
		return ret;
	json_object_del(data, "addr");
	if (json_object_set_new(keys, "server", json_true()))
		return cmdline_oom(err);
	ret = keys_take(what, data, socket_members, keys, err);
	/* It is ignored where nobody can be waited for. */
	if (!ret && !json_is_true(json_object_get(keys, "server")))
		json_object_del(keys, "wait");
	return ret;
}

static int keys_take_backend(const char *id, const char *type, json_t *data, json_t *keys,
			     char **ret_fd_name, struct err **err)
{
	char what[CMDLINE_WHAT_MAX];

	cmdline_what(what, CHARDEV_ADD, type, id);
	if (!strcmp(type, "socket"))
		return keys_take_socket(what, data, keys, ret_fd_name, err);
	return keys_take(what, data, members_of(type), keys, err);
}

/* What a machine that runs adds to the rules: it does not stand still for a client. */
static int chardev_add(struct vm_config *config, const char *type, const json_t *keys,
		       char *fd_name, struct vm_chardev_config **ret_chardev, struct err **err)
{
	struct vm_chardev_config *chardev;
	char what[CMDLINE_WHAT_MAX];
	int ret;

	ret = cmdline_chardev_make(config, CHARDEV_ADD, type, keys, fd_name, &chardev, err);
	if (ret < 0)
		return ret;
	cmdline_what(what, CHARDEV_ADD, type, chardev->id);
	chardev->live = true;
	if (chardev->wait && chardev->server && json_object_get(keys, "wait"))
		ret = err_set(err, ENOTSUP,
			      "%s: wait=on is not possible: the machine runs, and would stand "
			      "still meanwhile",
			      what);
	chardev->wait = false;
	if (!ret)
		ret = cmdline_chardev_finish(config, config->nr_chardevs - 1, CHARDEV_ADD, err);
	if (ret < 0)
		cmdline_chardev_remove(config, chardev);
	else
		*ret_chardev = chardev;
	return ret;
}

int cmdline_chardev_add(struct vm_config *config, const char *id, const json_t *backend,
			struct vm_chardev_config **ret_chardev, struct err **err)
{
	const char *type = opts_string(backend, "type");
	json_t *data = json_copy(json_object_get(backend, "data"));
	json_t *keys = json_pack("{s:s}", "id", id);
	char *fd_name = NULL;
	int ret;

	if (!keys)
		ret = cmdline_oom(err);
	else if (!type || !json_is_object(data))
		ret = err_set(err, EINVAL, CHARDEV_ADD ": needs a backend with its type and data");
	else
		ret = keys_take_backend(id, type, data, keys, &fd_name, err);
	if (ret < 0)
		free(fd_name);
	else
		ret = chardev_add(config, type, keys, fd_name, ret_chardev, err);
	json_decref(data);
	json_decref(keys);
	return ret;
}

int cmdline_chardev_add_keys(struct vm_config *config, const json_t *keys,
			     struct vm_chardev_config **ret_chardev, struct err **err)
{
	json_t *copy = json_copy((json_t *)keys); /* only reads it */
	const char *type = opts_string(keys, "backend");
	int ret;

	if (!copy)
		return cmdline_oom(err);
	json_object_del(copy, "backend");
	ret = chardev_add(config, type ? type : "", copy, NULL, ret_chardev, err);
	json_decref(copy);
	return ret;
}

int cmdline_chardev_check_remove(const struct vm_config *config, const char *id,
				 struct vm_chardev_config **ret_chardev, struct err **err)
{
	struct vm_chardev_config *chardev = cmdline_chardev_find(config, id);

	if (!chardev)
		return err_set(err, ENOENT, CHARDEV_REMOVE ": there is no character device %s", id);
	if (chardev->nr_users)
		return err_set(err, EBUSY, CHARDEV_REMOVE ": character device %s is in use", id);
	*ret_chardev = chardev;
	return 0;
}

void cmdline_chardev_remove(struct vm_config *config, struct vm_chardev_config *chardev)
{
	ptrs_remove(&config->chardevs, &config->nr_chardevs, chardev);
	vm_chardev_config_free(chardev);
}

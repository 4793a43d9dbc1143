/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of options, and the help text that is made from it. See internal.h. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "vmm/cmdline/internal.h"

#define HEADING(text)        \
	{                    \
		.help = text \
	}
#define OPTION(name, arg, fn, text) \
	{                           \
		name, arg, fn, text \
	}
#define FLAG(name, fn, text)         \
	{                            \
		name, NULL, fn, text \
	}
#define OTHER_NAME(name, arg, fn)   \
	{                           \
		name, arg, fn, NULL \
	}

const struct cmdline_option cmdline_options[] = {
	HEADING("Machine"),
	OPTION("machine", "[type=]pc|q35[,KEY=VALUE...]", cmdline_machine,
	       "the machine; -machine help lists names and keys"),
	OTHER_NAME("M", "", cmdline_machine),
	OPTION("accel", "kvm", cmdline_accel, "KVM; there is nothing else"),
	FLAG("enable-kvm", cmdline_enable_kvm, "the same"),
	FLAG("usb", cmdline_usb,
	     "the chipset's USB controller, with nothing connected; of pc only"),
	OPTION("cpu", "MODEL[,+FEATURE][,-FEATURE][,KEY=VALUE...]", cmdline_cpu,
	       "the CPUs; -cpu help lists keys and features"),
	OPTION("smp", "[cpus=]N[,maxcpus=N][,sockets=N][,dies=N][,cores=N][,threads=N]",
	       cmdline_smp, "how many CPUs (1 to 64) and how they are arranged"),
	OPTION("m", "[size=]SIZE[,maxmem=SIZE][,slots=N]", cmdline_memory,
	       "boot memory, and all memory there may be"),
	OPTION("mem-path", "PATH", cmdline_mem_path,
	       "boot memory from a file, or from one without a name in a folder"),
	FLAG("mem-prealloc", cmdline_mem_prealloc,
	     "allocate memory at the start, as prealloc=on of each memory backend"),
	OPTION("numa", "node[,nodeid=N][,cpus=FIRST[-LAST]...][,mem=SIZE|,memdev=ID]", cmdline_numa,
	       "a NUMA node"),
	OPTION("numa", "dist,src=N,dst=N,val=N", cmdline_numa, "a distance between nodes"),
	OPTION("numa", "cpu,node-id=N[,socket-id=N][,die-id=N][,core-id=N][,thread-id=N]",
	       cmdline_numa, "CPUs of a node by their place"),
	OPTION("object", "TYPE,id=ID[,KEY=VALUE...]", cmdline_object,
	       "an object, also as JSON; -object help lists types"),
	OPTION("device", "DRIVER[,id=ID][,KEY=VALUE...]", cmdline_device,
	       "a device, also as JSON; -device help and -device DRIVER,help list them"),
	OPTION("uuid", "UUID", cmdline_uuid, "of the machine"),
	OPTION("smbios", "type=0|1|2|3|4|11|17[,KEY=VALUE...]", cmdline_smbios,
	       "what the guest reads of its manufacturer, serial number and the like"),
	OPTION("smbios", "file=PATH", cmdline_smbios, "an SMBIOS structure from a file"),
	OPTION("rtc", "[base=utc|localtime|DATE]", cmdline_rtc, "what the clock shows"),
	OPTION("action", "[reboot=...][,shutdown=...][,panic=...][,watchdog=...]", cmdline_action,
	       "what follows when the guest reboots, powers off, panics"),
	FLAG("no-reboot", cmdline_no_reboot, "exit when the guest reboots"),
	FLAG("no-shutdown", cmdline_no_shutdown, "stop, but stay, when the guest powers off"),

	HEADING("Kernel"),
	OPTION("kernel", "FILE", cmdline_kernel, "Linux kernel, bzImage or ELF vmlinux"),
	OPTION("initrd", "FILE", cmdline_initrd, "initial RAM disk"),
	OPTION("append", "TEXT", cmdline_append, "the kernel's command line"),

	HEADING("Consoles"),
	OPTION("chardev", "TYPE,id=ID[,KEY=VALUE...]", cmdline_chardev,
	       "a character device; -chardev help lists types"),
	OPTION("serial", "DEV", cmdline_serial,
	       "a serial port on none, null, stdio, pty, file:PATH, unix:PATH, tcp:HOST:PORT, "
	       "chardev:ID or mon:DEV"),
	OPTION("monitor", "DEV", cmdline_monitor, "a monitor, likewise"),
	OPTION("qmp", "DEV", cmdline_qmp, "a monitor for programs (QMP), likewise"),
	OPTION("qmp-pretty", "DEV", cmdline_qmp_pretty, "the same, JSON on several lines"),
	OPTION("mon", "[chardev=]ID[,mode=readline|control][,pretty=on]", cmdline_mon,
	       "a monitor on a character device, for people or for programs"),
	FLAG("nodefaults", cmdline_nodefaults, "no serial port and no monitor but those given"),
	FLAG("nographic", cmdline_ignored, "accepted; there is never a display"),
	OPTION("display", "none", cmdline_display, "accepted"),
	OPTION("add-fd", "set=N,fd=N[,opaque=TEXT]", cmdline_add_fd,
	       "an inherited descriptor, to be named /dev/fdset/N"),

	HEADING("Process"),
	OPTION("name", "[guest=]NAME[,process=NAME][,debug-threads=on]", cmdline_name,
	       "name of the guest"),
	OPTION("metrics", "[path=]PATH", cmdline_metrics,
	       "tell metrics to whoever connects to a Unix socket"),
	FLAG("S", cmdline_paused, "do not start the CPUs until the monitor says so"),
	OPTION("incoming", "tcp:HOST:PORT|unix:PATH|fd:N|exec:COMMAND|file:PATH|defer",
	       cmdline_incoming, "run a machine that is migrated here, or was saved"),
	OPTION("pidfile", "FILE", cmdline_pidfile, "write the process id to FILE"),
	FLAG("daemonize", cmdline_daemonize, "go to the background once all is set up"),
	OPTION("overcommit", "mem-lock=on|off", cmdline_overcommit,
	       "on: boot memory is allocated, and nothing is swapped out"),
	OPTION("sandbox",
	       "on|off[,obsolete=allow|deny][,elevateprivileges=allow|deny|children]"
	       "[,spawn=allow|deny][,resourcecontrol=allow|deny]",
	       cmdline_sandbox, "shut the process in: only the system calls that it needs"),
	OPTION("msg", "[timestamp=on][,guest-name=on]", cmdline_msg, "form of messages"),
	FLAG("help", cmdline_help, "this text"),
	OTHER_NAME("h", NULL, cmdline_help),
	FLAG("version", cmdline_version, "the version"),

	HEADING("Accepted for compatibility"),
	OPTION("boot", "[order=...][,strict=on|off]", cmdline_boot,
	       "no effect: there is only the kernel"),
	FLAG("no-hpet", cmdline_ignored, "no effect: there is none"),
	OPTION("audiodev", "none,id=ID", cmdline_audiodev, "no effect"),
	OPTION("global", "DRIVER.PROPERTY=VALUE", cmdline_global,
	       "no effect; only what management programs write"),
	OPTION("watchdog-action", "ACTION", cmdline_watchdog_action, "as -action watchdog="),
	FLAG("no-user-config", cmdline_ignored, "no effect"),
	FLAG("only-migratable", cmdline_only_migratable, "no effect: all can be migrated"),
	OPTION("vga", "none", cmdline_only_none, "no effect; likewise -net, -nic, -parallel"),
	OTHER_NAME("net", "", cmdline_only_none),
	OTHER_NAME("nic", "", cmdline_only_none),
	OTHER_NAME("parallel", "", cmdline_only_none),
	{NULL, NULL, NULL, NULL},
};

int cmdline_help(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)option;
	(void)arg;
	if (!out)
		return cmdline_oom(err);
	fprintf(out, "Usage: ebb -kernel FILE [OPTION...]\n"
		     "Runs a virtual machine under KVM. Options may have one dash or two.\n");
	for (const struct cmdline_option *o = cmdline_options; o->name || o->help; o++) {
		if (!o->name)
			fprintf(out, "\n%s:\n", o->help);
		else if (o->help)
			fprintf(out, "  -%s%s%s\n        %s\n", o->name, o->arg ? " " : "",
				o->arg ? o->arg : "", o->help);
	}
	fclose(out);
	cl->config->output = text;
	return text ? 0 : cmdline_oom(err);
}

int cmdline_version(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	return cmdline_set_string(&cl->config->output, "ebb version " EBB_VERSION "\n", err);
}

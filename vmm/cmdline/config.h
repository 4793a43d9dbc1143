/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration of one virtual machine: what it consists of now. It starts as what a person asked
 * for on the command line, checked and completed, and is the only thing that the builder of the
 * machine needs to see of it; objects, character devices and devices come and go while it runs.
 *
 * I1  A configuration that cmdline_parse() returned is complete: every default is filled in, every
 *     reference is resolved, and the rules stated at the fields hold. What only the host can tell
 *     (KVM, physical address width, host memory) is not checked here. The same is true after each
 *     of the calls that add and remove parts (live.h).
 * I2  The lists hold pointers to parts (base/ptrs.h): a part keeps its address as long as it is in
 *     the configuration. Pointers between parts (memdev, chardev) point to parts of the same
 *     configuration, and a part is not removed while another points to it.
 * I3  Only parts come and go, and only by the calls of live.h. What a part says never changes, but
 *     for what tells who uses it: vm_memdev_config.user, nr_users. Nothing else changes after
 *     parsing.
 * I4  Optional strings are NULL when they were not given; an id may be NULL for devices and
 *     monitors, never for objects and character devices. Ids are unique within their kind.
 *
 * Ownership: vm_config_free() ends all of it, and the calls that remove a part end that part.
 * Threads: while a machine runs, lists and marks of use belong to the main thread; other threads
 * read only parts that they were given, which outlive their use.
 */
#ifndef VMM_CMDLINE_CONFIG_H
#define VMM_CMDLINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_CPUS_MAX       64u
#define VM_NUMA_NODES_MAX 64u
#define VM_SERIAL_MAX     4u

enum vm_on_off_auto { VM_AUTO, VM_ON, VM_OFF };

/* -machine */
enum vm_machine_type {
	VM_MACHINE_PC,
	VM_MACHINE_Q35,
	VM_MACHINE_NONE, /* no CPU, memory or devices, nothing to start: monitors that answer */
};

#define VM_DIRTY_RING_ENTRIES_MAX 65536u

struct vm_machine_config {
	enum vm_machine_type type;
	const char *name;     /* with its version: "pc-q35-9.0"; static */
	const char *root_bus; /* id of the PCI root bus: "pci.0" or "pcie.0", or NULL; static */
	bool dump_guest_core; /* off: guest memory is left out of core dumps */
	bool mem_merge;       /* guest memory may be merged (MADV_MERGEABLE) */
	char *memory_backend; /* id; see memory.backend */
	bool root_fixed;      /* no device comes to or goes from a flat root bus */
	bool usb;             /* it has the chipset's USB controller, which is in devices, too */
	/* -accel: of each vCPU's ring of written pages, a power of two; 0: bitmaps instead */
	uint32_t dirty_ring_entries;
};

/* -cpu */
struct cpu_model;

enum vm_cpuid_reg { VM_CPUID_EAX, VM_CPUID_EBX, VM_CPUID_ECX, VM_CPUID_EDX };

struct vm_cpu_feature {
	const char *name; /* static */
	uint32_t leaf, subleaf;
	enum vm_cpuid_reg reg;
	uint8_t bit;
	bool on;
};

/* What CPUID says of the processor itself; what was not given is the model's, or the host's. */
struct vm_cpu_identity {
	char *vendor;   /* 12 letters; NULL: the host's */
	char *model_id; /* up to 48 letters; NULL: not given */
	uint32_t family, model, stepping, level, xlevel;
	bool family_given, model_given, stepping_given, level_given, xlevel_given;
};

struct vm_cpu_config {
	const char *name;              /* as it was asked for; static */
	const struct cpu_model *model; /* NULL: the host's (host, max) */
	struct vm_cpu_identity identity;
	bool check;              /* say what of the model the host does not have */
	bool enforce;            /* do not start without it */
	bool migratable;         /* leave out what cannot be migrated (invariant TSC) */
	bool kvm;                /* show KVM's paravirtual leaves to the guest */
	bool pmu;                /* show the performance counters */
	bool host_phys_bits;     /* physical address width as the host's */
	uint8_t phys_bits;       /* 0: the host's, or with a model and without host_phys_bits 40 */
	uint8_t phys_bits_limit; /* of host_phys_bits; 0: none */
	/* on or off, later entries win */
	struct vm_cpu_feature *features;
	size_t nr_features;
};

/* -smp; sockets * dies * cores * threads == max_cpus >= cpus */
struct vm_smp_config {
	unsigned int cpus; /* all 0 for VM_MACHINE_NONE */
	unsigned int max_cpus;
	unsigned int sockets, dies, cores, threads;
};

/* -object memory-backend-ram, -memfd, -file */
enum vm_memdev_user { VM_MEMDEV_UNUSED, VM_MEMDEV_BOOT, VM_MEMDEV_DEVICE };
enum vm_memdev_type { VM_MEMDEV_RAM, VM_MEMDEV_MEMFD, VM_MEMDEV_FILE };
/* QMP's HostMemPolicy */
enum vm_mem_policy { VM_POLICY_DEFAULT, VM_POLICY_PREFERRED, VM_POLICY_BIND, VM_POLICY_INTERLEAVE };
#define VM_HOST_NODES_MAX 128u

struct vm_memdev_config {
	enum vm_memdev_type type;
	char *id;
	bool live;                     /* of object-add, not of the command line */
	uint64_t size_bytes;           /* of the memory to map: "max-size" if given, else "size" */
	uint64_t page_bytes;           /* of the backing: 4096, or of its huge pages */
	bool has_requested_size;       /* the two-size spelling was used: */
	uint64_t requested_size_bytes; /* "size" next to "max-size" */
	bool has_prealloc;             /* given; else as -mem-prealloc says */
	bool prealloc;
	bool has_merge, has_dump; /* given; else as -machine mem-merge, dump-guest-core say */
	bool merge, dump;
	bool reserve;                  /* off: MAP_NORESERVE */
	bool share;                    /* on by default for memfd */
	bool has_prealloc_threads;     /* given; else as -mem-prealloc says */
	unsigned int prealloc_threads; /* 1 or more */
	enum vm_mem_policy policy;
	bool has_host_nodes;
	uint64_t host_nodes[VM_HOST_NODES_MAX /
			    64]; /* bit per host node; for policies but default */
	bool hugetlb;            /* memfd: given; file: on hugetlbfs; page_bytes is its page size */
	/* memfd */
	bool seal; /* against changes of the file's size; on by default */
	/* file */
	char *mem_path;        /* of a file, or of a folder in which one without a name is made */
	uint64_t offset_bytes; /* where in the file the memory starts */
	uint64_t align_bytes;  /* of the mapping; 0: the page size, 2 MiB at least */
	bool discard_data;     /* the file's content need not be written back at the end */
	enum vm_memdev_user user;
};

/* QMP's spelling; static. */
const char *vm_mem_policy_name(enum vm_mem_policy policy);

/* -object rng-random, rng-builtin */
struct vm_rng_backend_config {
	char *id;
	char *filename; /* NULL: rng-builtin, getrandom(2) */
};

/* -object iothread: recorded; nothing can be put on one in this version */
struct vm_iothread_config {
	char *id;
};

/* -object secret: its name; what is in it is forgotten */
struct vm_secret_config {
	char *id;
};

/* -m */
struct vm_memory_config {
	uint64_t ram_bytes; /* boot memory; multiple of 4096 */
	uint64_t max_bytes; /* boot and device memory together; == ram_bytes without maxmem */
	unsigned int slots; /* recorded only: virtio-mem uses none */
	bool prealloc;      /* -mem-prealloc: backends that do not say otherwise are preallocated */
	const struct vm_memdev_config
		*backend; /* -machine memory-backend: all boot memory; or NULL */
};

/* -numa */
struct vm_numa_node_config {
	uint64_t mem_bytes; /* boot memory; the nodes' sum is memory.ram_bytes */
	uint64_t cpus;      /* bit per CPU index below smp.max_cpus */
	char *memdev_id;
	const struct vm_memdev_config *memdev; /* of this node's boot memory, same size; or NULL */
};

struct vm_numa_config {
	bool given;            /* -numa node was used; else one node 0 has everything */
	bool dist_given;       /* -numa dist was used */
	unsigned int nr_nodes; /* 1 or more, numbered without holes */
	struct vm_numa_node_config nodes[VM_NUMA_NODES_MAX];
	uint8_t dist[VM_NUMA_NODES_MAX]
		    [VM_NUMA_NODES_MAX]; /* [from][to]; 10 local, 255 unreachable */
};

/* -chardev, and what -serial and -monitor make of theirs */
enum vm_chardev_type {
	VM_CHARDEV_NULL,
	VM_CHARDEV_STDIO,
	VM_CHARDEV_SOCKET,
	VM_CHARDEV_FILE,
	VM_CHARDEV_PTY
};

struct vm_chardev_config {
	char *id;
	enum vm_chardev_type type;
	bool mux;    /* several front ends share it, Ctrl-A c switches */
	bool signal; /* stdio: Ctrl-C ends the monitor instead of reaching the guest */
	char *path;  /* socket (Unix), file */
	bool append; /* file */
	/* socket: exactly one of path, port, fd, fd_name */
	char *host; /* NULL is any address of a server */
	char *port;
	int32_t fd;    /* inherited; -1: none. Listening if server, else connected */
	char *fd_name; /* the same, by the name that getfd gave it */
	/* file: path is /dev/fdset/N */
	bool has_fdset;
	int64_t fdset;
	char *logfile; /* a copy of the output, or NULL */
	bool log_append;
	bool has_log_fdset; /* logfile is /dev/fdset/N */
	int64_t log_fdset;
	bool server, wait, nodelay;
	bool live;             /* of chardev-add, not of the command line */
	bool ipv4, ipv6;       /* TCP: only this family; both false: any */
	uint32_t reconnect_s;  /* client only; 0 never */
	unsigned int nr_users; /* devices and monitors on it; more than one only with mux */
};

/* -mon, -monitor */
enum vm_monitor_mode { VM_MONITOR_READLINE, VM_MONITOR_CONTROL };

struct vm_monitor_config {
	char *id;
	enum vm_monitor_mode mode;
	bool pretty;
	char *chardev_id;
	const struct vm_chardev_config *chardev;
};

/* -device: one array in the order of the command line, which is the order of automatic slots */
enum vm_device_type {
	VM_DEVICE_VIRTIO_MEM,
	VM_DEVICE_VIRTIO_RNG,
	VM_DEVICE_ISA_SERIAL,
	VM_DEVICE_PVPANIC,
	VM_DEVICE_ROOT_PORT,
	VM_DEVICE_VIRTIO_BALLOON,
	VM_DEVICE_PIIX3_UHCI,
};

/* "virtio-mem-pci"; static. cmdline/device.c */
const char *vm_device_type_name(enum vm_device_type type);

/* What becomes of a guest that touches unplugged memory. */
enum vm_violation_action {
	VM_VIOLATION_DENY,  /* the write is dropped, a read gives zeros, and it goes on */
	VM_VIOLATION_PAUSE, /* that, and the machine is stopped */
	VM_VIOLATION_SHUTDOWN,
};

/* Of every PCI device. */
struct vm_pci_config {
	char *bus;                           /* as given; NULL: machine.root_bus */
	const struct vm_device_config *port; /* the root port that it is behind; NULL: root bus */
	bool has_addr;                       /* else the builder chooses the slot */
	uint8_t slot;                        /* 1 to 31; 0 behind a port */
	uint8_t function;                    /* 0 behind a port */
	bool multifunction;                  /* of function 0: its slot may have others */
};

/* Of every virtio-pci device. */
struct vm_virtio_config {
	bool packed;        /* offer VIRTIO_F_RING_PACKED */
	bool event_idx;     /* offer VIRTIO_F_EVENT_IDX */
	bool indirect_desc; /* offer VIRTIO_F_INDIRECT_DESC */
	uint32_t vectors;   /* MSI-X; UINT32_MAX: the device's own number */
};

struct vm_virtio_mem_config {
	char *memdev_id;
	const struct vm_memdev_config *memdev;
	uint16_t node;
	bool has_requested_size;       /* given here, not with the memdev */
	uint64_t region_size_bytes;    /* == memdev->size_bytes; multiple of block_size_bytes */
	uint64_t requested_size_bytes; /* at the start; multiple of block_size_bytes */
	uint64_t block_size_bytes;     /* power of two, >= memdev->page_bytes */
	uint64_t memaddr_gpa;          /* 0: the builder chooses */
	bool prealloc;
	enum vm_on_off_auto unplugged_inaccessible; /* auto is on */
	bool dynamic_memslots;
	bool guard;             /* unplugged blocks are closed one by one; on by default */
	uint64_t memslot_bytes; /* power of two, >= block_size_bytes; 0: the builder chooses */
	enum vm_violation_action on_violation;
	bool guest_requests;          /* the guest may ask for another size */
	bool has_request_limit;       /* given */
	bool has_request_rate;        /* given */
	uint64_t request_limit_bytes; /* multiple of block_size_bytes; the region's if not given */
	uint64_t request_rate_bytes;  /* a second; 0: no limit */
};

struct vm_virtio_rng_config {
	char *rng_id;
	const struct vm_rng_backend_config *rng; /* NULL: getrandom(2) */
	uint64_t max_bytes;                      /* per period_ms; UINT64_MAX: no limit */
	uint32_t period_ms;
};

struct vm_virtio_balloon_config {
	bool deflate_on_oom, free_page_hint, free_page_reporting, page_poison;
	uint32_t guest_stats_polling_interval_s; /* 0: not asked for */
	char *iothread_id;                       /* recorded only */
};

struct vm_isa_serial_config {
	char *chardev_id;
	const struct vm_chardev_config *chardev; /* never NULL */
	uint32_t index;                          /* 0 to 3, unique: COM1 to COM4 */
	uint16_t iobase;                         /* of the index unless given; unique */
	uint8_t irq;                             /* of the index unless given */
	bool has_index, has_iobase, has_irq;
};

struct vm_pvpanic_config {
	uint16_t ioport; /* 0x505 */
};

/* Its bus has its id. */
struct vm_root_port_config {
	uint8_t port;    /* number, for the guest's eyes */
	uint8_t chassis; /* recorded only */
	bool has_slot;   /* else the builder chooses */
	uint16_t slot;   /* physical slot number, for the guest's eyes */
	bool hotplug;    /* devices may come and go while the guest runs */
	/* at least so much room for BARs behind it, in bytes; UINT64_MAX: the builder chooses */
	uint64_t memory_reserve, prefetch_reserve;
};

struct vm_device_config {
	enum vm_device_type type;
	char *id;
	bool live;                      /* of device_add, not of the command line */
	struct vm_pci_config pci;       /* VIRTIO_..., ROOT_PORT, PIIX3_UHCI */
	struct vm_virtio_config virtio; /* VIRTIO_... */
	union {
		struct vm_virtio_mem_config virtio_mem;
		struct vm_virtio_rng_config virtio_rng;
		struct vm_virtio_balloon_config virtio_balloon;
		struct vm_isa_serial_config isa_serial;
		struct vm_pvpanic_config pvpanic;
		struct vm_root_port_config root_port;
	};
};

/* -add-fd; handed over to the machine, which closes it at some time */
struct vm_fd_config {
	uint32_t set;
	int fd;
	char *opaque;
};

/* -action; -no-reboot and -no-shutdown are spellings of it */
enum vm_reboot_action { VM_REBOOT_RESET, VM_REBOOT_SHUTDOWN };
enum vm_shutdown_action { VM_SHUTDOWN_POWEROFF, VM_SHUTDOWN_PAUSE };
enum vm_panic_action { VM_PANIC_SHUTDOWN, VM_PANIC_PAUSE, VM_PANIC_EXIT_FAILURE, VM_PANIC_NONE };
enum vm_watchdog_action {
	VM_WATCHDOG_RESET,
	VM_WATCHDOG_SHUTDOWN,
	VM_WATCHDOG_POWEROFF,
	VM_WATCHDOG_PAUSE,
	VM_WATCHDOG_DEBUG,
	VM_WATCHDOG_NONE,
	VM_WATCHDOG_INJECT_NMI,
};

struct vm_action_config {
	enum vm_reboot_action reboot;
	enum vm_shutdown_action shutdown;
	enum vm_panic_action panic;
	enum vm_watchdog_action watchdog;
};

/* -sandbox; what the process may still do when it is shut in */
enum vm_sandbox_elevate {
	VM_SANDBOX_ELEVATE_ALLOW,
	VM_SANDBOX_ELEVATE_DENY,
	VM_SANDBOX_ELEVATE_CHILDREN, /* itself, but not what it starts */
};

struct vm_sandbox_config {
	bool enable;
	bool obsolete;                   /* calls that no program uses any more */
	enum vm_sandbox_elevate elevate; /* other users and rights */
	bool spawn;                      /* other programs: the commands of migrations */
	bool resource_control;           /* limits, priorities, processors */
};

enum vm_rtc_base { VM_RTC_UTC, VM_RTC_LOCALTIME, VM_RTC_DATE };

struct vm_rtc_config {
	enum vm_rtc_base base;
	int64_t date_s; /* VM_RTC_DATE: seconds since 1970, as the guest reads them */
};

/*
 * -smbios: what the guest reads of itself, beside what the machine says. A text that is NULL was not
 * given, and is the machine's own, where it has one; "" is none at all. No text has control
 * characters, but for OEM strings out of files, which may have ends of lines and tabs.
 */
enum vm_smbios_entry { VM_SMBIOS_AUTO, VM_SMBIOS_32, VM_SMBIOS_64 };

struct vm_smbios_bios {
	char *vendor, *version, *date, *release;
	bool has_release;
	uint8_t release_major, release_minor;
	bool uefi;
};

struct vm_smbios_system {
	char *manufacturer, *product, *version, *serial, *sku, *family;
};

struct vm_smbios_board {
	char *manufacturer, *product, *version, *serial, *asset, *location;
};

struct vm_smbios_chassis {
	char *manufacturer, *version, *serial, *asset, *sku;
};

struct vm_smbios_processor {
	char *sock_pfx, *manufacturer, *version, *serial, *asset, *part;
	uint16_t max_speed_mhz, current_speed_mhz; /* 0: not told */
	uint64_t processor_id;
};

struct vm_smbios_memory {
	char *loc_pfx, *bank, *manufacturer, *serial, *asset, *part;
	uint16_t speed_mts; /* 0: not told */
};

/* One whole structure with its texts: smbios_structure_size() == size. */
struct vm_smbios_file {
	char *path; /* for messages */
	uint8_t *bytes;
	size_t size;
};

#define VM_SMBIOS_OEM_MAX 255u /* strings of one structure */

struct vm_smbios_config {
	enum vm_smbios_entry entry; /* -machine smbios-entry-point-type */
	uint32_t given;             /* bit per type that -smbios type= named */
	struct vm_smbios_bios bios;
	struct vm_smbios_system system;
	struct vm_smbios_board board;
	struct vm_smbios_chassis chassis;
	struct vm_smbios_processor processor;
	char **oem; /* none is "" */
	size_t nr_oem;
	struct vm_smbios_memory memory;
	struct vm_smbios_file *files; /* of no type that is in given */
	size_t nr_files;
};

struct vm_config {
	/* Set by -help, -version, "-device help" and the like: print it on standard output, exit 0;
	 * nothing else in the configuration means anything then. */
	char *output;

	struct vm_machine_config machine;
	struct vm_cpu_config cpu;
	struct vm_smp_config smp;
	struct vm_memory_config memory;
	struct vm_numa_config numa;

	struct vm_memdev_config **memdevs;
	size_t nr_memdevs;
	struct vm_rng_backend_config **rngs;
	size_t nr_rngs;
	struct vm_iothread_config **iothreads;
	size_t nr_iothreads;
	struct vm_secret_config **secrets;
	size_t nr_secrets;
	struct vm_chardev_config **chardevs;
	size_t nr_chardevs;
	struct vm_monitor_config **monitors;
	size_t nr_monitors;
	struct vm_device_config **devices;
	size_t nr_devices;
	struct vm_fd_config *fds;
	size_t nr_fds;

	char *kernel; /* never NULL but for VM_MACHINE_NONE; existed and was readable */
	char *initrd;
	char *append; /* "" when not given */

	char *name;         /* -name guest= */
	char *process;      /* -name process=: what lists of processes show; or NULL */
	bool debug_threads; /* name the threads */
	bool has_uuid;      /* -uuid, or -smbios type=1,uuid= */
	uint8_t uuid[16];   /* in the order of the text */
	struct vm_smbios_config smbios;
	bool start_paused; /* -S */
	/* Where the machine is loaded from before it runs: a URI, or "defer"; NULL: it boots. */
	char *incoming;
	bool only_migratable; /* shown; there is nothing that could not be migrated */
	char *pidfile;
	bool daemonize;
	struct vm_action_config action;
	struct vm_rtc_config rtc;
	struct vm_sandbox_config sandbox;
	bool mem_lock; /* -overcommit mem-lock=on; then memory.prealloc, and no memory device */
	char *metrics_path;  /* Unix socket that tells metrics; NULL: none */
	bool msg_timestamp;  /* put the time in front of messages */
	bool msg_guest_name; /* and the guest's name */
};

/* Accepts NULL. */
void vm_config_free(struct vm_config *config);

#endif

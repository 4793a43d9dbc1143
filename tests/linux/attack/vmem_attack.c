/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * A guest's kernel that uses memory which its memory device did not give it.
 *
 * /proc/vmem_attack takes one command per write(2) and is done with it when the write returns; what
 * came of it is read from the same file, a line "NAME VALUE" each. Numbers as strtoull(3) takes
 * them, addresses are guest physical, END is behind the last byte:
 *
 *     count START END STEP   touch nothing: looked, unused (the same figure)
 *     write START END STEP   store a word of 8 bytes at every STEP bytes, all of them, then read
 *                            them back: stored, kept (what was read is what was written)
 *     check START END STEP   read back what the last write stored, without storing: looked, kept
 *     read START END STEP    read a word at every STEP bytes: looked, nonzero
 *     storm START END SECS   every online processor stores, exchanges and fills at random until
 *                            the time is over: processors, stored
 *
 * The range may hold memory that the guest does use (plugged blocks, boot memory): a page that this
 * kernel has online, and did not hide as its memory driver does with what is unplugged, is left
 * alone. So "stored" times 4096 with a STEP of 4096 is what the kernel knows it must not touch.
 *
 * I1  The range is mapped a piece at a time with the same caching that memory has, so a store is an
 *     ordinary store to what the guest takes for memory. The mapping is the module's own: the
 *     kernel's goes away when the memory driver takes a memory block out, at any moment.
 * I2  A word is derived from its address and from the command that stored it, and is never zero:
 *     neither zeros nor what an earlier command left can pass for kept.
 * I3  A signal that kills the writer ends the command.
 * I4  The page structures of a memory block stay while they are looked at: who found a page online
 *     has looked before the block goes.
 *
 * Owner: one command at a time, under attack.lock. The threads of a storm end before it returns.
 */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/proc_fs.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define ATTACK_NAME    "vmem_attack"
#define ATTACK_PIECE   (2ul << 20)
#define ATTACK_TRIES   16
#define ATTACK_LINE    128
#define ATTACK_RESULT  256
#define ATTACK_STRIKES 256 /* of a storm, in a piece before the next is taken */
#define ATTACK_FILL    64

static struct {
	struct mutex lock; /* guards all the rest */
	u64 seed;          /* of the last write; odd */
	char result[ATTACK_RESULT];
} attack;

/* What a command does with the word at an address. */
typedef void attack_word_fn(u64 *word, u64 addr, u64 *count);

static u64 attack_value(u64 addr)
{
	return addr * 0x9e3779b97f4a7c15ull ^ attack.seed; /* addr is even, the seed odd */
}

static void attack_count(u64 *word, u64 addr, u64 *count)
{
	++*count;
}

static void attack_store(u64 *word, u64 addr, u64 *count)
{
	WRITE_ONCE(*word, attack_value(addr));
	++*count;
}

static void attack_count_kept(u64 *word, u64 addr, u64 *count)
{
	*count += READ_ONCE(*word) == attack_value(addr);
}

static void attack_count_nonzero(u64 *word, u64 addr, u64 *count)
{
	*count += READ_ONCE(*word) != 0;
}

/* Whether this kernel uses the page: it is online, and not hidden as unplugged. */
static bool attack_page_used(u64 addr)
{
	struct page *page;
	bool used;

	/* I4 */
	rcu_read_lock();
	page = pfn_to_online_page(PHYS_PFN(addr));
	used = page && !PageOffline(page);
	rcu_read_unlock();
	return used;
}

/* A memory block's pages are offline now; their structures go next. */
static int attack_block_changes(struct notifier_block *self, unsigned long action, void *block)
{
	if (action == MEM_OFFLINE)
		synchronize_rcu();
	return NOTIFY_OK;
}

static struct notifier_block attack_block_notifier = {.notifier_call = attack_block_changes};

/* The end of the piece that @addr is in: pieces are aligned, and end with the range. */
static u64 attack_piece_end(u64 addr, u64 end)
{
	return min(end, (addr & ~(u64)(ATTACK_PIECE - 1)) + ATTACK_PIECE);
}

struct attack_piece {
	char *base;
	bool vmapped; /* it has page structures */
};

/* Map memory that has page structures; NULL when there is none, or no longer. */
static char *attack_vmap(u64 start, u64 end)
{
	unsigned int nr = PHYS_PFN(end + PAGE_SIZE - 1) - PHYS_PFN(start), i;
	struct page **pages = kmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	char *base;

	if (!pages)
		return NULL;
	for (i = 0; i < nr; i++)
		pages[i] = pfn_to_page(PHYS_PFN(start) + i);
	base = vmap(pages, nr, VM_MAP, PAGE_KERNEL);
	kfree(pages);
	return base ? base + offset_in_page(start) : NULL;
}

/* The memory driver may put a memory block in or take it out between question and answer. */
static int attack_piece_map(u64 start, u64 end, struct attack_piece *ret_piece)
{
	int tries;

	for (tries = 0; tries < ATTACK_TRIES; tries++) {
		ret_piece->vmapped = pfn_valid(PHYS_PFN(start));
		if (ret_piece->vmapped)
			ret_piece->base = attack_vmap(start, end);
		else
			ret_piece->base = memremap(start, end - start, MEMREMAP_WB);
		if (ret_piece->base)
			return 0;
	}
	return -ENXIO;
}

static void attack_piece_unmap(const struct attack_piece *piece)
{
	if (piece->vmapped)
		vunmap((void *)((unsigned long)piece->base & PAGE_MASK));
	else
		memunmap(piece->base);
}

/* Do @fn for every @step bytes of unused memory in the range; 0 or -errno. Sums up its counts. */
static int attack_each(u64 start, u64 end, u64 step, attack_word_fn *fn, u64 *ret_looked,
		       u64 *ret_count)
{
	u64 looked = 0, count = 0, at, addr, piece_end;
	struct attack_piece piece;
	int ret;

	for (addr = at = start; at < end; at = piece_end) {
		piece_end = attack_piece_end(at, end);
		if (addr >= piece_end)
			continue;
		ret = attack_piece_map(at, piece_end, &piece);
		if (ret)
			return ret;
		for (; addr < piece_end; addr += step) {
			if (attack_page_used(addr))
				continue;
			fn((u64 *)(piece.base + (addr - at)), addr, &count);
			looked++;
			if (looked % 64 == 0)
				cond_resched();
		}
		attack_piece_unmap(&piece);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	*ret_looked = looked;
	*ret_count = count;
	return 0;
}

static int attack_write(u64 start, u64 end, u64 step)
{
	u64 stored, kept, looked;
	int ret;

	attack.seed = get_random_u64() | 1;
	ret = attack_each(start, end, step, attack_store, &looked, &stored);
	if (!ret)
		ret = attack_each(start, end, step, attack_count_kept, &looked, &kept);
	if (!ret)
		snprintf(attack.result, ATTACK_RESULT, "stored %llu\nkept %llu\n", stored, kept);
	return ret;
}

static int attack_look(u64 start, u64 end, u64 step, attack_word_fn *fn, const char *name)
{
	u64 looked, count;
	int ret = attack_each(start, end, step, fn, &looked, &count);

	if (!ret)
		snprintf(attack.result, ATTACK_RESULT, "looked %llu\n%s %llu\n", looked, name,
			 count);
	return ret;
}

struct attack_storm {
	u64 start, end;
	unsigned long until; /* jiffies */
	atomic64_t stored;
	atomic_t error;
	struct completion done; /* once for each thread */
};

/* Strike at random in the piece that starts at @start; returns how often, or -errno. */
static int attack_piece_strike(const struct attack_storm *storm, u64 start)
{
	u64 end = attack_piece_end(start, storm->end);
	struct attack_piece piece;
	int ret, strikes = 0, i;

	ret = attack_piece_map(start, end, &piece);
	if (ret)
		return ret;
	for (i = 0; i < ATTACK_STRIKES && time_before(jiffies, READ_ONCE(storm->until)); i++) {
		u64 offset = round_down(get_random_u32_below(end - start), ATTACK_FILL);
		u64 *word = (u64 *)(piece.base + offset);

		if (attack_page_used(start + offset))
			continue;
		switch (i % 4) {
		case 0:
			xchg(word, ~0ull);
			break;
		case 1:
			memset(word, 0xa5, ATTACK_FILL);
			break;
		default:
			WRITE_ONCE(*word, ~0ull);
		}
		strikes++;
		cond_resched();
	}
	attack_piece_unmap(&piece);
	return strikes;
}

static int attack_storm_thread(void *opaque)
{
	struct attack_storm *storm = opaque;
	u32 pieces = DIV_ROUND_UP(storm->end - storm->start, ATTACK_PIECE);

	while (time_before(jiffies, READ_ONCE(storm->until))) {
		u64 start = storm->start + (u64)get_random_u32_below(pieces) * ATTACK_PIECE;
		int strikes = attack_piece_strike(storm, start);

		if (strikes < 0) {
			atomic_set(&storm->error, strikes);
			break;
		}
		atomic64_add(strikes, &storm->stored);
		cond_resched();
	}
	kthread_complete_and_exit(&storm->done, 0);
}

/* Start a thread of the storm on every online processor; returns how many. */
static unsigned int attack_storm_start(struct attack_storm *storm)
{
	unsigned int cpu, nr = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu)
	{
		struct task_struct *task;

		task = kthread_create_on_node(attack_storm_thread, storm, cpu_to_node(cpu),
					      ATTACK_NAME "/%u", cpu);
		if (IS_ERR(task)) {
			atomic_set(&storm->error, PTR_ERR(task));
			break;
		}
		kthread_bind(task, cpu);
		wake_up_process(task);
		nr++;
	}
	cpus_read_unlock();
	return nr;
}

static int attack_storm(u64 start, u64 end, u64 seconds)
{
	struct attack_storm storm = {.start = start, .end = end};
	unsigned int nr, waiting;

	if (start % ATTACK_PIECE || seconds > 3600)
		return -EINVAL;
	storm.until = jiffies + seconds * HZ;
	init_completion(&storm.done);
	nr = attack_storm_start(&storm);
	for (waiting = nr; waiting; waiting--) {
		if (!wait_for_completion_killable(&storm.done))
			continue;
		WRITE_ONCE(storm.until, jiffies);
		wait_for_completion(&storm.done);
	}
	snprintf(attack.result, ATTACK_RESULT, "processors %u\nstored %lld\n", nr,
		 (long long)atomic64_read(&storm.stored));
	return atomic_read(&storm.error);
}

static int attack_command(const char *line)
{
	char name[16];
	u64 start, end, last;

	if (sscanf(line, "%15s %lli %lli %lli", name, &start, &end, &last) != 4)
		return -EINVAL;
	if (start % sizeof(u64) || start >= end || end > (1ull << MAX_PHYSMEM_BITS))
		return -EINVAL;
	if (!strcmp(name, "storm"))
		return attack_storm(start, end, last);
	if (!last || last % sizeof(u64))
		return -EINVAL;
	if (!strcmp(name, "count"))
		return attack_look(start, end, last, attack_count, "unused");
	if (!strcmp(name, "write"))
		return attack_write(start, end, last);
	if (!strcmp(name, "check"))
		return attack_look(start, end, last, attack_count_kept, "kept");
	if (!strcmp(name, "read"))
		return attack_look(start, end, last, attack_count_nonzero, "nonzero");
	return -EINVAL;
}

static ssize_t attack_proc_write(struct file *file, const char __user *text, size_t size,
				 loff_t *pos)
{
	char line[ATTACK_LINE];
	int ret;

	if (size >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, text, size))
		return -EFAULT;
	line[size] = '\0';
	if (mutex_lock_killable(&attack.lock))
		return -EINTR;
	attack.result[0] = '\0';
	ret = attack_command(line);
	mutex_unlock(&attack.lock);
	return ret ? ret : size;
}

static int attack_proc_show(struct seq_file *file, void *opaque)
{
	if (mutex_lock_killable(&attack.lock))
		return -EINTR;
	seq_puts(file, attack.result);
	mutex_unlock(&attack.lock);
	return 0;
}

static int attack_proc_open(struct inode *inode, struct file *file)
{
	return single_open(file, attack_proc_show, NULL);
}

static const struct proc_ops attack_proc_ops = {
	.proc_open = attack_proc_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = attack_proc_write,
};

static int __init attack_init(void)
{
	int ret;

	mutex_init(&attack.lock);
	ret = register_memory_notifier(&attack_block_notifier);
	if (ret)
		return ret;
	if (proc_create(ATTACK_NAME, 0600, NULL, &attack_proc_ops))
		return 0;
	unregister_memory_notifier(&attack_block_notifier);
	return -ENOMEM;
}

static void __exit attack_exit(void)
{
	remove_proc_entry(ATTACK_NAME, NULL);
	unregister_memory_notifier(&attack_block_notifier);
}

module_init(attack_init);
module_exit(attack_exit);
MODULE_DESCRIPTION("Uses guest memory that its device did not plug, for tests of that device");
MODULE_LICENSE("Dual BSD/GPL");

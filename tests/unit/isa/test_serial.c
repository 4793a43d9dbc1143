/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The serial port by register sequences: those by which Linux tells a 16550A from its relatives and
 * tests its interrupts, then data both ways, back pressure, loopback, break, reset, and vCPUs that
 * hammer it while the other end comes and goes.
 */
#include "tests/unit/chardev/chardev_test.h"
#include "tests/unit/isa/isa_test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/isa/serial.h"

#define COM  0x3F8
#define GSI  4
#define DATA (COM + 0)
#define IER  (COM + 1)
#define IIR  (COM + 2)
#define FCR  (COM + 2)
#define LCR  (COM + 3)
#define MCR  (COM + 4)
#define LSR  (COM + 5)
#define MSR  (COM + 6)
#define SCR  (COM + 7)

struct env {
	struct test_hv hv;
	struct bus *pio;
	struct loop *loop;
	struct chardev *chr;
	struct serial *serial;
	int peer;
};

static struct env *env_new(bool mux)
{
	struct env *env = calloc(1, sizeof(*env));
	struct chr_config config;
	struct err *err = NULL;
	int fds[2];

	env->hv.hv.ops = &test_hv_ops;
	env->pio = bus_new();
	env->loop = loop_new_main(NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	chr_config_init(&config);
	config.id = "serial0";
	config.backend = CHR_SOCKET;
	config.fd = fds[0];
	config.mux = mux;
	env->peer = fds[1];
	env->chr = must_open(env->loop, &config);
	env->serial = serial_new(&env->hv.hv, env->pio, COM, GSI, env->chr, &err);
	assert_non_null(env->serial);
	serial_resume(env->serial);
	return env;
}

static int env_setup(void **state)
{
	*state = env_new(false);
	return 0;
}

static int env_setup_mux(void **state)
{
	*state = env_new(true);
	return 0;
}

static int env_teardown(void **state)
{
	struct env *env = *state;

	serial_free(env->serial);
	assert_false(env->hv.level[GSI]);
	chardev_free(env->chr);
	loop_free(env->loop);
	bus_free(env->pio);
	close(env->peer);
	free(env);
	return 0;
}

static void type(struct env *env, const char *text)
{
	assert_int_equal(write(env->peer, text, strlen(text)), strlen(text));
}

static bool prints(struct env *env, const char *text)
{
	char buf[256];
	ssize_t n = recv(env->peer, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, strlen(text)))
		return false;
	assert_int_equal(recv(env->peer, buf, (size_t)n, 0), n);
	return true;
}

static void registers_after_power_on(void **state)
{
	struct env *env = *state;

	assert_int_equal(in8(env->pio, IER), 0);
	assert_int_equal(in8(env->pio, IIR), 0x01);
	assert_int_equal(in8(env->pio, LCR), 0);
	assert_int_equal(in8(env->pio, MCR), 0);
	assert_int_equal(in8(env->pio, LSR), 0x60);
	assert_int_equal(in8(env->pio, MSR), 0xB0);
	out8(env->pio, SCR, 0xA5);
	assert_int_equal(in8(env->pio, SCR), 0xA5);
	out8(env->pio, LCR, 0x80);
	out8(env->pio, DATA, 0x34);
	out8(env->pio, IER, 0x12);
	assert_int_equal(in8(env->pio, DATA), 0x34);
	assert_int_equal(in8(env->pio, IER), 0x12);
	out8(env->pio, LCR, 0x03);
	assert_int_equal(in8(env->pio, IER), 0);
}

/* drivers/tty/serial/8250: what it writes, and what a 16550A without extras answers. */
static void linux_detects_a_16550a(void **state)
{
	struct env *env = *state;
	uint8_t status1, status2;

	out8(env->pio, IER, 0);
	assert_int_equal(in8(env->pio, IER) & 0x0F, 0);
	out8(env->pio, IER, 0x0F);
	assert_int_equal(in8(env->pio, IER), 0x0F);
	out8(env->pio, IER, 0);
	/* loopback: the modem lines follow */
	out8(env->pio, MCR, 0x10 | 0x0A);
	assert_int_equal(in8(env->pio, MSR) & 0xF0, 0x90);
	out8(env->pio, MCR, 0);
	/* no enhanced registers behind LCR 0xBF, no 64-byte FIFO, no UART enable bit */
	out8(env->pio, LCR, 0xBF);
	out8(env->pio, FCR, 0);
	out8(env->pio, LCR, 0);
	out8(env->pio, FCR, 0x01);
	assert_int_equal(in8(env->pio, IIR) >> 6, 3);
	out8(env->pio, LCR, 0x80);
	assert_int_not_equal(in8(env->pio, IIR), 0);
	out8(env->pio, LCR, 0xBF);
	assert_int_not_equal(in8(env->pio, IIR), 0);
	out8(env->pio, LCR, 0);
	status1 = in8(env->pio, IIR) >> 5;
	out8(env->pio, FCR, 0x01);
	out8(env->pio, LCR, 0x80);
	out8(env->pio, FCR, 0x21);
	out8(env->pio, LCR, 0);
	status2 = in8(env->pio, IIR) >> 5;
	assert_int_equal(status1, 6);
	assert_int_equal(status2, 6);
	out8(env->pio, IER, 0x40);
	assert_int_equal(in8(env->pio, IER) & 0x40, 0);
}

/* Start-up: THRE interrupt is there when enabled, gone when read, there again when re-enabled. */
static void thre_interrupt_as_linux_tests_it(void **state)
{
	struct env *env = *state;

	out8(env->pio, IER, 0x02);
	assert_true(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, LSR) & 0x40, 0x40);
	assert_int_equal(in8(env->pio, IIR), 0x02);
	assert_false(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, IIR), 0x01);
	out8(env->pio, IER, 0x02); /* no change, no interrupt */
	assert_int_equal(in8(env->pio, IIR), 0x01);
	out8(env->pio, IER, 0x00);
	out8(env->pio, IER, 0x02);
	assert_int_equal(in8(env->pio, IIR), 0x02);
	/* Each byte sent raises it anew: an edge for an edge-triggered input. */
	env->hv.edges[GSI] = 0;
	out8(env->pio, DATA, 'x');
	assert_int_equal(env->hv.edges[GSI], 1);
	assert_int_equal(in8(env->pio, IIR), 0x02);
	out8(env->pio, IER, 0);
	PUMP(env->loop, prints(env, "x"));
}

static void output_arrives_in_order(void **state)
{
	struct env *env = *state;
	const char *text = "Linux version 6.12\r\n", *p;

	for (p = text; *p; p++) {
		assert_true(in8(env->pio, LSR) & 0x20);
		out8(env->pio, DATA, (uint8_t)*p);
	}
	PUMP(env->loop, prints(env, text));
	/* a 16-bit write reaches THR and IER, as the bus splits it */
	bus_write(env->pio, COM, 2, 0x0141);
	PUMP(env->loop, prints(env, "A"));
	assert_int_equal(in8(env->pio, IER), 0x01);
}

static void input_interrupts_at_its_level(void **state)
{
	struct env *env = *state;
	int i;

	out8(env->pio, FCR, 0x01 | 0x80); /* FIFO, level 8 */
	out8(env->pio, IER, 0x01);
	type(env, "abc");
	PUMP(env->loop, env->hv.level[GSI]);
	/* Below the level it is the time-out. */
	assert_int_equal(in8(env->pio, IIR), 0xCC);
	assert_int_equal(in8(env->pio, DATA), 'a');
	assert_int_equal(in8(env->pio, DATA), 'b');
	assert_int_equal(in8(env->pio, LSR) & 0x01, 0x01);
	assert_int_equal(in8(env->pio, DATA), 'c');
	assert_false(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, LSR) & 0x01, 0);
	type(env, "12345678");
	PUMP(env->loop, in8(env->pio, IIR) == 0xC4);
	for (i = 0; i < 8; i++)
		assert_int_equal(in8(env->pio, DATA), '1' + i);
	assert_int_equal(in8(env->pio, IIR), 0xC1);
}

static void fifo_never_overruns_from_outside(void **state)
{
	struct env *env = *state;
	char want[4000], got[4000];
	size_t count = 0, i;

	for (i = 0; i < sizeof(want); i++)
		want[i] = (char)('a' + i % 26);
	out8(env->pio, FCR, 0x01);
	assert_int_equal(write(env->peer, want, sizeof(want)), sizeof(want));
	while (count < sizeof(got)) {
		uint8_t lsr = in8(env->pio, LSR);

		assert_int_equal(lsr & 0x1E, 0);
		if (lsr & 1)
			got[count++] = (char)in8(env->pio, DATA);
		else
			uv_run(loop_uv(env->loop), UV_RUN_ONCE);
	}
	assert_memory_equal(got, want, sizeof(want));
}

static void full_buffer_clears_thre_and_loses_nothing(void **state)
{
	struct env *env = *state;
	size_t sent = 0, got = 0, i;
	uint8_t buf[4096];
	ssize_t n;

	/* The loop does not run: nobody takes anything. THRE clears once the ring is full. */
	while (in8(env->pio, LSR) & 0x20)
		out8(env->pio, DATA, (uint8_t)(sent++ % 251));
	assert_true(sent > CHR_OUT_LIMIT_BYTES);
	assert_int_equal(in8(env->pio, LSR) & 0x60, 0);
	/* 15 more fit the FIFO; a 16th is the guest's fault. */
	for (i = 0; i < 15; i++)
		out8(env->pio, DATA, (uint8_t)(sent++ % 251));
	out8(env->pio, DATA, 0xFF);
	out8(env->pio, IER, 0x02);
	assert_int_equal(in8(env->pio, IIR), 0x01);
	while (got < sent) {
		n = recv(env->peer, buf, sizeof(buf), MSG_DONTWAIT);
		for (i = 0; n > 0 && i < (size_t)n; i++)
			assert_int_equal(buf[i], (got + i) % 251);
		got += n > 0 ? (size_t)n : 0;
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	/* The interrupt tells that THR is empty again. */
	PUMP(env->loop, env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, IIR), 0x02);
	assert_int_equal(in8(env->pio, LSR) & 0x60, 0x60);
	assert_int_equal(got, sent);
}

static void loopback_comes_back(void **state)
{
	struct env *env = *state;
	int i;

	out8(env->pio, FCR, 0x01);
	out8(env->pio, MCR, 0x10);
	out8(env->pio, IER, 0x04);
	for (i = 0; i < 16; i++)
		out8(env->pio, DATA, (uint8_t)i);
	assert_int_equal(in8(env->pio, LSR), 0x61);
	assert_false(env->hv.level[GSI]);
	out8(env->pio, DATA, 16); /* one too many: overrun, told as a line interrupt */
	assert_true(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, IIR), 0xC6);
	assert_int_equal(in8(env->pio, LSR), 0x63);
	assert_int_equal(in8(env->pio, LSR), 0x61);
	assert_false(env->hv.level[GSI]);
	for (i = 0; i < 16; i++)
		assert_int_equal(in8(env->pio, DATA), i);
	assert_int_equal(in8(env->pio, LSR), 0x60);
	/* Outside, nothing was heard; what is typed waits until loopback ends. */
	type(env, "z");
	for (i = 0; i < 5; i++)
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	assert_int_equal(in8(env->pio, LSR), 0x60);
	out8(env->pio, MCR, 0x0B);
	PUMP(env->loop, in8(env->pio, LSR) & 1);
	assert_int_equal(in8(env->pio, DATA), 'z');
	out8(env->pio, DATA, '!');
	PUMP(env->loop, prints(env, "!"));
}

static void modem_deltas_interrupt(void **state)
{
	struct env *env = *state;

	out8(env->pio, MCR, 0x10 | 0x0B); /* as the lines outside: no change */
	assert_int_equal(in8(env->pio, MSR), 0xB0);
	out8(env->pio, IER, 0x08);
	out8(env->pio, MCR, 0x10 | 0x0F); /* RI rises: no delta */
	assert_int_equal(in8(env->pio, MSR), 0xF0);
	out8(env->pio, MCR, 0x10 | 0x09); /* RI falls: trailing edge; CTS changes */
	assert_true(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, IIR), 0x00);
	assert_int_equal(in8(env->pio, MSR), 0xA5);
	assert_false(env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, MSR), 0xA0);
}

static void break_is_a_zero_with_its_flag(void **state)
{
	struct env *env = *state;

	out8(env->pio, FCR, 0x01);
	out8(env->pio, IER, 0x05);
	type(env, "\001b");
	PUMP(env->loop, env->hv.level[GSI]);
	assert_int_equal(in8(env->pio, IIR), 0xC6);
	assert_int_equal(in8(env->pio, LSR), 0x71);
	assert_int_equal(in8(env->pio, DATA), 0);
	assert_int_equal(in8(env->pio, LSR), 0x60);
}

static void reset_restores_power_on(void **state)
{
	struct env *env = *state;

	out8(env->pio, FCR, 0x01);
	out8(env->pio, IER, 0x0F);
	out8(env->pio, LCR, 0x1B);
	out8(env->pio, MCR, 0x0B);
	out8(env->pio, SCR, 1);
	assert_true(env->hv.level[GSI]);
	serial_reset(env->serial);
	assert_false(env->hv.level[GSI]);
	registers_after_power_on(state);
}

static void port_with_nothing_plugged_in(void **state)
{
	struct test_hv hv = {.hv = {&test_hv_ops}};
	struct bus *pio = bus_new();
	struct serial *serial = serial_new(&hv.hv, pio, 0x2F8, 3, NULL, NULL);
	int i;

	(void)state;
	/* What is written before the machine runs leaves when it does. */
	out8(pio, 0x2F8, 'x');
	assert_int_equal(in8(pio, 0x2F8 + 5), 0);
	serial_resume(serial);
	out8(pio, 0x2F8 + 1, 0x02);
	for (i = 0; i < 1000; i++)
		out8(pio, 0x2F8, 'x');
	assert_int_equal(in8(pio, 0x2F8 + 5), 0x60);
	assert_true(hv.level[3]);
	serial_reset(serial);
	serial_free(serial);
	bus_free(pio);
}

struct vcpu {
	struct env *env;
	unsigned int seed;
	bool done;
};

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	uint64_t value;
	int i;

	for (i = 0; i < 30000; i++) {
		uint64_t reg = COM + (uint64_t)(rand_r(&v->seed) % 8);

		if (rand_r(&v->seed) % 2)
			bus_write(v->env->pio, reg, 1, (uint64_t)rand_r(&v->seed));
		else
			bus_read(v->env->pio, reg, 1, &value);
	}
	__atomic_store_n(&v->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void vcpus_do_anything_while_the_other_end_talks(void **state)
{
	struct env *env = *state;
	struct vcpu v[2] = {{env, 1, false}, {env, 2, false}};
	pthread_t threads[2];
	char buf[4096];
	int i;

	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, vcpu_main, &v[i]), 0);
	for (i = 0; !__atomic_load_n(&v[0].done, __ATOMIC_ACQUIRE) ||
		    !__atomic_load_n(&v[1].done, __ATOMIC_ACQUIRE);
	     i++) {
		send(env->peer, "typed", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (recv(env->peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
		if (i % 100 == 50)
			serial_reset(env->serial);
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* It still works. */
	serial_reset(env->serial);
	registers_after_power_on(state);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(registers_after_power_on),
		T(linux_detects_a_16550a),
		T(thre_interrupt_as_linux_tests_it),
		T(output_arrives_in_order),
		T(input_interrupts_at_its_level),
		T(fifo_never_overruns_from_outside),
		T(full_buffer_clears_thre_and_loses_nothing),
		T(loopback_comes_back),
		T(modem_deltas_interrupt),
		cmocka_unit_test_setup_teardown(break_is_a_zero_with_its_flag, env_setup_mux,
						env_teardown),
		T(reset_restores_power_on),
		cmocka_unit_test(port_with_nothing_plugged_in),
		T(vcpus_do_anything_while_the_other_end_talks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's tests, each chosen by test=NAME on the command line (the table is in main.c). A test
 * returns when it is done; main() then prints the result and powers off. Arguments that a test
 * reads are named in its header.
 */
#ifndef BARE_TESTS_H
#define BARE_TESTS_H

void test_boot(void);
void test_cpus(void);
void test_acpi(void);
void test_smbios(void);
void test_pci(void);
void test_serial(void);
void test_rtc(void);
void test_timer(void);
void test_rng(void);
void test_balloon(void);
void test_vmem_config(void);
void test_vmem_requests(void);
void test_vmem_memory(void);
void test_vmem_dma(void);
void test_vmem_follow(void);
void test_vmem_storm(void);
void test_vmem_size(void);
void test_rings(void);
void test_attack(void);
void test_count(void);
void test_echo(void);
void test_powerbutton(void);
void test_hotplug(void);
void test_pattern(void);
void test_driver(void);

#endif

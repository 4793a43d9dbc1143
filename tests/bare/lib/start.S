/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * First instructions of every processor, and the way into and out of interrupts.
 *
 * The boot processor enters at pvh_entry as the PVH boot protocol says: 32-bit protected mode, flat
 * segments, paging and interrupts off, EBX = physical address of struct hvm_start_info. A 64-bit
 * entry would set start_info_gpa, load the same page tables and join at long_mode.
 *
 * I1  The first 4 GiB are mapped one to one with 2 MiB pages before long mode; mem_map() adds more.
 * I2  Only instructions that an interpreter of plain integer code knows are used. Interrupts return
 *     by POPF and RET, not by IRET: all code runs in one segment at one privilege level, so the two
 *     are the same, and there is no red zone below the interrupted stack pointer.
 * I3  An application processor takes its stack from ap_stack_top; smp.c starts one at a time.
 */
#define CR0_PE 0x1
#define CR0_WP 0x10000
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define PTE_TABLE 0x3 /* present, writable */
#define PTE_LEAF 0x83 /* present, writable, 2 MiB */

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18

	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18 /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long pvh_entry

	.section .bss
	.align 4096
	.global page_pml4, page_pdpt
page_pml4:
	.skip 4096
page_pdpt:
	.skip 4096
page_pds:
	.skip 4 * 4096
	.align 16
boot_stack:
	.skip 65536
boot_stack_top:
	.global start_info_gpa, ap_stack_top
start_info_gpa:
	.skip 8
ap_stack_top:
	.skip 8

	.section .data
	.align 16
gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 64-bit code */
	.quad 0x00cf93000000ffff /* flat data */
	.quad 0x00cf9b000000ffff /* 32-bit code */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt

	.text
	.code32
	.global pvh_entry
pvh_entry:
	cli
	cld
	movl $boot_stack_top, %esp
	movl %ebx, start_info_gpa

	movl $page_pdpt + PTE_TABLE, page_pml4
	movl $page_pds + PTE_TABLE, %eax
	movl $page_pdpt, %edi
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	decl %ecx
	jnz 1b

	movl $PTE_LEAF, %eax
	movl $page_pds, %edi
	movl $4 * 512, %ecx
2:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	decl %ecx
	jnz 2b

	lgdt gdt_pointer
	call enter_long_mode
	ljmp $SEL_CODE64, $long_mode

/* Turn on paging and long mode (compatibility mode until the next far jump). Clobbers A, C, D. */
enter_long_mode:
	movl %cr4, %eax
	orl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $page_pml4, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $CR0_PG + CR0_WP, %eax
	movl %eax, %cr0
	ret

	.code64
long_mode:
	movl $SEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $boot_stack_top, %esp
	xorl %ebp, %ebp
	call main
stop:
	cli
	hlt
	jmp stop

/*
 * An application processor's first page: real mode, copied to a page below 1 MiB, where CS is its
 * segment.
 */
	.code16
	.global ap_page_start, ap_page_end
ap_page_start:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_page_start
	movl %cr0, %eax
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $ap_protected
	.align 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_page_end:

	.code32
ap_protected:
	movl $SEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl ap_stack_top, %esp
	call enter_long_mode
	ljmp $SEL_CODE64, $ap_long_mode

	.code64
ap_long_mode:
	movq ap_stack_top, %rsp
	xorl %ebp, %ebp
	call smp_ap_main
	jmp stop

/*
 * One entry for each vector, 16 bytes apart. Those without an error code push 0, then all push their
 * number; struct trap_frame (trap.h) is the stack that results.
 */
	.global trap_entries
	.align 16
trap_entries:
	.set vector, 0
	.rept 256
	.align 16
	.if !((vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21))
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

trap_common:
	cld
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	movq %rsp, %rbx
	andq $-16, %rsp
	call trap_dispatch
	movq %rbx, %rsp
	/*
	 * Put RFLAGS and RIP below the interrupted stack pointer (they may overwrite the frame's own
	 * RSP and SS, read before) and leave that address where the error code was.
	 */
	movq 136(%rsp), %rax /* RIP */
	movq 152(%rsp), %rcx /* RFLAGS */
	movq 160(%rsp), %rdx /* RSP */
	subq $16, %rdx
	movq %rcx, (%rdx)
	movq %rax, 8(%rdx)
	movq %rdx, 128(%rsp)
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	movq 8(%rsp), %rsp
	popfq
	ret

	.section .note.GNU-stack, "", @progbits

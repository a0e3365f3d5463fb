# The guest of the accelerator's trial boot (see ../accel.rs), a multiboot image for `qemu -kernel`.
#
# It does what a kernel does in its first milliseconds and what broken virtualisation gets wrong:
# protected mode, long mode with page tables of its own, a timer interrupt that wakes `hlt`, fresh
# memory, CPUID and the time stamp counter. Then it tells isa-debug-exit its answer, so that QEMU
# exits with (0x2a << 1) | 1 = 85. Nothing else makes QEMU exit with that status.
#
# trial.bin is this file assembled; a test does it again and compares:
#   as --64 -o trial.o trial.S && objcopy -O binary -j .text trial.o trial.bin

        .set    BASE, 0x100000          # where the image is loaded
        .set    TABLES, 0x200000        # PML4, PDPT and PD, a page each
        .set    STACK, 0x300000
        .set    FRESH, 0x400000         # memory to be touched, page by page
        .set    FRESH_PAGES, 4096
        .set    TICKS, 10
        .set    ANSWER, 0x2a

        .text
start:
        # The multiboot header, with the addresses of a flat image (bit 16).
        .long   0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
        .long   BASE, BASE, BASE + (end - start), BASE + (end - start), BASE + (entry - start)

        .code32
entry:
        cli
        cld
        movl    $STACK, %esp
        # One gigabyte, identity mapped by 2 MiB pages.
        movl    $TABLES, %edi
        xorl    %eax, %eax
        movl    $(3 * 1024), %ecx
        rep stosl
        movl    $(TABLES + 0x1000 + 3), TABLES
        movl    $(TABLES + 0x2000 + 3), TABLES + 0x1000
        movl    $(TABLES + 0x2000), %edi
        movl    $0x83, %eax             # present, writable, a large page
        movl    $512, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b

        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x20, %eax             # PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       # EFER
        rdmsr
        orl     $0x100, %eax            # LME
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax       # PG, PE
        movl    %eax, %cr0
        lgdt    BASE + (gdtr - start)
        ljmpl   $8, $(BASE + (long_mode - start))

        .code64
long_mode:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        lidt    BASE + (idtr - start)
        # The interrupt controllers: vectors from 0x20, the timer alone unmasked.
        movb    $0x11, %al
        outb    %al, $0x20
        outb    %al, $0xa0
        movb    $0x20, %al
        outb    %al, $0x21
        movb    $0x28, %al
        outb    %al, $0xa1
        movb    $4, %al
        outb    %al, $0x21
        movb    $2, %al
        outb    %al, $0xa1
        movb    $1, %al
        outb    %al, $0x21
        outb    %al, $0xa1
        movb    $0xfe, %al
        outb    %al, $0x21
        movb    $0xff, %al
        outb    %al, $0xa1
        # The timer: 1193182 / 1193 Hz, about a tick a millisecond.
        movb    $0x34, %al
        outb    %al, $0x43
        movb    $(1193 & 0xff), %al
        outb    %al, $0x40
        movb    $(1193 >> 8), %al
        outb    %al, $0x40

        rdtsc
        movl    %eax, %r12d
        movl    %edx, %r13d
        xorl    %ebp, %ebp              # ticks seen
2:      sti
        hlt
        cli
        cmpl    $TICKS, %ebp
        jb      2b

        # Each fresh page keeps what was written to it.
        movl    $FRESH, %edi
        movl    $FRESH_PAGES, %ecx
3:      movq    %rdi, (%rdi)
        addq    $4096, %rdi
        loop    3b
        movl    $FRESH, %edi
        movl    $FRESH_PAGES, %ecx
4:      cmpq    %rdi, (%rdi)
        jne     fail
        addq    $4096, %rdi
        loop    4b

        # The processor names itself, and its clock moved on.
        xorl    %eax, %eax
        cpuid
        testl   %eax, %eax
        jz      fail
        rdtsc
        shlq    $32, %rdx
        movl    %eax, %eax
        orq     %rdx, %rax
        shlq    $32, %r13
        orq     %r13, %r12
        cmpq    %r12, %rax
        jbe     fail

        movb    $ANSWER, %al
        outb    %al, $0xf4
fail:   cli
        hlt
        jmp     fail

tick:
        incl    %ebp
        pushq   %rax
        movb    $0x20, %al
        outb    %al, $0x20
        popq    %rax
        iretq

        .balign 8
gdt:    .quad   0
        .quad   0x00af9a000000ffff      # 64 bit code
        .quad   0x00cf92000000ffff      # data
gdtr:   .word   gdtr - gdt - 1
        .quad   BASE + (gdt - start)
        .balign 8
idt:    .fill   0x40, 8, 0         # the exceptions' gates stay empty: one of them ends the trial
        .word   tick - start, 8         # BASE's low half is zero
        .byte   0, 0x8e
        .word   BASE >> 16
        .long   0, 0
idtr:   .word   idtr - idt - 1
        .quad   BASE + (idt - start)
end:

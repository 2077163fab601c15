// Part of fibers.h: how one stack is left for another, and the CPU's treatment of denormals.
#pragma once

#if defined(__x86_64__)
asm(R"(
.text
.globl __mtl_switch
.hidden __mtl_switch
__mtl_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static u64 *first_frame(u64 *top, void (*entry)()) {
    *--top = 0;  // where entry would return to: it never does
    *--top = (u64)entry;
    return top - 6;
}
static u64 float_mode() { u32 mode; asm volatile("stmxcsr %0" : "=m"(mode)); return mode; }
static void set_float_mode(u64 mode) { u32 low = (u32)mode; asm volatile("ldmxcsr %0" ::"m"(low)); }
static const u64 FLUSH_DENORMALS = 0x8040;
#elif defined(__aarch64__)
asm(R"(
.text
.globl __mtl_switch
.hidden __mtl_switch
__mtl_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
static u64 *first_frame(u64 *top, void (*entry)()) {
    top -= 20;
    top[11] = (u64)entry;  // x30, where the switch returns to
    return top;
}
static u64 float_mode() { u64 mode; asm volatile("mrs %0, fpcr" : "=r"(mode)); return mode; }
static void set_float_mode(u64 mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
static const u64 FLUSH_DENORMALS = 1ul << 24;
#else
#error "refsam.emulator has a fiber switch for x86-64 and aarch64 only"
#endif
